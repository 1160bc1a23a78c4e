"""Builds the folder that a deployment takes: one certified form per target, with all that is needed to run it.

Comes in: forms as they were measured, labels, sample images and what people should know. Goes out:

    forms.json          what is in it
    labels.txt          one class a line
    README.md
    samples/            images, and the probabilities that each form gives for them
    server_cpu/         the model, its card.json, labels.txt, model.py and classify.py
    server_gpu/         the same, of a form with TensorRT engines

Called by the FormPusher of the pipeline.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from serving import manifest as manifests
from serving.convert.forms import FORMS
from serving.delivery import readme
from serving.delivery.card import CARD_FILE, FormCard, ModelFile, QuantizationCard, RuntimeCard, TensorCard
from serving.delivery.folder import INDEX_FILE, README_FILE, Entry, Index, check_folder
from serving.edge import samples
from serving.edge.card import Cell
from serving.edge.metadata import LABELS_FILE, labels_text
from serving.errors import BundleError, ServingError
from serving.forms.loading import load_form, pixels_for
from serving.measure.size import files_of, measure_size
from serving.publish import installed_version

if TYPE_CHECKING:
    import numpy as np

    from serving.edge.bundle import SampleImage

ServerTarget = Literal["server_cpu", "server_gpu"]

PACKAGES: Mapping[str, str] = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tftrt": "tensorflow"}
"""The Python package that runs a form, by the form's runtime."""

_SAVED_MODEL = "serving/1"  # So that a model server takes the folder above it as its base path.
_EXAMPLES = Path(__file__).parent / "examples"
_REQUIRES: Mapping[str, str] = {
    "openvino_bfloat16": "a CPU with bfloat16 instructions (AVX512-BF16 or AMX)",
    "tftrt": "the model of GPU and the version of TensorRT with which the engines were built",
}
_INTEGERS = "8-bit integers inside; input and output are floats"


@dataclass(frozen=True)
class ServerForm:
    """One form that passed its gate and was picked.

    Attributes:
        target: What it was picked for.
        reason: Why.
        variant: Name of the variant.
        form: Name of the form.
        source: The file or directory that was measured.
        measured_sha256: Its checksum in the results table.
        runtime_version: Version of the runtime that it was measured with.
        results: Its row of the results table.
        calibration_images: How many images set the ranges of its integers; None if none did.
        calibration_seed: Seed that drew them.
    """

    target: ServerTarget
    reason: str
    variant: str
    form: str
    source: Path
    measured_sha256: str
    runtime_version: str
    results: Mapping[str, Cell]
    calibration_images: int | None = None
    calibration_seed: int | None = None


@dataclass(frozen=True)
class Delivery:
    """Everything that goes into the folder.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        description: What it does.
        labels: Names of the classes in the order of the output.
        forms: One form per target.
        samples: Images to prove that a server gives the right answers.
        intended_use: What the model is for.
        limits: What it is not for, and where it is known to fail.
        data: What it was trained and measured on.
        license: License of the model.
        author: Who made it.
    """

    name: str
    version: str
    description: str
    labels: tuple[str, ...]
    forms: tuple[ServerForm, ...]
    samples: tuple[SampleImage, ...]
    intended_use: str
    limits: tuple[str, ...]
    data: str
    license: str
    author: str = ""


def build_delivery(out_dir: str | os.PathLike[str], delivery: Delivery) -> Path:
    """Build the folder.

    Args:
        out_dir: Folder to make; it must not exist. It appears when it is complete.
        delivery: What goes in.

    Returns:
        The folder.

    Raises:
        BundleError: There is no form, a form is not the one that was measured, or form, labels and samples do not
            belong together.
        ServingError: A form does not load or run.
    """
    target = Path(out_dir)
    if os.path.lexists(target):
        raise BundleError(f"{target} exists already; give a folder that is new.")
    targets = [form.target for form in delivery.forms]
    if not targets or len(set(targets)) != len(targets):
        raise BundleError(f"the forms are for {targets}; expected one form or more, each for a target of its own.")
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _fill(building, delivery)
        check_folder(building)
        building.chmod(0o755)
        os.rename(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _fill(folder: Path, delivery: Delivery) -> None:
    cards: list[FormCard] = []
    answers: dict[str, np.ndarray] = {}
    for form in delivery.forms:
        card, answers[form.target] = _write_form(folder / form.target, form, delivery)
        cards.append(card)
    entries = tuple(Entry(card.target, card.target, card.variant, card.form, card.runtime.name) for card in cards)
    (folder / INDEX_FILE).write_text(Index(delivery.name, delivery.version, entries).to_json(), encoding="utf-8")
    (folder / LABELS_FILE).write_text(labels_text(delivery.labels), encoding="utf-8")
    (folder / README_FILE).write_text(readme.render(cards), encoding="utf-8")
    _write_samples(folder, delivery, answers)


def _write_form(folder: Path, form: ServerForm, delivery: Delivery) -> tuple[FormCard, np.ndarray]:
    """Write the folder of one form; give its card and its answers to the samples."""
    size = measure_size(form.source)
    if size.sha256 != form.measured_sha256:
        raise BundleError(
            f"{form.source} has the SHA-256 {size.sha256}, but {form.variant} was measured with "
            f"{form.measured_sha256}; measure it again before it ships."
        )
    prefix = _SAVED_MODEL if form.source.is_dir() else ""
    for name, path in files_of(form.source):
        place = folder / prefix / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    files = tuple(ModelFile(entry.path, entry.size, entry.sha256) for entry in manifests.describe_files(folder))
    shape, answers = _answers(form, delivery)
    runtime = FORMS[form.form].runtime
    card = _card(form, delivery, prefix or FORMS[form.form].file_name, files, shape)
    (folder / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    (folder / LABELS_FILE).write_text(labels_text(delivery.labels), encoding="utf-8")
    shutil.copyfile(_EXAMPLES / "classify.py", folder / "classify.py")
    shutil.copyfile(_EXAMPLES / f"{runtime}_model.py", folder / "model.py")
    return card, answers


def _answers(form: ServerForm, delivery: Delivery) -> tuple[tuple[int, ...], np.ndarray]:
    """The image size that a form takes, and its probabilities for the samples, float32 [N, K]."""
    import numpy as np

    model = load_form(form.form, form.source)
    try:
        shape = tuple(int(size or -1) for size in model.shape)
        wrong = next((sample for sample in delivery.samples if sample.pixels.shape != shape), None)
        if wrong is not None or not delivery.samples:
            found = "there are none" if wrong is None else f"one has {list(wrong.pixels.shape)}"
            raise BundleError(f"{form.variant} takes images of {list(shape)}; of the samples {found}.")
        if model.input_dtype != np.float32:
            raise BundleError(f"{form.variant} takes {model.input_dtype.name}; expected float32 of a form for servers.")
        answers = model.predict(pixels_for(model, np.stack([sample.pixels for sample in delivery.samples])))
    finally:
        model.close()
    if answers.shape[1] != len(delivery.labels):
        raise BundleError(f"{form.variant} tells {answers.shape[1]} classes apart; there are {len(delivery.labels)}.")
    return shape, answers


def _card(
    form: ServerForm, delivery: Delivery, load: str, files: tuple[ModelFile, ...], shape: tuple[int, ...]
) -> FormCard:
    runtime = FORMS[form.form].runtime
    if runtime not in PACKAGES:
        raise ServingError(f"{form.form} is run by {runtime}; expected a form for servers.")
    return FormCard(
        name=delivery.name,
        version=delivery.version,
        description=delivery.description,
        target=form.target,
        reason=form.reason,
        variant=form.variant,
        form=form.form,
        runtime=RuntimeCard(
            cast(Literal["onnxruntime", "openvino", "tftrt"], runtime),
            PACKAGES[runtime],
            form.runtime_version,
            _REQUIRES.get(form.form, _REQUIRES.get(runtime, "")),
        ),
        load=load,
        files=files,
        measured_sha256=form.measured_sha256,
        input=TensorCard("image", "float32", (-1, *shape), "pixels divided by 255, from 0 to 1"),
        output=TensorCard("probabilities", "float32", (-1, len(delivery.labels)), "the probability of each class"),
        quantization=_quantization(form),
        labels=delivery.labels,
        results=form.results,
        intended_use=delivery.intended_use,
        limits=delivery.limits,
        data=delivery.data,
        license=delivery.license,
        author=delivery.author,
        slipway_version=installed_version(),
    )


def _quantization(form: ServerForm) -> QuantizationCard:
    kind = form.form.partition("_")[2]
    if kind == "int8":
        return QuantizationCard("int8", _INTEGERS, form.calibration_images, form.calibration_seed)
    if kind == "bfloat16":
        return QuantizationCard("bfloat16", "weights in 32-bit floats, calculation in bfloat16")
    if kind == "fp16":
        return QuantizationCard("float16", "calculation in 16-bit floats")
    return QuantizationCard("none", "32-bit floats")


def _write_samples(folder: Path, delivery: Delivery, answers: Mapping[str, np.ndarray]) -> None:
    (folder / samples.FOLDER).mkdir()
    listed = []
    for row, sample in enumerate(delivery.samples):
        name = f"{row:03}.png"
        samples.write_png(sample.pixels, folder / samples.FOLDER / name)
        given = {target: tuple(map(float, found[row])) for target, found in answers.items()}
        listed.append(samples.Sample(name, sample.label, given))
    runtimes = sorted({f"{PACKAGES[FORMS[form.form].runtime]} {form.runtime_version}" for form in delivery.forms})
    expected = samples.Expected(tuple(listed), ", ".join(runtimes))
    (folder / samples.EXPECTED_FILE).write_text(expected.to_json(), encoding="utf-8")
