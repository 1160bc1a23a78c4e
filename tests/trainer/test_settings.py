"""The sections `model`, `train` and `tune`: strict, frozen and explained."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainer.settings import ModelSettings, TrainSettings, TuneSettings


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (ModelSettings, {"width": 0}),
        (ModelSettings, {"dropout": 1.0}),
        (ModelSettings, {"depth": 3}),
        (TrainSettings, {"epochs": 0}),
        (TrainSettings, {"epochs": "12"}),
        (TrainSettings, {"learning_rate": -0.1}),
        (TrainSettings, {"optimizer": "lion"}),
        (TrainSettings, {"augment": ["blur"]}),
        (TrainSettings, {"augment": ["flip", "flip"]}),
        (TrainSettings, {"ema": 1.0}),
        (TuneSettings, {"trials": 0}),
        (TuneSettings, {"learning_rate": [0.1]}),
    ],
)
def test_wrong_values_are_refused(section: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        section.model_validate(values)


@pytest.mark.parametrize("section", [ModelSettings, TrainSettings, TuneSettings])
def test_every_field_is_explained_and_has_a_default(section: Any) -> None:
    section()
    for name, field in section.model_fields.items():
        assert field.description, name


def test_sections_survive_json_and_do_not_change() -> None:
    settings = TrainSettings(augment=("flip", "cutout"), ema=0.99)
    assert TrainSettings.model_validate(settings.model_dump(mode="json")) == settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.epochs = 3  # type: ignore[misc]
