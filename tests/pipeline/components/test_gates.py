"""InfraValidator and Pusher as components: what they bless, what they refuse, what they write down."""

from __future__ import annotations

import json

import pytest
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from pipeline.components import infra_validator, pusher
from pipeline.components.bulk_inferrer import Executor as BulkInferrerExecutor
from pipeline.evaluation.verdict import read_verdict
from serving.publish import versions
from tests.pipeline.components.artifacts import executor, made
from tests.pipeline.report.made_up import ingestion, summary
from tests.serving.saved_models import LABELS, build_classifier, encode_png, picture, to_example


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a Model and an Examples artifact that belong together."""
    import tensorflow as tf

    root = tmp_path_factory.mktemp("trained")
    model = made(standard_artifacts.Model, root / "model")
    build_classifier(root / "model" / "Format-Serving")
    examples = made(standard_artifacts.Examples, root / "examples")
    examples.split_names = '["test"]'
    (root / "examples" / "Split-test").mkdir()
    with tf.io.TFRecordWriter(
        str(root / "examples" / "Split-test" / "data_tfrecord-00000-of-00001.gz"), "GZIP"
    ) as file:
        for number in range(4):
            file.write(to_example(encode_png(picture(number))))
    return model, examples


def check(model, examples, folder):
    """Run the InfraValidator and return its blessing."""
    blessing = made(standard_artifacts.InfraBlessing, folder / "infra")
    executor(infra_validator.Executor, folder / "tmp").Do(
        {"model": [model], "examples": [examples]},
        {"blessing": [blessing]},
        {"split": "test", "count": 3, "timeout_seconds": 120},
    )
    return blessing


@pytest.mark.slow
def test_a_good_model_is_blessed_and_a_damaged_one_is_refused_with_the_reason(tmp_path, trained):
    import shutil

    model, examples = trained
    good = check(model, examples, tmp_path / "good")
    assert model_utils.is_infra_validated(good)
    verdict = read_verdict(good.uri)
    assert verdict is not None and verdict.passed and len(verdict.checks) > 3
    damaged = made(standard_artifacts.Model, tmp_path / "damaged")
    shutil.copytree(f"{model.uri}/Format-Serving", tmp_path / "damaged" / "Format-Serving")
    for variables in (tmp_path / "damaged" / "Format-Serving" / "variables").glob("*.data*"):
        variables.write_bytes(variables.read_bytes()[:100])
    refused = check(damaged, examples, tmp_path / "bad")
    assert not model_utils.is_infra_validated(refused)
    verdict = read_verdict(refused.uri)
    assert verdict is not None and not verdict.passed and verdict.sentence


def push(folder, model, *, blessed, infra_blessed, **properties):
    """Run the Pusher and return its artifact."""
    evaluation = made(standard_artifacts.ModelEvaluation, folder / "evaluation")
    examples = made(standard_artifacts.Examples, folder / "examples")
    (folder / "evaluation" / "summary.json").write_text(json.dumps(summary(0.75, None)), encoding="utf-8")
    (folder / "examples" / "ingest_report.json").write_text(json.dumps(ingestion()), encoding="utf-8")
    inputs = {
        "examples": [examples],
        "model": [model],
        "evaluation": [evaluation],
        "model_blessing": [made(standard_artifacts.ModelBlessing, folder / "b", blessed=int(blessed))],
        "infra_blessing": [made(standard_artifacts.InfraBlessing, folder / "i", blessed=int(infra_blessed))],
    }
    pushed = made(standard_artifacts.PushedModel, folder / "pushed")
    manifest = {"name": "shapes", "config_hash": "c", "data_fingerprint": "d"}
    card = {"card": {"intended_use": "tests"}, "architecture": "net", "image": [8, 8, 3], "split": "test", "top_k": 3}
    executor(pusher.Executor, folder / "tmp").Do(
        inputs,
        {"pushed_model": [pushed]},
        {
            "destination": str(folder.parent / "served"),
            "manifest": json.dumps(manifest),
            "card": json.dumps(card),
            **properties,
        },
    )
    return pushed


@pytest.mark.parametrize(
    ("blessed", "infra_blessed", "who"),
    [(False, True, ["the Evaluator"]), (True, False, ["the InfraValidator"]), (False, False, ["Evaluator", "Infra"])],
)
def test_nothing_is_pushed_without_both_blessings(tmp_path, trained, blessed, infra_blessed, who):
    pushed = push(tmp_path / "run", trained[0], blessed=blessed, infra_blessed=infra_blessed)
    assert pushed.get_int_custom_property("pushed") == 0
    assert not (tmp_path / "served").exists()
    verdict = read_verdict(pushed.uri)
    assert verdict is not None and not verdict.passed
    assert all(name in verdict.sentence for name in who)


def test_a_blessed_model_is_pushed_once_with_its_manifest(tmp_path, trained):
    pushed = push(tmp_path / "run 1", trained[0], blessed=True, infra_blessed=True)
    assert pushed.get_string_custom_property("pushed_version") == "1"
    again = push(tmp_path / "run 2", trained[0], blessed=True, infra_blessed=True)
    verdict = read_verdict(again.uri)
    assert verdict is not None and "already there as version 1" in verdict.sentence
    (version,) = versions(tmp_path / "served")
    assert version.ok and version.metrics["accuracy"] == 0.75
    assert "| accuracy | test | 0.75 |" in (version.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert version.manifest.labels == tuple(LABELS)
    assert version.manifest.data_fingerprint == "d"


def test_predictions_of_a_split_stand_in_a_table_and_in_tfx_logs(tmp_path, trained):
    import csv

    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    model, examples = trained
    result = made(standard_artifacts.InferenceResult, tmp_path / "result")
    inputs = {"examples": [examples], "model": [model]}
    blessing = made(standard_artifacts.ModelBlessing, tmp_path / "yes", blessed=1)
    executor(BulkInferrerExecutor, tmp_path / "tmp").Do(
        {**inputs, "model_blessing": [blessing]}, {"inference_result": [result]}, {"split": "test"}
    )
    (table,) = (tmp_path / "result").glob("*.csv")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 4
    assert {row["predicted"] for row in rows} <= set(LABELS)
    (logs,) = map(str, (tmp_path / "result").glob("prediction_logs*"))
    parsed = [
        prediction_log_pb2.PredictionLog.FromString(r)
        for r in tf.data.TFRecordDataset(logs, "GZIP").as_numpy_iterator()
    ]
    assert len(parsed) == 4
    assert {"probabilities", "label", "class_id"} <= set(parsed[0].predict_log.response.outputs)
    nothing = made(standard_artifacts.InferenceResult, tmp_path / "nothing")
    refused = made(standard_artifacts.ModelBlessing, tmp_path / "no", blessed=0)
    executor(BulkInferrerExecutor, tmp_path / "tmp").Do(
        {**inputs, "model_blessing": [refused]}, {"inference_result": [nothing]}, {"split": "test"}
    )
    assert list((tmp_path / "nothing").iterdir()) == []
