"""The section `compress.finetune` of the config: how a compressed model is trained on.

Read by the pipeline's config; every function of this package takes it as a typed, frozen value.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from transform.settings import Settings


class DistillSettings(Settings):
    """How a small student learns from the float model."""

    width: float = Field(
        0.5, gt=0, lt=1, description="factor on the channels of the teacher's family; 0.5 leaves about a quarter"
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="weight of the labels' loss; the teacher's probabilities get the rest"
    )
    temperature: float = Field(
        4.0, gt=0, le=100, description="softens the teacher's probabilities; 1 leaves them as they are"
    )
    epochs: int | None = Field(
        None, ge=1, le=10_000, description="epochs of the student, which starts anew; none: as many as train's"
    )


class FinetuneSettings(Settings):
    """How a model is trained on while or after it is compressed."""

    epochs: int = Field(
        3, ge=1, le=1_000, description="epochs of each stage; pruning takes more if they are too few steps"
    )
    batch_size: int | None = Field(None, ge=1, le=65_536, description="examples a step; none: as many as train's")
    learning_rate: float = Field(
        0.3, gt=0, le=1, description="peak of the learning rate as a share of train's; a trained model wants less"
    )
    seed: int = Field(7, ge=0, lt=2**31, description="seed of the order of examples and of their augmentation")
    sparsity: float = Field(
        0.7, gt=0, lt=1, description="share of zeros that pruneauto aims at over all kernels it prunes"
    )
    importance: Literal["folded", "l1", "l2", "gamma"] = Field(
        "folded", description="which channels are kept: by norm of the kernel with batch norm folded in, or without"
    )
    float_fallback: bool = Field(
        True, description="run layers that cannot be quantized in float; off refuses models with such layers"
    )
    distill: DistillSettings = Field(DistillSettings(), description="how a small student learns")
