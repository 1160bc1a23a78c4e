"""What a loaded model of any form looks like to its callers, and how pixels become its input.

Implemented by `serving.forms.tflite`, `.saved_model`, `.onnxruntime` and `.openvino`; used by everything that
measures a variant.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from serving.errors import ServingError


class LoadedForm(Protocol):
    """A classifier, ready to answer.

    Attributes:
        input_dtype: uint8 for raw pixels, float32 for values in [0, 1].
    """

    input_dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Height, width and channels of an image; None for any size."""
        ...

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Classify a batch.

        Args:
            images: [N, H, W, C] of `input_dtype`; N may differ from call to call.

        Returns:
            Probabilities, float32 [N, K], dequantized where the form is quantized.

        Raises:
            ServingError: Shape or dtype does not fit, or the runtime failed.
        """
        ...

    def close(self) -> None:
        """Free the model; closing twice is allowed."""
        ...


def pixels_for(model: LoadedForm, pixels: np.ndarray) -> np.ndarray:
    """Turn raw pixels into what a model takes.

    Args:
        model: The loaded model.
        pixels: uint8 [N, H, W, C].

    Returns:
        The same pixels for a model with uint8 input, else float32 in [0, 1].

    Raises:
        ServingError: The pixels are not uint8.
    """
    if pixels.dtype != np.uint8:
        raise ServingError(f"received pixels of {pixels.dtype}; expected uint8 in 0..255.")
    if model.input_dtype == np.uint8:
        return pixels
    return pixels.astype(np.float32) / np.float32(255)


def check_batch(name: str, images: np.ndarray, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> None:
    """Check a batch before a runtime sees it; runtimes crash or answer nonsense on the wrong one.

    Args:
        name: What is called, for the message.
        images: The batch.
        dtype: Expected dtype.
        shape: Expected H, W, C; None for any size.

    Raises:
        ServingError: Another dtype, rank or size, or no image at all.
    """
    sizes = ", ".join("?" if size is None else str(size) for size in shape)
    expected = f"expected {dtype.name} [N, {sizes}] with N of 1 or more"
    if not isinstance(images, np.ndarray):
        raise ServingError(f"{name}: received {type(images).__name__}; {expected}.")
    fits = images.ndim == len(shape) + 1 and all(
        want is None or want == have for want, have in zip(shape, images.shape[1:], strict=True)
    )
    if images.dtype != dtype or not fits or not len(images):
        raise ServingError(f"{name}: received {images.dtype} {list(images.shape)}; {expected}.")
