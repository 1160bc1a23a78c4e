"""The settings of a run: what was chosen, and everything."""

from __future__ import annotations

import yaml

from pipeline.config.config import Config
from pipeline.config.fields import plain
from pipeline.report import settings

GIVEN = {
    "name": "pets",
    "data": {"source": "pictures"},
    "transform": {"size": [8, 8], "channels": 1},
    "train": {"epochs": 3},
    "evaluate": {"gates": {"accuracy": {"min": 0.5}}},
}


def test_what_was_chosen_and_nothing_else():
    recorded = plain(Config.model_validate(GIVEN))
    assert dict(settings.chosen(recorded)) == {
        "name": "pets",
        "data.source": "pictures",
        "transform.size": "[8, 8]",
        "transform.channels": "1",
        "train.epochs": "3",
        "evaluate.gates.accuracy.min": "0.5",
    }


def test_the_whole_config_loads_again_and_claims_no_origin():
    text = settings.as_yaml(plain(Config.model_validate(GIVEN)))
    assert Config.model_validate(yaml.safe_load(text)) == Config.model_validate(GIVEN)
    assert "# default" not in text and "where it was set" not in text


def test_settings_of_another_version_are_shown_as_they_are():
    assert settings.chosen({"name": "pets", "no_such_section": {}}) == []
    assert '"no_such_section"' in settings.as_yaml({"name": "pets", "no_such_section": {}})
    assert settings.as_yaml({}) == "" and settings.chosen({}) == []
