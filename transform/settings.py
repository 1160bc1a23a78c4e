"""The sections `data` and `transform` of the config, and the base class of every section.

Read by the ingestion and the preprocessing of this room; the trainer and the pipeline derive their own
sections from `Settings`.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


def _is_tuple(annotation: Any) -> bool:
    """Return whether a field's type is a tuple, or a union that holds one."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_is_tuple(part) for part in typing.get_args(annotation))
    return annotation is tuple or origin is tuple


class Settings(BaseModel):
    """Base of all config sections: frozen, strict in types, unknown keys forbidden.

    Strict means that `"12"` is no number and `1` no boolean (an integer is a valid float). YAML knows no
    tuples, so a list is accepted where a field is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _lists_become_tuples(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, list) and field is not None and _is_tuple(field.annotation):
            return tuple(value)
        return value


class SplitSettings(Settings):
    """How examples are dealt to the splits; shares of a split that the data already gives are ignored."""

    train: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="share of examples to learn from; most of them, since few images are the rule",
    )
    eval: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share on which choices are made (stopping, tuning, gates between models)",
    )
    test: float = Field(0.1, ge=0, lt=1, description="share that nothing sees before the final judgement")
    stratify: bool = Field(True, description="give every class the same shares; off deals all examples as one pot")
    seed: int = Field(7, ge=0, lt=2**63, description="another seed deals other examples to the splits")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> SplitSettings:
        total = self.train + self.eval + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(
                f"the shares train={self.train:g}, eval={self.eval:g}, test={self.test:g} sum to {total:g}; "
                "they must sum to 1"
            )
        return self

    @property
    def shares(self) -> tuple[float, float, float]:
        """The shares in the order of `features.SPLITS`."""
        return (self.train, self.eval, self.test)


class DataSettings(Settings):
    """Where the examples come from and which of them are taken."""

    kind: Literal["image"] = Field("image", description="what one example is")
    source: str = Field(min_length=1, description="a built-in name (digits, fashion_mnist, cifar10), or a folder")
    path: str | None = Field(None, description="folder of a built-in source's files; unset: where they usually are")
    split: SplitSettings = Field(
        default_factory=lambda: SplitSettings.model_validate({}),
        description="how examples are dealt to the splits",
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="keep at most this many examples, chosen per class by content hash; unset: all",
    )
    max_unreadable: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of files that may be unreadable; none, since a silent loss biases the data",
    )
    max_image_bytes: int = Field(
        50_000_000,
        ge=1,
        description="larger files (bytes) count as unreadable; guards the memory of the workers",
    )
    max_pixels: int = Field(
        50_000_000,
        ge=1,
        description="images of more pixels count as unreadable; guards against decompression bombs",
    )
    schema_file: str | None = Field(
        None,
        description="a curated schema (pbtxt) that the data must obey; unset: inferred from the train split",
    )
    statistics_sample: int = Field(
        10_000,
        ge=100,
        description="examples per split behind the statistics; a sample finds what a full pass finds",
    )


class ImageSettings(Settings):
    """What every image is turned into before the model sees it."""

    size: tuple[int, int] = Field(
        description="height and width in pixels; larger images are resized, bilinear without antialiasing"
    )
    channels: Literal[1, 3] = Field(3, description="1 gray, 3 colour; the others are converted")
    normalize: Literal["unit"] = Field("unit", description="unit: values in [0, 1]")

    @field_validator("size")
    @classmethod
    def _size_in_range(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(1 <= side <= 4096 for side in size):
            raise ValueError(f"got {list(size)}; height and width must each be within 1 to 4096 pixels")
        return size
