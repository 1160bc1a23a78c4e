from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from transform.settings import DataSettings, ImageSettings, Settings, SplitSettings


def test_lists_are_taken_for_tuples_and_nothing_else_is_converted() -> None:
    assert ImageSettings(size=[28, 32]).size == (28, 32)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        ImageSettings(size=["28", 32])  # type: ignore[arg-type,list-item]


def test_optional_tuples_and_lists_keep_apart() -> None:
    class Section(Settings):
        span: tuple[float, float] | None = None
        names: list[str] = Field(default_factory=list)

    section = Section(span=[1, 2], names=["a"])  # type: ignore[arg-type]
    assert section.span == (1.0, 2.0)
    assert section.names == ["a"]


@pytest.mark.parametrize("field", ["sorce", "Source"])
def test_unknown_keys_are_refused(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        DataSettings.model_validate({"source": "digits", field: "x"})


def test_sections_are_frozen() -> None:
    with pytest.raises(ValidationError):
        SplitSettings().seed = 8  # type: ignore[misc]


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ValidationError, match=r"train=0.5, eval=0.1, test=0.1 sum to 0.7"):
        SplitSettings(train=0.5)
    assert SplitSettings(train=0.9, eval=0.1, test=0.0).shares == (0.9, 0.1, 0.0)


def test_size_out_of_range_names_the_range() -> None:
    with pytest.raises(ValidationError, match="1 to 4096 pixels"):
        ImageSettings(size=(0, 4))


@pytest.mark.parametrize("section", [DataSettings, SplitSettings, ImageSettings])
def test_every_field_is_described(section: type[Settings]) -> None:
    assert all(field.description for field in section.model_fields.values())
