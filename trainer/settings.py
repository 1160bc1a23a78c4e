"""The sections `model`, `train` and `tune` of the config.

The pipeline reads them from YAML, the Trainer and Tuner components hand them over as plain dictionaries,
and every function of this package takes them as typed, frozen values.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from transform.settings import Settings

Augmentation = Literal["flip", "shift", "random_crop", "rotate", "cutout", "mixup", "cutmix", "brightness"]


class ModelSettings(Settings):
    """Which network is trained, and how large it is."""

    name: str = Field(
        "cnn_small",
        min_length=1,
        description="registered model family; cnn_small (about 100,000 parameters) trains on any laptop",
    )
    width: float = Field(
        1.0,
        gt=0,
        le=8,
        description="factor on the number of channels of every layer; 1 is the family's own size",
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="share of the features dropped before the classifier while training"
    )
    module: str | None = Field(
        None, description="path of a .py file that registers models of your own by @register; none by default"
    )


class TrainSettings(Settings):
    """How the network is fitted."""

    epochs: int = Field(12, ge=1, le=10_000, description="passes over the train split")
    batch_size: int = Field(
        128,
        ge=1,
        le=65_536,
        description="examples a step; 128 keeps two cores busy and still generalizes well",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        "adamw", description="update rule; adamw forgives a badly chosen learning rate"
    )
    learning_rate: float = Field(
        2e-3, gt=0, le=10, description="peak learning rate; suits adam and adamw, sgd wants about 0.1"
    )
    weight_decay: float = Field(
        1e-4,
        ge=0,
        lt=1,
        description="decay of the kernels beside the gradient, times the learning rate; adam has none",
    )
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="course of the learning rate after the warm-up; cosine ends at zero"
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="share of all steps over which the learning rate rises from zero"
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability mass spread over all classes; off, so that log loss stays calibrated",
    )
    augment: tuple[Augmentation, ...] = Field(
        (), description="random changes of the training images, in this order; none by default"
    )
    early_stopping: int | None = Field(
        None, ge=1, description="epochs without a better eval loss before training stops; never by default"
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="momentum of an average of the weights that is evaluated and exported instead",
    )
    seed: int = Field(7, ge=0, lt=2**31, description="seed of weights, shuffling, dropout and augmentation")
    warm_start: bool = Field(
        False,
        description="true: start from the weights of the last blessed model, if it has the same layers and classes; "
        "off, so that a run depends on nothing but config and data",
    )
    warm_epochs: int | None = Field(
        None, ge=1, le=10_000, description="epochs of a warm start, which needs fewer; unset: as many as epochs says"
    )
    warm_learning_rate: float | None = Field(
        None, gt=0, le=10, description="peak learning rate of a warm start, often a tenth; unset: that of learning_rate"
    )
    distribute: Literal["auto", "off", "mirrored", "workers"] = Field(
        "auto",
        description="devices: workers are the processes of TF_CONFIG, mirrored the GPUs of this machine; auto takes "
        "what is there, and one device where there is nothing to choose from",
    )
    distribute_timeout: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="seconds that the processes of TF_CONFIG wait for each other at the start; clouds need minutes",
    )
    cache_mb: int = Field(
        256, ge=0, description="memory for decoded pixels in MB; larger sets are decoded again in each epoch"
    )

    @field_validator("augment")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"names an augmentation twice: {list(value)}; list each at most once")
        return value


class TuneSettings(Settings):
    """The search for hyperparameters before the final training."""

    mode: Literal["off", "reuse", "search"] = Field(
        "off",
        description="off: train as configured; search: try trials first; reuse: take the last search's best",
    )
    oracle: Literal["random", "bayesian", "hyperband"] = Field(
        "bayesian", description="how the next trial is chosen; bayesian needs the fewest trials"
    )
    trials: int = Field(8, ge=1, le=10_000, description="configurations that are tried")
    epochs: int = Field(
        3,
        ge=1,
        le=1_000,
        description="epochs of one trial (for hyperband: of its longest); enough to rank, not to finish",
    )
    learning_rate: tuple[float, float] = Field(
        (3e-4, 1e-2), description="range of learning rates searched, on a logarithmic scale"
    )
    dropout: tuple[float, float] = Field((0.0, 0.5), description="range of dropout shares searched")
    weight_decay: tuple[float, float] = Field(
        (1e-5, 1e-2),
        description="range of weight decays searched, on a logarithmic scale; not searched for adam",
    )
    batch_size: tuple[int, ...] = Field((), description="batch sizes searched; none: the train section's")
    width: tuple[float, ...] = Field((), description="width factors searched; none: the model section's")
    seed: int = Field(7, ge=0, lt=2**31, description="seed of the oracle and of every trial")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> TuneSettings:
        bounds = {"learning_rate": (0, 10), "dropout": (0, 0.99), "weight_decay": (0, 1)}
        for name, (lowest, highest) in bounds.items():
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest or (low == 0 and name != "dropout"):
                above = "from" if name == "dropout" else "above"
                raise ValueError(
                    f"{name} is [{low}, {high}]; expected [min, max] with min <= max, {above} {lowest} up to {highest}"
                )
        if any(size < 1 for size in self.batch_size) or any(not 0 < width <= 8 for width in self.width):
            raise ValueError("batch_size wants sizes of at least 1, width factors above 0 and at most 8")
        return self


def uneven_batches(batch_size: int, devices: int) -> str | None:
    """Say why the examples of a step can't be dealt to devices, None if they can.

    Args:
        batch_size: `train.batch_size`.
        devices: number of devices of all processes together.
    """
    if batch_size % devices == 0:
        return None
    lower = batch_size // devices * devices
    fitting = f"{lower} or {lower + devices}" if lower else str(devices)
    return (
        f"train.batch_size is {batch_size}, which {devices} devices can't share evenly; expected a multiple of "
        f"{devices}, such as {fitting}"
    )
