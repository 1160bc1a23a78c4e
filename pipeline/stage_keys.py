"""What each stage depends on besides its input artifacts: code, its part of the config, the data's content.

Comes in: the config. Goes out: one JSON text per stage, which enters the component as its `fingerprint`, so that
TFX's cache sees these things and nothing else. The runner compares two such texts to say why a stage runs again.
Nothing here imports TensorFlow.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.config.config import Config
from pipeline.fingerprint import changed_modules, code_hashes, modules_of
from transform.sources.registry import build_source
from transform.sources.stat_cache import StatCache

_NOT_OF_THE_EXAMPLES = {"schema_file", "statistics_sample", "source", "path", "spans"}
"""Keys of `data` that ExampleGen doesn't read, or whose meaning is the content that the fingerprint covers."""

_PROCESSES = ("serving.convert", "serving.forms", "serving.measure")
"""Packages whose modules the stage Optimizer runs in processes of their own, and imports by computed names."""

_LIBRARIES = ("tensorflow", "tf-keras", "tensorflow-transform", "tfx", "keras-tuner")


@dataclass(frozen=True)
class StageKey:
    """What a stage depends on."""

    code: dict[str, str]
    """Hash of each source file, by module name."""
    config: dict[str, Any]
    """The values that the stage reads."""
    data: str = ""
    """Fingerprint of the source's content, for the stage that reads it."""

    def to_json(self) -> str:
        """Return the key as text, the same for equal keys."""
        return json.dumps(
            {"code": self.code, "config": self.config, "data": self.data, "libraries": library_versions()},
            sort_keys=True,
        )


@functools.lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries whose behavior enters the artifacts."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def data_fingerprint(config: Config, stat_cache: Path | None = None) -> str:
    """Return the fingerprint of the data's content.

    Args:
        config: the config.
        stat_cache: file that remembers digests of unchanged files between runs.

    Raises:
        DataError: there is no such source, or it can't be read.
    """
    source = build_source(config.data)
    if stat_cache is None:
        return source.fingerprint()
    cache = StatCache(stat_cache)
    fingerprint = source.fingerprint(cache)
    cache.save()
    return fingerprint


def training_config_hash(config: Config) -> str:
    """Return a hash of everything in the config that has a say in the model's weights and in its verdict."""
    parts = config.model_dump(mode="json", include={"transform", "model", "train", "tune", "evaluate"})
    text = json.dumps({**parts, "data": _data_config(config)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def stage_keys(config: Config, fingerprint: str) -> dict[str, StageKey]:
    """Return the key of every stage that has one.

    Args:
        config: the config.
        fingerprint: of the data's content.

    Returns:
        Keys by the id of the pipeline's node.
    """
    whole = config.model_dump(mode="json")
    module = [Path(config.model.module)] if config.model.module else []
    training = {name: whole[name] for name in ("transform", "model", "train")}
    serving = {"push": {"serving": config.push.serving, "keep": config.push.keep}, "name": config.name}
    edge, forms = (
        {"push": {folder: whole["push"][folder], "keep": config.push.keep}, "name": config.name, "card": whole["card"]}
        for folder in ("edge", "forms")
    )

    def key(
        entry: str | Sequence[str], settings: dict[str, Any], extra: list[Path] | None = None, data: str = ""
    ) -> StageKey:
        entries = [entry] if isinstance(entry, str) else entry
        hashes = {name: value[:16] for name, value in code_hashes(entries, extra or []).items()}
        return StageKey(hashes, settings, data)

    keys = {
        "ExampleGen": key("pipeline.components.example_gen", _data_config(config), data=fingerprint),
        "StatisticsGen": key("pipeline.components.statistics_gen", {"sample": config.data.statistics_sample}),
        "ExampleValidator": key("pipeline.components.example_validator", {}),
        "Transform": key("transform.preprocessing", {"transform": whole["transform"]}),
        "Trainer": key("trainer.run", training, module),
        "Evaluator": key("pipeline.components.evaluator", {"evaluate": whole["evaluate"]}),
        "InfraValidator": key("pipeline.components.infra_validator", {"infra": whole["infra"]}),
        "Pusher": key("pipeline.components.pusher", serving),
        "BulkInferrer": key("pipeline.components.bulk_inferrer", {"bulk_infer": whole["bulk_infer"]}),
    }
    if config.tune.mode == "search":
        keys["Tuner"] = key("trainer.run", {**training, "tune": whole["tune"]}, module)
    if config.compress.variants:
        parts = {name: whole[name] for name in ("compress", "evaluate")}
        entries = ["pipeline.components.optimizer", *(name for package in _PROCESSES for name in modules_of(package))]
        keys["Optimizer"] = key(entries, parts, module)
        keys["EdgePusher"] = key("pipeline.components.edge_pusher", edge)
        loaders = modules_of("serving.forms")  # imported by computed names
        keys["FormPusher"] = key(["pipeline.components.form_pusher", *loaders], forms)
    return keys


def difference(old: str, new: str) -> list[str]:
    """Return what differs between two keys in words, for the reason of a cache miss.

    Args:
        old: `StageKey.to_json()` of the run that filled the cache.
        new: that of now.

    Returns:
        Phrases such as `train.epochs 5 -> 6`, `code trainer.export changed`, `the data changed`.
    """
    before, after = json.loads(old), json.loads(new)
    phrases = [f"code {phrase}" for phrase in changed_modules(before["code"], after["code"])]
    was, now = _flat(before["config"]), _flat(after["config"])
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            phrases.append(f"{name} {json.dumps(was.get(name))} -> {json.dumps(now.get(name))}")
    if before["data"] != after["data"]:
        phrases.append("the data's content changed")
    for name, version in after["libraries"].items():
        if before["libraries"].get(name) != version:
            phrases.append(f"{name} {before['libraries'].get(name)} -> {version}")
    return phrases


def _data_config(config: Config) -> dict[str, Any]:
    return {
        name: value for name, value in config.data.model_dump(mode="json").items() if name not in _NOT_OF_THE_EXAMPLES
    }


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted path."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= _flat(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves
