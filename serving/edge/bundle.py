"""Builds the bundle that a mobile team drops into an app.

Comes in: certified `.tflite` files, labels, sample images and what people should know. Goes out: a folder that
describes, proves and explains itself; `serving.edge.verify` checks it again anywhere. Called by the EdgePusher
of the pipeline and by `slipway export`.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving import manifest as manifests
from serving.edge import readme, samples
from serving.edge.answers import collect, find_runtime
from serving.edge.card import CARD_FILE, Cell, FileCard, ImageCard, ModelCard, PersonalizationCard, TensorCard
from serving.edge.content_checks import EXAMPLES, README_FILE
from serving.edge.metadata import LABELS_FILE, Description, attach_metadata, labels_text
from serving.edge.tflite_file import SignatureInfo, read_tflite
from serving.edge.verify import SUMS_FILE, verify_bundle
from serving.errors import BundleError
from serving.publish import installed_version

if TYPE_CHECKING:
    import numpy as np

# Kernels of other processors round differently: a step or two of 1/256 each, and 16-bit floats on a GPU.
_TOLERANCES: Mapping[str, float] = {"float32": 0.01, "uint8": 0.04}
_SIGNATURE = "predict(image) -> probabilities"
_EXAMPLES_FROM = Path(__file__).parent / "examples"


@dataclass(frozen=True)
class BundleFile:
    """One model file to put in.

    Attributes:
        source: The `.tflite` file as it was certified, without metadata.
        name: Name in the bundle, such as `model_int8.tflite`.
        variant: Name of the variant in the results table.
        targets: What it is meant for, such as `cpu`, `nnapi` or `gpu`.
        tolerance: How far a probability may lie from the expected one on another device; by default 0.01, and
            0.04 for files with quantized output.
    """

    source: Path
    name: str
    variant: str
    targets: tuple[str, ...]
    tolerance: float | None = None


@dataclass(frozen=True)
class SampleImage:
    """One image to put in: pixels uint8 [H, W, C] in the size of the model, and the label, if it is known."""

    pixels: np.ndarray
    label: str | None = None


@dataclass(frozen=True)
class BundleContents:
    """Everything that goes into a bundle.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        description: What it does, in a sentence or two.
        labels: Names of the classes in the order of the output.
        files: The model files.
        samples: Images to prove that a device gives the right answers.
        intended_use: What the model is for.
        limits: What it is not for, and where it is known to fail.
        data: What it was trained and measured on.
        license: License of the model.
        author: Who made it.
        results: Rows of the table of variants.
        personalization: A `.tflite` file to train further on the device (`serving.edge.personalize`).
    """

    name: str
    version: str
    description: str
    labels: tuple[str, ...]
    files: tuple[BundleFile, ...]
    samples: tuple[SampleImage, ...]
    intended_use: str
    limits: tuple[str, ...]
    data: str
    license: str
    author: str = ""
    results: tuple[Mapping[str, Cell], ...] = ()
    personalization: Path | None = None


def build_bundle(
    out_dir: str | os.PathLike[str],
    contents: BundleContents,
    *,
    runtime: str = "auto",
    timeout_seconds: float = 300,
) -> Path:
    """Build a bundle.

    Args:
        out_dir: Folder to make; it must not exist, or be empty. It appears when the bundle is complete.
        contents: What goes in.
        runtime: Interpreter that gives the expected answers: `ai_edge_litert`, `tflite_runtime`, `tensorflow`, or
            `auto` for the first that is installed.
        timeout_seconds: How long the files may run on the samples.

    Returns:
        The folder, verified.

    Raises:
        BundleError: A file is no classifier with one image input, files, labels and samples do not belong
            together, no interpreter is installed, or a file does not run.
    """
    target = Path(out_dir)
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target} exists already; give a folder that is new or empty.")
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _fill(building, contents, runtime, timeout_seconds)
        failed = [finding for finding in verify_bundle(building, runtime="none") if finding.status == "failed"]
        if failed:
            raise BundleError(f"the bundle would not hold what it promises: {'; '.join(map(str, failed))}")
        building.chmod(0o755)
        os.rename(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _fill(folder: Path, contents: BundleContents, runtime: str, timeout_seconds: float) -> None:
    found = find_runtime(runtime)
    if found is None:
        raise BundleError(
            "no interpreter of .tflite files is installed, so the expected answers are unknown; "
            "install ai-edge-litert or tensorflow."
        )
    card = _write_models(folder, contents)
    (folder / LABELS_FILE).write_text(labels_text(contents.labels), encoding="utf-8")
    (folder / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    _write_samples(folder, card, contents.samples, found, timeout_seconds)
    for name in EXAMPLES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_EXAMPLES_FROM / Path(name).relative_to("examples"), folder / name)
    (folder / README_FILE).write_text(readme.render(card), encoding="utf-8")
    entries = manifests.describe_files(folder)
    sums = "".join(f"{entry.sha256}  {entry.path}\n" for entry in entries)
    (folder / SUMS_FILE).write_text(sums, encoding="utf-8")


def _write_models(folder: Path, contents: BundleContents) -> ModelCard:
    """Write the model files with their metadata; give the card."""
    image: ImageCard | None = None
    cards = []
    for file in contents.files:
        data = _read(file.source)
        try:
            signature = _classifier(data)
            (taken,), (given,) = signature.inputs.values(), signature.outputs.values()
            image = _same_image(image, taken.shape, given.shape, contents)
            described = attach_metadata(data, _description(contents, image, taken.name, given.name))
            cards.append(_file_card(file, data, described, signature))
        except BundleError as error:
            raise BundleError(f"{file.source} ({file.variant}): {error}") from error
        (folder / file.name).write_bytes(described)
    if image is None:
        raise BundleError("there is no model file; give at least one variant that passed.")
    personalization = None
    if contents.personalization is not None:
        data = _read(contents.personalization)
        personalization = PersonalizationCard.of(data)
        (folder / personalization.path).write_bytes(data)
    return ModelCard(
        name=contents.name,
        version=contents.version,
        description=contents.description,
        files=tuple(cards),
        image=image,
        labels=contents.labels,
        intended_use=contents.intended_use,
        limits=contents.limits,
        data=contents.data,
        license=contents.license,
        author=contents.author,
        results=tuple({name: _cell(name, value) for name, value in row.items()} for row in contents.results),
        personalization=personalization,
        slipway_version=installed_version(),
    )


def _cell(name: str, value: object) -> Cell:
    """A value of the results table as JSON can hold it; numbers that are not finite become null."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    raise BundleError(f"the result {name!r} is {value!r}; expected a text, a number, a truth value or None.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; expected a .tflite file.") from error


def _classifier(data: bytes) -> SignatureInfo:
    """The one signature of a file, by the names that the examples use."""
    signatures = list(read_tflite(data).signatures.values())
    shown = [f"{s.key}({', '.join(s.inputs)}) -> {', '.join(s.outputs)}" for s in signatures]
    if shown != [_SIGNATURE]:
        raise BundleError(f"it has the signatures {shown}; expected {_SIGNATURE!r} alone.")
    return signatures[0]


def _same_image(
    before: ImageCard | None, taken: tuple[int, ...], given: tuple[int, ...], contents: BundleContents
) -> ImageCard:
    if len(taken) != 4 or min(taken[1:]) < 1 or taken[3] not in (1, 3):
        raise BundleError(f"its input has the shape {taken}; expected [batch, height, width, 1 or 3].")
    if len(given) != 2 or given[1] != len(contents.labels):
        raise BundleError(f"its output has the shape {given}, but there are {len(contents.labels)} labels.")
    image = ImageCard(*taken[1:])
    if before is not None and image != before:
        raise BundleError(f"it takes images of {taken[1:]}, a file before it others; expected the same for all files.")
    return image


def _description(contents: BundleContents, image: ImageCard, taken: str, given: str) -> Description:
    return Description(
        name=contents.name,
        labels=contents.labels,
        channels=image.channels,
        description=contents.description,
        version=contents.version,
        author=contents.author,
        license=contents.license,
        mean=image.mean,
        std=image.std,
        input_name=taken,
        output_name=given,
    )


def _file_card(file: BundleFile, measured: bytes, described: bytes, signature: SignatureInfo) -> FileCard:
    (taken,), (given,) = signature.inputs.values(), signature.outputs.values()
    tolerance = _TOLERANCES.get(given.dtype, 0.0) if file.tolerance is None else file.tolerance
    return FileCard(
        path=file.name,
        variant=file.variant,
        targets=file.targets,
        size=len(described),
        sha256=hashlib.sha256(described).hexdigest(),
        measured_sha256=hashlib.sha256(measured).hexdigest(),
        signature=signature.key,
        input=TensorCard.of(taken),
        output=TensorCard.of(given),
        tolerance=tolerance,
    )


def _write_samples(
    folder: Path, card: ModelCard, images: Sequence[SampleImage], runtime: str, timeout_seconds: float
) -> None:
    """Write the images, run every file on them, and write down what it gave."""
    import numpy as np

    (folder / samples.FOLDER).mkdir()
    size = (card.image.height, card.image.width, card.image.channels)
    names = [f"{number:03}.png" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        if image.pixels.dtype != np.uint8 or image.pixels.shape != size:
            raise BundleError(f"a sample has {image.pixels.dtype} pixels {image.pixels.shape}; expected uint8 {size}.")
        samples.write_png(image.pixels, folder / samples.FOLDER / name)
    answers = collect(folder, card, names, runtime, timeout_seconds)
    for path, answer in answers.items():
        if answer.probabilities is None:
            raise BundleError(f"{path} does not run on the samples: {answer.problem}")
    expected = samples.Expected(
        samples=tuple(
            samples.Sample(
                image=name,
                label=image.label,
                answers={path: tuple((answer.probabilities or [])[row]) for path, answer in answers.items()},
            )
            for row, (name, image) in enumerate(zip(names, images, strict=True))
        ),
        runtime=runtime,
    )
    (folder / samples.EXPECTED_FILE).write_text(expected.to_json(), encoding="utf-8")
