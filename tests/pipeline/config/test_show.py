"""The effective config: it loads back, explains every value and says where it was set."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import Config, json_schema, load, render_yaml, to_json
from pipeline.config.fields import plain, section_type
from pipeline.config.show import yaml_value
from pipeline.config.yaml_tree import parse

Write = Callable[[str], Path]


def fields_of(model: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str | None]]:
    """Return path and description of every field below a section."""
    found: list[tuple[tuple[str, ...], str | None]] = []
    for name, field in model.model_fields.items():
        found.append(((*path, name), field.description))
        inner = section_type(field.annotation)
        if inner is not None:
            found += fields_of(inner, (*path, name))
    return found


def within_nothing(config: Any, path: tuple[str, ...]) -> bool:
    """Return whether a path leads into a section that isn't there, such as `vertex.schedule`."""
    for name in path[:-1]:
        config = getattr(config, name)
        if config is None:
            return True
    return False


def test_every_field_has_one_line_of_help() -> None:
    missing = [path for path, text in fields_of(Config) if not text or "\n" in text]
    assert not missing


def test_every_field_stands_in_the_text_with_its_help(minimal: Path) -> None:
    config = load(minimal).config
    text = render_yaml(config)
    lines = parse(text).lines
    rows = text.splitlines()
    shown = [(path, help_line) for path, help_line in fields_of(Config) if not within_nothing(config, path)]
    assert len(shown) > 100
    for path, help_line in shown:
        assert rows[lines[path] - 2].strip() == f"# {help_line}"


def test_origins_are_marked(write: Write) -> None:
    file = write("name: demo\ndata: {source: digits}\ntransform:\n  size: [8, 8]\ntrain:\n  epochs: 3\n")
    loaded = load(file, ["train.seed=9", "transform.size.0=16"])
    text = render_yaml(loaded.config, loaded.positions)
    assert _origin(text, ("train", "epochs")) == "line 6"
    assert _origin(text, ("train", "seed")) == "--set train.seed=9"
    assert _origin(text, ("train", "batch_size")) == "default"
    assert _origin(text, ("transform", "size")) == "--set transform.size.0=16"


def test_a_gate_is_shown_with_all_its_bounds(minimal: Path) -> None:
    loaded = load(minimal, ["evaluate.gates.accuracy={min: 0.5}"])
    text = render_yaml(loaded.config, loaded.positions)
    assert parse(text).value["evaluate"]["gates"]["accuracy"]["max_drop_vs_baseline"] is None
    assert _origin(text, ("evaluate", "gates", "accuracy", "min")) == "--set evaluate.gates.accuracy={min: 0.5}"


def test_an_override_cannot_smuggle_a_line_into_the_comments(minimal: Path) -> None:
    loaded = load(minimal, ['data.path="/a\\nb"\n'])
    file = minimal.parent / "shown.yaml"
    file.write_text(render_yaml(loaded.config, loaded.positions), encoding="utf-8")
    assert load(file).config == loaded.config


def _origin(text: str, path: tuple[str, ...]) -> str:
    return text.splitlines()[parse(text).lines[path] - 1].rpartition("  # ")[2]


words = st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=63),
    "data.path": st.none() | words.map(lambda text: "/" + text),
    "data.limit": st.none() | st.integers(1, 10**12),
    "data.max_unreadable": st.floats(0, 1),
    "data.split.stratify": st.booleans(),
    "data.split": st.sampled_from([{"train": 0.5, "eval": 0.25, "test": 0.25}, {"train": 0.7, "eval": 0.2}]),
    "transform.size": st.lists(st.integers(1, 4096), min_size=2, max_size=2),
    "transform.channels": st.sampled_from([1, 3]),
    "model.name": words,
    "model.width": st.floats(0, 8, exclude_min=True),
    "train.learning_rate": st.floats(0, 10, exclude_min=True),
    "train.augment": st.lists(st.sampled_from(["flip", "shift", "cutout"]), unique=True),
    "train.ema": st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
    "tune.mode": st.sampled_from(["off", "reuse", "search"]),
    "tune.dropout": st.tuples(st.floats(0, 0.4), st.floats(0.4, 0.99)).map(list),
    "evaluate.gates": st.dictionaries(
        st.sampled_from(["accuracy", "auc", "macro_f1"]), st.fixed_dictionaries({"min": st.floats(0, 1)})
    ),
    "evaluate.gates.log_loss.max": st.floats(0, 1e6),
    "evaluate.slices": st.sampled_from([[], ["label"]]),
    "push.keep": st.none() | st.integers(1, 100),
    "push.serving": st.from_regex(r"[a-z][a-z 0-9]{0,8}(/[a-zé]{1,4})?", fullmatch=True),
    "bulk_infer.enabled": st.booleans(),
}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.fixed_dictionaries({}, optional=VALUES))
def test_any_subset_of_overrides_survives_being_shown(minimal: Path, chosen: dict[str, Any]) -> None:
    overrides = [f"{path}={yaml_value(value)}" for path, value in sorted(chosen.items())]
    loaded = load(minimal, overrides)
    for path, value in chosen.items():
        if not isinstance(value, dict):
            found = plain(loaded.config)
            for part in path.split("."):
                found = found[part]
            assert found == (os.path.abspath(value) if path == "data.path" and value else value)
    shown = minimal.parent / "shown.yaml"
    shown.write_text(render_yaml(loaded.config, loaded.positions), encoding="utf-8")
    assert load(shown).config == loaded.config
    assert Config.model_validate(json.loads(to_json(loaded.config))) == loaded.config


leaves = st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False), st.text())


@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_yaml_value_is_read_back_as_the_same_value(value: Any) -> None:
    text = yaml_value(value)
    assert "\n" not in text
    tree = parse(text if not isinstance(value, str) else f"[{text}]")
    assert tree.value == ([value] if isinstance(value, str) else value) and not tree.problems


@pytest.mark.parametrize("value", ["off", "yes", "12", "1e5", "null", "a: b", "#", "", "- x", "2026-01-01", "é", "~"])
def test_older_readers_of_yaml_get_the_same_text(value: str) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(yaml_value([value, 1e-5])) == [value, 1e-5]


def test_json_holds_every_default(minimal: Path) -> None:
    shown = json.loads(to_json(load(minimal).config))
    assert list(shown)[:3] == ["name", "data", "transform"]
    assert shown["push"] == {"serving": "served", "edge": "edge", "forms": "forms", "keep": None}


def test_the_schema_describes_the_sections() -> None:
    schema = json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["required"]) == {"name", "data", "transform"}
    assert schema["$defs"]["TrainSettings"]["additionalProperties"] is False
    assert json.loads(json.dumps(schema)) == schema
