"""The README of a bundle.

Comes in: the card. Goes out: Markdown for a mobile developer who has never heard of Slipway. Called by
`serving.edge.bundle`.
"""

from __future__ import annotations

from serving.edge.card import FileCard, ModelCard, TensorCard


def render(card: ModelCard) -> str:
    """Markdown text."""
    image = card.image
    color = "gray" if image.channels == 1 else "RGB"
    rows = [
        f"| `{file.path}` | {', '.join(file.targets)} | {file.size:,} "
        f"| {_tensor(file.input)} | {_tensor(file.output)} |"
        for file in card.files
    ]
    parts = [
        f"# {card.name} {card.version}\n\n{card.description}",
        f"{len(card.labels)} classes: {', '.join(card.labels[:20])}{' …' if len(card.labels) > 20 else ''}.",
        "| file | for | bytes | input | output |\n|---|---|---|---|---|\n" + "\n".join(rows),
        "## From an image to a label\n\n"
        f"1. Bring the image to {image.width} x {image.height} pixels, {color} ({image.resize}).\n"
        f"2. {' '.join(_fill(file, card) for file in card.files)}\n"
        f"3. Call the signature `{card.files[0].signature}`. {' '.join(_read(file) for file in card.files)}\n"
        "4. The probabilities stand in the order of `labels.txt`.",
        "`examples/` does this in Kotlin, Swift, C++ and Python. The same labels and the normalization are in the "
        "`.tflite` files as TFLite metadata.",
        "## Check it\n\n"
        "- `sha256sum -c SHA256SUMS` proves that every file is as it was built.\n"
        "- `python -m serving.edge verify FOLDER` of the package `tfx-slipway` compares everything with everything, "
        "and runs the models if an interpreter such as `ai-edge-litert` is installed.\n"
        f"- On the device: `samples/expected.json` holds the probabilities that each file has to give for each image "
        f"in `samples/`. Allow for a difference of {_tolerances(card)}: kernels of other processors round differently.",
        _personalization(card),
        f"## What it is for\n\n{card.intended_use}",
        "## What it is not for\n\n" + "\n".join(f"- {limit}" for limit in card.limits) if card.limits else "",
        f"## Data\n\n{card.data}",
        "Accuracy, size and speed of every variant stand in `model_card.json` under `results`; a row's `variant` is "
        "that of a file under `files`.",
        f"License: {card.license}.{f' Author: {card.author}.' if card.author else ''}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tensor(tensor: TensorCard) -> str:
    shape = ", ".join("any" if size < 0 else str(size) for size in tensor.shape)
    quantized = "" if tensor.scale is None else f", scale {tensor.scale:.6g}, zero point {tensor.zero_point}"
    return f"`{tensor.name}` {tensor.dtype} [{shape}]{quantized}"


def _fill(file: FileCard, card: ModelCard) -> str:
    if file.input.dtype == "float32":
        mean, std = (", ".join(f"{number:g}" for number in numbers) for numbers in (card.image.mean, card.image.std))
        return f"`{file.path}` takes float32: (pixel - {mean}) / {std}."
    return f"`{file.path}` takes the pixels 0..255 as they are."


def _read(file: FileCard) -> str:
    if file.output.dtype == "float32":
        return f"`{file.path}` gives probabilities."
    return f"`{file.path}` gives {file.output.dtype}: probability = scale * (number - zero point)."


def _tolerances(card: ModelCard) -> str:
    return ", ".join(f"{file.tolerance:g} (`{file.path}`)" for file in card.files)


def _personalization(card: ModelCard) -> str:
    if card.personalization is None:
        return ""
    rows = [
        f"- `{name}({', '.join(sides['inputs'])})` gives {', '.join(f'`{output}`' for output in sides['outputs'])}"
        for name, sides in card.personalization.signatures.items()
    ]
    return (
        f"## Training on the device\n\n`{card.personalization.path}` learns from the user's own images; only its last "
        "layer changes. Call `train` with a batch of images [N, height, width, channels] in [0, 1], their class "
        "numbers and a learning rate such as 0.01, until the loss stops falling; keep what `save` gives in the app's "
        "storage and hand it to `restore` at the next start. The standard runtime is enough.\n\n" + "\n".join(rows)
    )
