"""The ready-made configs: one for every built-in data set, each loads, and editors find their schema."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from pipeline.config.loading import load
from pipeline.config.show import json_schema, schema_text
from pipeline.initialize import config_text, inspect_folder
from transform.sources import source_names

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SETS = sorted(set(source_names()) - {"folder"})  # a folder is anybody's own; `slipway init` writes its config
SCHEMA = Draft202012Validator(json_schema())


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("source", SETS)
def test_every_built_in_set_has_a_config_that_loads(source: str):
    config = load(ROOT / "configs" / f"{source}.yaml").config
    assert config.data.source == source
    assert config.evaluate.gates
    assert config.compress.variants


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_config_is_commented_and_points_editors_to_the_schema(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    hint = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", lines[0])
    assert hint is not None
    assert (path.parent / hint[1]).resolve() == ROOT / "pipeline" / "config" / "schema.json"
    assert sum(line.lstrip().startswith("#") for line in lines) > 3
    load(path)


def test_what_init_writes_points_editors_to_the_schema_from_anywhere(tmp_path: Path, shapes: Path):
    facts = inspect_folder(shapes)
    for file in (ROOT / "configs" / "mine" / "shapes.yaml", tmp_path / "shapes.yaml"):
        first = config_text(facts, file).splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (file.parent / first.partition("$schema=")[2]).resolve() == ROOT / "pipeline" / "config" / "schema.json"


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_what_loads_is_valid_by_the_schema(path: Path):
    tree = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    assert [error.message for error in SCHEMA.iter_errors(tree)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"trian": {}},
        {"train": {"epoch": 3}},
        {"train": {"epochs": 0}},
        {"train": {"optimizer": "adamm"}},
        {"evaluate": {"gates": {"acuracy": {"min": 0.5}}}},
        {"transform": {"size": [16]}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_loader_refuses(change: dict):
    right = {"name": "p", "data": {"source": "digits"}, "transform": {"size": [16, 16]}}
    assert SCHEMA.is_valid(right)
    assert not SCHEMA.is_valid({**right, **change})


def test_the_committed_schema_is_that_of_the_config():
    committed = (ROOT / "pipeline" / "config" / "schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(), "renew it: slipway config schema --out pipeline/config/schema.json"
