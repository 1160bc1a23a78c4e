"""What the parts of a bundle say about each other.

Comes in: a `BundleFolder` and its card. Goes out: problems, one sentence each. Called by `serving.edge.verify`.
"""

from __future__ import annotations

from serving.edge import samples
from serving.edge.card import CARD_FILE, FileCard, ModelCard, PersonalizationCard, TensorCard
from serving.edge.folder import BundleFolder
from serving.edge.metadata import LABELS_FILE, labels_text, read_metadata
from serving.edge.tflite_file import read_tflite
from serving.errors import BundleError

_SCALE_TOLERANCE = 0.005
README_FILE = "README.md"
EXAMPLES = (
    "examples/cpp/classify.cc",
    "examples/kotlin/Classifier.kt",
    "examples/python/classify.py",
    "examples/swift/Classifier.swift",
)


def labels(folder: BundleFolder, card: ModelCard) -> list[str]:
    """Whether `labels.txt` holds the labels of the card."""
    if folder.text(LABELS_FILE) == labels_text(card.labels):
        return []
    return [f"{LABELS_FILE} does not hold the labels of {CARD_FILE}, one a line, in its order"]


def documents(folder: BundleFolder) -> list[str]:
    """Whether README and examples are there."""
    return [f"{path} is missing" for path in (README_FILE, *EXAMPLES) if path not in folder.entries]


def unknown_models(folder: BundleFolder, card: ModelCard) -> list[str]:
    """Whether there are model files of which the card says nothing."""
    known = {file.path for file in card.files} | ({card.personalization.path} if card.personalization else set())
    models = [path for path in folder.entries if path.endswith(".tflite")]
    return [f"{path} is not in {CARD_FILE}" for path in models if path not in known]


def model(folder: BundleFolder, card: ModelCard, file: FileCard) -> list[str]:
    """Whether a model file is the one of the card, and says about itself what the card says."""
    data = folder.content(file.path)
    entry = folder.entries[file.path]
    problems = []
    if (entry.size, entry.sha256) != (file.size, file.sha256):
        problems.append(f"size or SHA-256 is not that of {CARD_FILE}")
    try:
        problems += _check_structure(data, card, file)
    except BundleError as error:
        problems.append(str(error))
    return [f"{file.path}: {problem}" for problem in problems]


def _check_structure(data: bytes, card: ModelCard, file: FileCard) -> list[str]:
    model = read_tflite(data)
    problems = []
    if model.custom_operations:
        problems.append(f"it needs operations that the standard runtime lacks: {', '.join(model.custom_operations)}")
    signature = model.signatures.get(file.signature)
    if signature is None:
        return [*problems, f"it has the signatures {sorted(model.signatures)}, but no {file.signature!r}"]
    sides = (("input", file.input, signature.inputs), ("output", file.output, signature.outputs))
    for side, promised, tensors in sides:
        is_so = [TensorCard.of(tensor) for tensor in tensors.values()]
        if is_so != [promised]:
            problems.append(f"the {side} is {is_so}, but the card says {promised}")
    problems += _check_pixels(file.input)
    image = (card.image.height, card.image.width, card.image.channels)
    if file.input.shape[1:] != image or file.output.shape[-1:] != (len(card.labels),):
        problems.append(f"it does not take images of {image} or give {len(card.labels)} probabilities")
    description = read_metadata(data)
    if description is None:
        return [*problems, "it has no TFLite metadata"]
    if description.labels != card.labels:
        problems.append(f"the labels in its metadata are not those of {CARD_FILE}")
    normalization = (card.image.channels, card.image.mean, card.image.std)
    if (description.channels, description.mean, description.std) != normalization:
        problems.append(f"channels, mean or std in its metadata are not those of {CARD_FILE}, {normalization}")
    return problems


def _check_pixels(tensor: TensorCard) -> list[str]:
    """Whether raw pixels, or pixels / 255 for floats, are what goes in."""
    if tensor.dtype == "float32":
        return []
    # The calibration decides on the scale, so that the last digits differ.
    if tensor.zero_point == 0 and tensor.scale is not None and abs(255 * tensor.scale - 1) < _SCALE_TOLERANCE:
        return []
    return [
        f"its input has scale {tensor.scale} and zero point {tensor.zero_point}, so that raw pixels cannot go in; "
        "expected 1/255 and 0: calibrate with images that hold both black and white"
    ]


def personalization(folder: BundleFolder, card: PersonalizationCard) -> list[str]:
    """Whether the file that learns on the device is the one of the card."""
    if PersonalizationCard.of(folder.content(card.path)) != card:
        return [f"{card.path} is not what {CARD_FILE} says"]
    return []


def sample_images(folder: BundleFolder, card: ModelCard) -> list[str]:
    """Whether every sample has an image and an answer of each file."""
    expected = folder.expected()
    names = {f"{samples.FOLDER}/{sample.image}" for sample in expected.samples}
    present = {
        path for path in folder.entries if path.startswith(f"{samples.FOLDER}/") and path != samples.EXPECTED_FILE
    }
    problems = [f"{path} is missing" for path in sorted(names - present)]
    problems += [f"{path} has no expected answer" for path in sorted(present - names)]
    paths = {file.path for file in card.files}
    for sample in expected.samples:
        if sample.label is not None and sample.label not in card.labels:
            problems.append(f"{sample.image} shows {sample.label!r}, which is no label")
        if set(sample.answers) != paths:
            problems.append(f"{sample.image} has answers of {sorted(sample.answers)}, expected {sorted(paths)}")
        for path, answer in sample.answers.items():
            if len(answer) != len(card.labels) or not all(-0.01 <= number <= 1.01 for number in answer):
                problems.append(
                    f"the answer of {path} to {sample.image} is no list of {len(card.labels)} probabilities"
                )
    return problems
