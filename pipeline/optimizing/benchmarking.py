"""Measuring models against each other outside of a pipeline run: any files, or again the forms of the last run.

Comes in: paths of models and a source of images. Goes out: a results table. Called by `slipway benchmark`.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ConfigError
from pipeline.locating import find_workdir, serving_base
from pipeline.optimizing.labeled import TEST, read_images
from pipeline.optimizing.variants import REFERENCE, parse_variant
from pipeline.records import records
from serving.certify.pareto import front
from serving.certify.table import Row, row_of
from serving.convert.forms import FORMS
from serving.errors import ServingError
from serving.forms.inspection import form_of, input_shape
from serving.forms.loading import load_form
from serving.measure.images import ImageBatches
from serving.measure.latency import LatencySettings
from serving.measure.quality import predict_all
from serving.measure.running import measure

LABELS = Path("assets.extra", "labels.txt")


class NamedModel(NamedTuple):
    """A model to measure."""

    name: str
    form: str
    path: Path
    technique: str = ""


@dataclass(frozen=True)
class Benchmark:
    """What was measured."""

    rows: list[Row]
    about: dict[str, Any]
    """The machine and the images."""
    title: str

    @property
    def front(self) -> list[str]:
        """Names of the models on the Pareto front."""
        return front(self.rows)


def named_models(paths: Sequence[Path]) -> list[NamedModel]:
    """Give each file or directory a name of its own.

    Raises:
        ServingError: one of them does not exist, or is of no kind that could be a model.
    """
    found: list[NamedModel] = []
    for path in paths:
        base = _plain(_name_of(path))
        taken = {model.name for model in found}
        names = (base if number == 1 else f"{base}.{number}" for number in itertools.count(1))
        found.append(NamedModel(next(name for name in names if name not in taken), _form_of(path), path.resolve()))
    return found


def _name_of(path: Path) -> str:
    """Return what tells a model from others: of a published version also the folder, of `x/model.tflite` only that."""
    if path.stem == "model":
        return path.parent.name or path.stem
    found = path.resolve()
    return f"{found.parent.name}-{found.name}" if found.name.isdecimal() else found.stem


def _form_of(path: Path) -> str:
    """Return the form of a model; a damaged file gets one too, and its reason when it is measured."""
    try:
        return form_of(path)
    except ServingError:
        if path.is_file() and path.suffix == ".tflite":
            return "tflite_float32"
        raise


def models_of_run(config: Path | None, workdir: Path | None) -> list[NamedModel]:
    """Return the forms that the last run made, the published SavedModel first.

    Raises:
        ConfigError: no run has made any.
    """
    place = find_workdir(config, workdir)
    for record in records(place.records):
        stage = next((stage for stage in record.stages if stage.id == "Optimizer"), None)
        if stage is None:
            continue
        variants = [Path(output) for output in stage.outputs if Path(output).parent.parent.name == "variants"]
        models = [_of_folder(folder) for folder in variants if folder.is_dir()]
        if models:
            from serving.publish import served

            version = served(serving_base(place))
            if version is not None:
                return [NamedModel(REFERENCE, REFERENCE, version.path), *models]
    raise ConfigError(
        f"no run in {place.root} has made forms that are still there; `slipway optimize` makes some, or name models"
    )


def _of_folder(folder: Path) -> NamedModel:
    variant = parse_variant(folder.name)
    file = FORMS[variant.form].file_name
    technique = variant.technique.name if variant.technique else ""
    return NamedModel(variant.name, variant.form, folder / file if file else folder, technique)


def benchmark(models: Sequence[NamedModel], data: str | None, count: int, seed: int, rounds: int) -> Benchmark:
    """Measure models; the first is what the others are compared with.

    Args:
        models: what to measure.
        data: a source of labeled images; None: random images, for which the first model's answers count as right.
        count: how many images at most.
        seed: draws them.
        rounds: interleaved rounds of the time measurement.
    """
    reference = models[0]
    shape = input_shape(reference.form, reference.path)
    labels = _labels(reference)
    if data is None:
        images = _random_images(reference, shape, min(count, 512), seed)
        title = f"{images.size:,} random images: accuracy is agreement with {reference.name}; name images by --data"
    else:
        images = read_images(data, shape, count, seed, TEST, labels)
        title = f"{images.size:,} images of {data}"
    with tempfile.TemporaryDirectory(prefix="slipway-benchmark-") as folder:
        file = images.save(Path(folder, "images.npz"))
        measured = measure(
            {model.name: (model.form, model.path) for model in models},
            reference.name,
            file,
            file,
            latency=LatencySettings(rounds=rounds, seed=seed),
        )
    rows = [
        row_of(measured[model.name], model.technique, FORMS[model.form].runtime, classes=labels or ())
        for model in models
    ]
    about = {
        "machine": measured[reference.name].environment,
        "images": {"source": data or "random", "count": images.size},
    }
    return Benchmark(rows, about, title)


def _random_images(reference: NamedModel, shape: tuple[int, int, int], count: int, seed: int) -> ImageBatches:
    """Return random images, labeled by the model's own answers."""
    import numpy as np

    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
    images = ImageBatches.of_arrays(pixels, np.zeros(count, np.int64))
    model = load_form(reference.form, reference.path)
    try:
        answers = predict_all(model, images)
    finally:
        model.close()
    return ImageBatches.of_arrays(pixels, answers.argmax(axis=1))


def _labels(model: NamedModel) -> list[str] | None:
    """Return the class names that a SavedModel of ours carries."""
    file = model.path / LABELS
    if not file.is_file():
        return None
    return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _plain(name: str) -> str:
    """Return a name of letters, digits, `_`, `-` and `.` that begins with a letter or digit."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-.") else "_" for letter in name)
    return kept.lstrip("_-.") or "model"
