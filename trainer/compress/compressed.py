"""What every technique returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True)
class Compressed:
    """A compressed model.

    Attributes:
        model: image float32 [N, H, W, C] in [0, 1] to logits float32 [N, K], without wrappers of pruning or
            clustering; with those of quantization if it is aware of it.
        quantization_aware: whether the model simulates int8 and must be converted to it.
        details: JSON-able facts: what each stage did, its history, the sparsity of each layer, parameters.
    """

    model: tf_keras.Model
    quantization_aware: bool
    details: dict[str, Any]
