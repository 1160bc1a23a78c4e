"""Local prediction with a published or exported classifier.

Comes in: a model directory and encoded images, in memory or as files. Goes out: one `Prediction` an image.
Called by `slipway predict`. An image that cannot be read gets its own error; its neighbours get their
answers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from serving import manifest as manifests
from serving.errors import ManifestError, ModelLoadError, RunError, ServingError

if TYPE_CHECKING:
    import numpy as np

    from serving.saved_model import SessionModel

_SIGNATURE = "serving_default"
_INPUT = "image_bytes"
# Status codes that tell about the image: INVALID_ARGUMENT, RESOURCE_EXHAUSTED, OUT_OF_RANGE, UNIMPLEMENTED,
# INTERNAL.
_IMAGE_FAULTS = frozenset({3, 8, 11, 12, 13})
_BATCH_BYTES = 64 * 1024 * 1024  # A batch of large files is sent early, so that memory stays bounded.


@dataclass(frozen=True)
class Prediction:
    """Answer for one image.

    Attributes:
        class_id: Index of the most probable class; None if the image failed, as are label and probability.
        label: Its name.
        probability: Its probability.
        top: The most probable classes as (label, probability), best first.
        error: Why there is no answer, in words; None if there is one.
    """

    class_id: int | None = None
    label: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None


class Classifier:
    """A loaded image classifier.

    Example:
        >>> with Classifier.open("served/3") as classifier:
        ...     classifier.predict([Path("cat.png").read_bytes()])[0].label
    """

    def __init__(self, model: SessionModel, labels: Sequence[str]) -> None:
        """Use `Classifier.open`."""
        self._model = model
        self.labels = tuple(labels)

    @classmethod
    def open(cls, model_dir: str | os.PathLike[str], *, threads: int = 0) -> Classifier:
        """Load a classifier.

        Args:
            model_dir: A version directory, whose files are verified against its manifest first, or an
                exported SavedModel without a manifest.
            threads: Threads to use; 0 leaves the choice to TensorFlow.

        Returns:
            The classifier; close it, or use it as a context manager.

        Raises:
            ManifestError: The published files are not what was published.
            ModelLoadError: The directory holds no SavedModel that loads, or one that takes no encoded images.
        """
        path = Path(model_dir)
        labels = _verified_labels(path)
        from serving.saved_model import SessionModel

        model = SessionModel.load(path, intra_op_threads=threads, inter_op_threads=threads)
        signature = model.signatures.get(_SIGNATURE)
        expected = {"probabilities", "class_id", "label"}
        if signature is None or set(signature.inputs) != {_INPUT} or not expected <= set(signature.outputs):
            model.close()
            raise ModelLoadError(
                f"{path} is no image classifier: expected a signature {_SIGNATURE!r} from {_INPUT!r} to "
                f"{', '.join(sorted(expected))}; it has {', '.join(model.signatures) or 'no signatures'}."
            )
        return cls(model, labels)

    def predict(self, images: Sequence[bytes], *, top: int = 3, batch_size: int = 32) -> list[Prediction]:
        """Classify encoded images.

        Args:
            images: PNG, JPEG, GIF or BMP files as bytes.
            top: How many classes to list in `Prediction.top`.
            batch_size: Images a call of the model.

        Returns:
            One prediction an image, in order. An image that cannot be decoded has `error` set.

        Raises:
            RunError: The model itself fails, whatever the image.
            ServingError: `top` or `batch_size` is less than 1.
        """
        _at_least_one(top=top, batch_size=batch_size)
        predictions = []
        for start in range(0, len(images), batch_size):
            predictions += self._predict_batch(images[start : start + batch_size], top)
        return predictions

    def predict_paths(
        self,
        paths: Iterable[str | os.PathLike[str]],
        batch_size: int = 32,
        *,
        top: int = 3,
        max_bytes: int = 50_000_000,
    ) -> Iterator[tuple[Path, Prediction]]:
        """Classify image files, reading no more than one batch ahead.

        Args:
            paths: The files, in any number; a generator is consumed as needed.
            batch_size: Images a call of the model.
            top: How many classes to list in `Prediction.top`.
            max_bytes: Largest file that is read, in bytes.

        Yields:
            Each path with its prediction, in order. A file that is missing, too large or no regular file has
            `error` set.

        Raises:
            RunError: The model itself fails, whatever the image.
            ServingError: `top` or `batch_size` is less than 1.
        """
        _at_least_one(top=top, batch_size=batch_size)
        batch: list[tuple[Path, bytes | Prediction]] = []
        size = 0
        for path in map(Path, paths):
            content = _read_image(path, max_bytes)
            batch.append((path, content))
            size += len(content) if isinstance(content, bytes) else 0
            if len(batch) >= batch_size or size >= _BATCH_BYTES:
                yield from self._answers(batch, top)
                batch, size = [], 0
        yield from self._answers(batch, top)

    def _answers(self, batch: Sequence[tuple[Path, bytes | Prediction]], top: int) -> list[tuple[Path, Prediction]]:
        images = [content for _, content in batch if isinstance(content, bytes)]
        answers = iter(self._predict_batch(images, top))
        return [(path, next(answers) if isinstance(content, bytes) else content) for path, content in batch]

    def _predict_batch(self, images: Sequence[bytes], top: int) -> list[Prediction]:
        if not images:
            return []
        import numpy as np

        try:
            outputs = self._model.run(_SIGNATURE, {_INPUT: np.array(list(images), dtype=object)})
        except RunError as error:
            if error.code not in _IMAGE_FAULTS:
                raise
            if len(images) == 1:
                return [Prediction(error=str(error).partition(" failed: ")[2] or str(error))]
            return [prediction for image in images for prediction in self._predict_batch([image], top)]
        rows = zip(outputs["class_id"], outputs["label"], outputs["probabilities"], strict=True)
        return [self._prediction(int(class_id), label, row, top) for class_id, label, row in rows]

    def _prediction(self, class_id: int, label: bytes, probabilities: np.ndarray, top: int) -> Prediction:
        order = (-probabilities).argsort(kind="stable")[:top]
        best = tuple((self._label(int(index)), float(probabilities[index])) for index in order)
        return Prediction(class_id, label.decode("utf-8", "replace"), float(probabilities[class_id]), best)

    def _label(self, index: int) -> str:
        return self.labels[index] if index < len(self.labels) else str(index)

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def __enter__(self) -> Classifier:
        """Give the classifier itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the model."""
        self.close()


def _verified_labels(path: Path) -> tuple[str, ...]:
    """Labels of a model; a published one is verified file by file before any of it is loaded."""
    if os.path.lexists(path / manifests.MANIFEST_FILE):
        manifest = manifests.read(path)
        if problems := manifests.verify(path, manifest):
            raise ManifestError(f"{path} is not what was published: {'; '.join(problems)}. Use another version.")
        if manifest.labels:
            return manifest.labels
    file = path / "assets.extra" / "labels.txt"
    try:
        return tuple(file.read_text("utf-8").splitlines()) if file.is_file() else ()
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{file} cannot be read: {error}. Expected one label per line, UTF-8.") from error


def _read_image(path: Path, max_bytes: int) -> bytes | Prediction:
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            return Prediction(error="is a directory" if stat.S_ISDIR(state.st_mode) else "is no regular file")
        if state.st_size > max_bytes:
            return Prediction(error=f"has {state.st_size:,} bytes; at most {max_bytes:,} are read")
        if state.st_size == 0:
            return Prediction(error="is empty")
        return path.read_bytes()
    except OSError as error:
        return Prediction(error=f"cannot be read: {error.strerror}")


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ServingError(f"{name} is {value}; expected 1 or more.")
