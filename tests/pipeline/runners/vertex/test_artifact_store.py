"""Queries of resolvers, over what earlier tasks left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.runners.vertex.artifact_store import ArtifactStore, result_key

BLESSED = 'schema_title="tfx.ModelBlessing" AND state=LIVE AND metadata.blessed.number_value=1'
ITS_MODEL = (
    'schema_title="tfx.Model" AND state=LIVE AND '
    "name=\"{{$.inputs.artifacts['input'].metadata['current_model_id']}}\""
)


def artifact(name: str, kind: str, **metadata: Any) -> dict[str, Any]:
    kinds = {"instanceSchema": f"title: tfx.{kind}\ntype: object\n"}
    return {"name": name, "uri": f"gs://bucket/{name}", "type": kinds, "metadata": metadata}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path)
    store.add(artifact("m1", "Model"))
    store.add(artifact("b1", "ModelBlessing", blessed=1.0, current_model_id="m1"))
    store.add(artifact("m2", "Model"))
    store.add(artifact("b2", "ModelBlessing", blessed=1.0, current_model_id="m2"))
    store.add(artifact("m3", "Model"))
    store.add(artifact("b3", "ModelBlessing", blessed=0.0, current_model_id="m3"))
    return store


def test_the_newest_blessing_leads_to_its_model(store: ArtifactStore) -> None:
    (blessing,) = store.newest(BLESSED, {})
    assert blessing["name"] == "b2"
    assert [found["name"] for found in store.newest(ITS_MODEL, {"input": [blessing]})] == ["m2"]


def test_no_blessing_means_no_model(store: ArtifactStore, tmp_path: Path) -> None:
    assert ArtifactStore(tmp_path / "empty").newest(BLESSED, {}) == []
    assert store.newest(ITS_MODEL, {"input": []}) == []


def test_a_blessing_that_names_no_model_finds_none(store: ArtifactStore) -> None:
    assert store.newest(ITS_MODEL, {"input": [artifact("b", "ModelBlessing", current_model_id=1.5)]}) == []


def test_everything_is_there_after_a_restart(store: ArtifactStore, tmp_path: Path) -> None:
    store.keep_result("key", {"artifacts": {"model": [artifact("m1", "Model")]}, "values": {"n": 1}})
    store.save()
    again = ArtifactStore(tmp_path)
    assert again.newest(BLESSED, {})[0]["name"] == "b2"
    assert again.result("key") == {"artifacts": {"model": [artifact("m1", "Model")]}, "values": {"n": 1}}
    assert again.new_name() == store.new_name()


def test_only_the_very_same_import_is_known(store: ArtifactStore) -> None:
    assert store.same({**artifact("m1", "Model"), "name": "new"}) == artifact("m1", "Model")
    assert store.same(artifact("m9", "Model")) is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "artifacts.json").write_text('{"artifacts": []', encoding="utf-8")
    with pytest.raises(ConfigError, match="is damaged"):
        ArtifactStore(tmp_path)


@pytest.mark.parametrize("query", ["create_time > 5", 'schema_title="tfx.Model" OR state=LIVE', "color=red"])
def test_a_query_that_nobody_writes_is_refused(store: ArtifactStore, query: str) -> None:
    with pytest.raises(ConfigError, match=r"can't be read|doesn't write"):
        store.newest(query, {})


def test_the_key_changes_with_everything_that_counts() -> None:
    keys = {
        result_key({"a": 1}, {"image": "i"}, {"p": 1}),
        result_key({"a": 2}, {"image": "i"}, {"p": 1}),
        result_key({"a": 1}, {"image": "j"}, {"p": 1}),
        result_key({"a": 1}, {"image": "i"}, {"p": 2}),
    }
    assert len(keys) == 4
    assert result_key({"a": 1, "b": 2}, {}, {}) == result_key({"b": 2, "a": 1}, {}, {})
