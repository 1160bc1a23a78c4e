"""SavedModel with TensorRT engines, built for the GPU of this machine.

Comes in: a `Conversion` of the form `tftrt_fp32`, `tftrt_fp16` or `tftrt_int8`. Goes out: a SavedModel with the
signature `predict` and the engines in its assets, for TensorFlow Serving on the same model of GPU and the same
TensorRT. Called by the worker process. Without GPU or TensorRT the form is skipped, but not without the coverage.

Options: `batch_sizes` ([1, 32]), for which engines are built and which the batching of the server should use;
`minimum_segment_size` (3); `coverage` (true), whether to find out the coverage where no engine can be built.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert import calibration, source
from serving.convert.job import Conversion
from serving.convert.scores import probe_images
from serving.convert.source import INPUT, SIGNATURE, Source
from serving.convert.tftrt_probe import tftrt_status
from serving.convert.tftrt_segments import MINIMUM_SEGMENT_SIZE, check_settings, coverage_of, segments
from serving.errors import ConversionError, ServingError, UnavailableError

_OUTPUT = "probabilities"
_ENGINES = "trt-serialized-engine.*"
_REPORT = "TF_TRT_SHOW_DETAILED_REPORT"
_CALIBRATION_BATCH = 32


class NoEngines(UnavailableError):
    """Engines cannot be built here.

    Attributes:
        details: For the outcome: what was found out all the same.
    """

    def __init__(self, message: str, details: dict[str, Any]) -> None:
        """Keep the details beside the message."""
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class TrtSettings:
    """How to convert.

    Attributes:
        precision: `FP32`, `FP16` or `INT8`.
        minimum_segment_size: Fewest nodes that are worth an engine.
        batch_sizes: Batch sizes to build engines for.
    """

    precision: str
    minimum_segment_size: int = MINIMUM_SEGMENT_SIZE
    batch_sizes: tuple[int, ...] = (1, 32)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConversionError: One of them makes no sense.
        """
        check_settings(self.precision, self.minimum_segment_size)
        sizes = self.batch_sizes
        if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ConversionError(f"`batch_sizes` is {list(sizes)}; expected numbers of 1 or more.")

    @property
    def calibrated(self) -> bool:
        """Whether the conversion needs representative images."""
        return self.precision == "INT8"

    @classmethod
    def of(cls, job: Conversion) -> TrtSettings:
        """Read the settings of a job from its form and its options."""
        sizes = job.options.get("batch_sizes", cls.batch_sizes)
        if not isinstance(sizes, (list, tuple)):
            raise ConversionError(f"`batch_sizes` is {sizes!r}; expected a list of numbers.")
        return cls(
            precision=job.form.removeprefix("tftrt_").upper(),
            minimum_segment_size=job.options.get("minimum_segment_size", MINIMUM_SEGMENT_SIZE),
            batch_sizes=tuple(sizes),
        )


def convert(job: Conversion) -> dict[str, Any]:
    """Convert a SavedModel and build its engines.

    Args:
        job: What to convert and where to; with representative images for `tftrt_int8`.

    Returns:
        Details: `coverage`, `precision`, `batch_sizes`, `engine_bytes`, `max_abs_difference` of the probabilities to
        the source's, the representative images and their seed, and what `open_source` tells.

    Raises:
        NoEngines: No GPU or no fitting TensorRT; its details hold `tftrt_status` and, where it could be found out,
            the `coverage`.
        ConversionError: The model cannot be converted, or no engine was built.
    """
    settings = TrtSettings.of(job)
    status, reason = tftrt_status()
    if status != "ok":
        raise NoEngines(f"{status}: {reason}", {"tftrt_status": status, "coverage": _coverage(job, settings)})
    model = source.open_source(job.saved_model, job.signature, job.options)
    sample = calibration.read(job, model.shape) if settings.calibrated else None
    with tempfile.TemporaryDirectory(prefix="source-") as scratch, _detailed_report(Path(scratch)) as report:
        trt = converter(source.save(model, Path(scratch) / "model"), settings)
        details = build(trt, model, settings, sample, report, job.out_dir)
    return {**model.details, **(sample.details if sample else {}), **details}


def converter(saved_model: Path, settings: TrtSettings) -> Any:
    """TensorFlow's converter for the signature `predict` of a SavedModel.

    Args:
        saved_model: The SavedModel.
        settings: How to convert.

    Returns:
        `TrtGraphConverterV2`, not yet run.
    """
    from tensorflow.python.compiler.tensorrt import trt_convert

    return trt_convert.TrtGraphConverterV2(
        input_saved_model_dir=str(saved_model),
        input_saved_model_signature_key=SIGNATURE,
        precision_mode=settings.precision,
        minimum_segment_size=settings.minimum_segment_size,
        maximum_cached_engines=len(settings.batch_sizes),
        use_calibration=settings.calibrated,
        use_dynamic_shape=True,
        # One profile for each batch size that is built, and each of them at its fastest.
        dynamic_shape_profile_strategy="Optimal",
        # A server that meets another batch size runs TensorFlow's own operations instead of building for minutes.
        allow_build_at_runtime=False,
    )


def build(
    trt: Any,
    model: Source,
    settings: TrtSettings,
    sample: calibration.Calibration | None,
    report: Path,
    out_dir: Path,
) -> dict[str, Any]:
    """Convert, calibrate, build and save.

    Args:
        trt: The converter.
        model: The classifier.
        settings: How to convert.
        sample: Representative images, if the precision needs them.
        report: Where TensorFlow writes why an operation stays outside.
        out_dir: Where the SavedModel goes.

    Returns:
        Details of the outcome.

    Raises:
        ConversionError: Nothing of the model fits into an engine, or no engine was built.
    """
    function = trt.convert((lambda: calibration_feeds(sample)) if sample else None)
    coverage = coverage_of(function.graph.as_graph_def(), report)
    if not coverage.engines:
        raise ConversionError(
            f"nothing in the model can run in an engine of {settings.minimum_segment_size} or more nodes; unsupported: "
            f"{', '.join(coverage.unsupported) or 'nothing'}."
        )
    trt.build(lambda: shape_feeds(model.shape, settings.batch_sizes))
    trt.save(str(out_dir))
    engines = [file.stat().st_size for file in (out_dir / "assets").glob(_ENGINES)]
    if not all(engines) or not engines:
        raise ConversionError("TensorRT built no engine; the log of the conversion says why.")
    return {
        "precision": settings.precision,
        "batch_sizes": list(settings.batch_sizes),
        "coverage": coverage.to_dict(),
        "engine_bytes": sum(engines),
        "max_abs_difference": _parity(out_dir, model),
    }


def calibration_feeds(sample: calibration.Calibration) -> Iterator[dict[str, Any]]:
    """Yield the representative images in batches of one size, as the calibrator demands; a rest is left out."""
    import tensorflow as tf

    size = min(_CALIBRATION_BATCH, len(sample.pixels))
    for start in range(0, len(sample.pixels) - size + 1, size):
        yield {INPUT: tf.constant(_floats(sample.pixels[start : start + size]))}


def shape_feeds(shape: tuple[int, int, int], batch_sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Yield one batch for each size that an engine is built for; only the shapes matter."""
    import tensorflow as tf

    for size in batch_sizes:
        yield {INPUT: tf.constant(_floats(np.resize(probe_images(shape), (size, *shape))))}


def _parity(directory: Path, model: Source) -> float:
    import tensorflow as tf

    images = tf.constant(_floats(probe_images(model.shape)[:1]))
    answers = tf.saved_model.load(str(directory)).signatures[SIGNATURE](image=images)[_OUTPUT].numpy()
    return float(np.abs(answers - model.function(images)[_OUTPUT].numpy()).max())


def _coverage(job: Conversion, settings: TrtSettings) -> dict[str, Any]:
    """The coverage as plain data, or why it is unknown."""
    if not job.options.get("coverage", True):
        return {"unknown": "not asked for"}
    known = {name: job.options[name] for name in ("output", "scores") if name in job.options}
    try:
        return segments(
            job.saved_model,
            settings.precision,
            settings.minimum_segment_size,
            signature=job.signature,
            options=known,
        ).to_dict()
    except ServingError as error:
        return {"unknown": str(error)}


@contextlib.contextmanager
def _detailed_report(scratch: Path) -> Iterator[Path]:
    """Let TensorFlow write why operations stay outside of engines; it reads the name from the environment."""
    before = os.environ.get(_REPORT)
    os.environ[_REPORT] = str(scratch / "report.csv")
    try:
        yield scratch / "report.csv"
    finally:
        if before is None:
            del os.environ[_REPORT]
        else:
            os.environ[_REPORT] = before


def _floats(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)
