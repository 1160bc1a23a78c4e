"""The sections `data` and `transform` of the config, and the base class of every section.

Read by the ingestion and the preprocessing of this room; the trainer and the pipeline derive their own
sections from `Settings`.
"""

from __future__ import annotations

import re
import types
import typing
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)


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


if TYPE_CHECKING:
    _Bounds = Settings
else:
    # `from` is a word of Python's, so the two fields can't stand in a class body.
    _Bounds = create_model(
        "_Bounds",
        __base__=Settings,
        **{
            "from": (int | None, Field(None, ge=0, description="first span that may be taken; unset: the oldest")),
            "to": (int | None, Field(None, ge=0, description="last span that may be taken; unset: the newest")),
        },
    )


class SpanSettings(_Bounds):
    """Which spans are taken where `data.source` holds `{SPAN}`; of each the newest version."""

    window: int | Literal["all"] = Field(
        "all", description="how many of the newest spans are taken, or all: the data grows with every span"
    )
    marker: str | None = Field(
        None,
        description="file, such as _SUCCESS, without which a span's folder is incomplete and not taken; unset: none",
    )
    labels: Literal["same", "union"] = Field(
        "same", description="same: every span has the same classes, else an error; union: a span may lack some"
    )
    only: tuple[str, ...] = Field(
        (),
        description="exactly these spans, SPAN or SPAN/VERSION as text; window, from and to then don't count. A run "
        "notes here what it found",
    )

    @property
    def lowest(self) -> int | None:
        """The value of `from`."""
        return self._bound("from")

    @property
    def highest(self) -> int | None:
        """The value of `to`."""
        return self._bound("to")

    def _bound(self, name: str) -> int | None:
        """Return a field that the type checker does not know."""
        bound: int | None = getattr(self, name)
        return bound

    @field_validator("window")
    @classmethod
    def _at_least_one_span(cls, window: int | str) -> int | str:
        if isinstance(window, int) and window < 1:
            raise ValueError(f"received {window}; expected 1 or more spans, or all")
        return window

    @field_validator("marker")
    @classmethod
    def _is_a_file_name(cls, marker: str | None) -> str | None:
        if marker is not None and (not marker or "/" in marker or marker in (".", "..") or "\0" in marker):
            raise ValueError(f"received {marker!r}; expected the name of a file in the span's folder, such as _SUCCESS")
        return marker

    @field_validator("only")
    @classmethod
    def _names_spans(cls, only: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [text for text in only if not re.fullmatch(r"[0-9]{1,18}(/[0-9]{1,18})?", text)]
        if wrong:
            raise ValueError(f"received {wrong[0]!r}; expected SPAN or SPAN/VERSION, such as '3' or '3/2'")
        return only

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> SpanSettings:
        if self.lowest is not None and self.highest is not None and self.lowest > self.highest:
            raise ValueError(f"from is {self.lowest} and to is {self.highest}; expected from <= to")
        return self

    def holds(self, number: int) -> bool:
        """Return whether a span lies between `from` and `to`."""
        return (self.lowest is None or number >= self.lowest) and (self.highest is None or number <= self.highest)

    def in_words(self) -> str:
        """Return the bounds as a clause."""
        bounds = (("from", self.lowest), ("up to", self.highest))
        return " ".join(f"{word} {bound}" for word, bound in bounds if bound is not None)


_BRACES = re.compile(r"\{([^{}/]*)\}")
_WIDTH = r"(:[1-9]\d?)?"


def span_pattern_problem(source: str) -> str | None:
    """Return what is wrong with the placeholders of `data.source`, or None.

    Args:
        source: a built-in name, a folder, or a pattern with `{SPAN}` and perhaps `{VERSION}`.
    """
    names = [name for name in _BRACES.findall(source) if re.match("(?i)(span|version|yyyy|mm|dd)(:|$)", name)]
    expected = "expected {SPAN}, and {VERSION} at most once, such as data/span-{SPAN}/v{VERSION}"
    for name in names:
        if not re.fullmatch(f"(SPAN|VERSION){_WIDTH}", name):
            return f"the pattern {source!r} holds {{{name}}}; {expected}"
    kinds = [name.partition(":")[0] for name in names]
    if kinds and (kinds.count("SPAN") != 1 or kinds.count("VERSION") > 1):
        return f"the pattern {source!r} holds {{SPAN}} {kinds.count('SPAN')} times; {expected}"
    if re.search(r"\{(SPAN|VERSION)\}\{", source):
        return f"the pattern {source!r} has nothing between two placeholders; {expected}"
    return None


class DataSettings(Settings):
    """Where the examples come from and which of them are taken."""

    kind: Literal["image"] = Field("image", description="what one example is")
    source: str = Field(
        min_length=1,
        description="a built-in name (digits, fashion_mnist, cifar10), a folder, or a pattern of folders with {SPAN} "
        "and {VERSION}",
    )
    path: str | None = Field(None, description="folder of a built-in source's files; unset: where they usually are")
    split: SplitSettings = Field(
        default_factory=lambda: SplitSettings.model_validate({}),
        description="how examples are dealt to the splits",
    )
    spans: SpanSettings = Field(
        default_factory=lambda: SpanSettings.model_validate({}),
        description="which spans are taken where source holds {SPAN}; by itself all, of each the newest version",
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

    @field_validator("source")
    @classmethod
    def _is_a_usable_pattern(cls, source: str) -> str:
        if problem := span_pattern_problem(source):
            raise ValueError(problem)
        return source

    @model_validator(mode="after")
    def _spans_need_a_pattern(self) -> DataSettings:
        if "{SPAN" not in self.source and self.spans != SpanSettings.model_validate({}):
            raise ValueError(
                f"spans chooses spans, but source is {self.source!r}; write a pattern such as data/span-{{SPAN}}, "
                "or remove spans"
            )
        return self


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
