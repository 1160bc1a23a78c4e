"""What a stage's key sees, and how two of them are compared in words."""

from __future__ import annotations

import json

import pytest

from pipeline.config.loading import load
from pipeline.stage_keys import data_fingerprint, difference, stage_keys, training_config_hash

YAML = "name: p\ndata: {source: digits}\ntransform: {size: [8, 8], channels: 1}\n"


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(YAML, encoding="utf-8")
    return lambda *overrides: load(file, overrides).config


def changed(config, *overrides) -> set[str]:
    """Return the stages whose keys differ from those of the plain config."""
    plain, other = stage_keys(config(), "data"), stage_keys(config(*overrides), "data")
    return {node for node in plain if plain[node].to_json() != other[node].to_json()}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("train.epochs=3", {"Trainer"}),
        ("model.dropout=0.5", {"Trainer"}),
        ("transform.size=[9, 9]", {"Transform", "Trainer"}),
        ("data.split.seed=8", {"ExampleGen"}),
        ("data.statistics_sample=500", {"StatisticsGen"}),
        ("evaluate.top_k=2", {"Evaluator"}),
        ("infra.examples=3", {"InfraValidator"}),
        ("push.keep=3", {"Pusher"}),
        ("bulk_infer.split=eval", {"BulkInferrer"}),
        ("tune.trials=3", set()),
    ],
)
def test_a_stage_sees_its_part_of_the_config_and_nothing_else(config, override, stages):
    assert changed(config, override) == stages


def test_a_search_is_keyed_by_what_it_reads(config):
    first = stage_keys(config("tune.mode=search"), "data")["Tuner"]
    more = stage_keys(config("tune.mode=search", "tune.trials=3"), "data")["Tuner"]
    assert first != more
    assert "Tuner" not in stage_keys(config(), "data")


def test_only_the_data_stage_sees_the_datas_content(config):
    one, other = stage_keys(config(), "a"), stage_keys(config(), "b")
    assert {node for node in one if one[node] != other[node]} == {"ExampleGen"}


def test_validators_do_not_depend_on_the_trainers_code(config):
    keys = stage_keys(config(), "data")
    for stage in ("ExampleGen", "StatisticsGen", "ExampleValidator", "Transform", "InfraValidator"):
        assert not [module for module in keys[stage].code if module.startswith("trainer")], stage
    assert {"trainer.run", "trainer.export", "transform.images"} <= keys["Trainer"].code.keys()


def test_differences_are_said_in_words(config):
    old = stage_keys(config(), "data")["Trainer"].to_json()
    new = stage_keys(config("train.epochs=3", "model.name=mlp"), "data")["Trainer"].to_json()
    assert difference(old, new) == ['model.name "cnn_small" -> "mlp"', "train.epochs 12 -> 3"]
    fields = json.loads(old)
    fields["code"]["trainer.run"] = "0"
    fields["libraries"]["tfx"] = "9.9"
    words = difference(old, json.dumps(fields))
    assert "code trainer.run changed" in words and "tfx 1.16.0 -> 9.9" in words
    a, b = (stage_keys(config(), name)["ExampleGen"].to_json() for name in ("a", "b"))
    assert difference(a, b) == ["the data's content changed"]


def test_the_training_hash_ignores_what_has_no_say_in_the_model(config):
    plain = training_config_hash(config())
    assert (
        training_config_hash(config("bulk_infer.enabled=false", "push.keep=2", "data.statistics_sample=500")) == plain
    )
    assert training_config_hash(config("train.seed=8")) != plain


def test_the_fingerprint_of_built_in_data_is_stable(config, tmp_path):
    assert data_fingerprint(config()) == data_fingerprint(config(), tmp_path / "cache")


def test_modules_that_are_imported_by_computed_names_reach_the_optimizer(config):
    code = stage_keys(config("compress.variants=[tflite_int8]"), "data")["Optimizer"].code
    assert {"serving.convert.tflite", "serving.measure.operations_tflite", "serving.forms.onnxruntime"} <= code.keys()
    assert {"trainer.compress.pruning", "pipeline.optimizing.optimize", "serving.certify.budget"} <= code.keys()
