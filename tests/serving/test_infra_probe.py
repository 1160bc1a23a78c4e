"""The clean-process check of a model before it is pushed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import infra_probe
from serving.errors import Refused, ServingError
from serving.infra_probe import main, probe, validate_in_subprocess
from tests.serving.saved_models import LABELS, build_classifier, to_example


def _by_name(report: Any) -> dict[str, Any]:
    return {check["name"]: check for check in report["checks"]}


def test_a_good_model_passes_in_a_fresh_process(classifier_dir: Path, example_file: Path) -> None:
    verdict = validate_in_subprocess(classifier_dir, [example_file], count=4)
    assert verdict.ok, (verdict.reason, verdict.log)
    assert verdict.reason == ""
    verdict.require()
    names = [check.name for check in verdict.checks]
    assert names == [
        "load",
        "warmup",
        "examples",
        "predict_examples",
        "classify",
        "serving_default",
        "single",
        "server",
        "rest_predict",
        "grpc_predict",
        "grpc_classify",
    ]
    details = {check.name: check.detail for check in verdict.checks}
    assert details["warmup"] == "replayed 1 x serving_default, 1 x classify"
    assert details["predict_examples"] == f"4 answers over {len(LABELS)} classes"


def test_paths_relative_to_the_callers_directory(
    classifier_dir: Path, example_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A package of the same name in the caller's directory must not be what the child imports.
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__init__.py").write_text("raise SystemExit('wrong package')")
    (tmp_path / "model").symlink_to(classifier_dir)
    (tmp_path / "examples.gz").symlink_to(example_file)
    monkeypatch.chdir(tmp_path)
    verdict = validate_in_subprocess("model", ["examples.gz"], count=1)
    assert verdict.ok, (verdict.reason, verdict.log)


def _untracked_keras3_model(directory: Path) -> None:
    """A module that holds a Keras 3 model: restores other variables than its signature reads."""
    import keras
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    image = keras.Input((8, 8, 3))
    hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3)(image))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(hidden)))

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")])
        def predict(self, image: Any) -> dict[str, Any]:
            return {"probabilities": self.model(image, training=False)}

    module = Module()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.predict})
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["image"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 8, 8, 3), np.float32)))
    (directory / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(directory / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def test_keras3_model_that_python_loads_and_production_does_not(tmp_path: Path, example_file: Path) -> None:
    import tensorflow as tf

    _untracked_keras3_model(tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    assert loaded(image=tf.zeros([1, 8, 8, 3]))["probabilities"].shape == (1, 3)

    verdict = validate_in_subprocess(tmp_path / "model", [example_file], count=1)
    assert not verdict.ok
    assert "warmup: signature 'serving_default' failed: Could not find variable" in verdict.reason
    assert "Export from tf_keras" in verdict.reason
    assert verdict.checks[0].ok, "restore and init op pass; only a request shows the fault"


def test_probabilities_that_do_not_sum_to_one(tmp_path: Path, example_file: Path) -> None:
    build_classifier(tmp_path / "half", scale=0.5)
    report = probe(tmp_path / "half", [example_file], 2)
    assert not report["ok"]
    assert "predict_examples: row 0: probabilities sums to 0.5000, expected 1" in report["reason"]
    assert _by_name(report)["warmup"]["detail"] == "the model carries no warm-up requests"
    assert "single" not in _by_name(report)


class _Server:
    """Stands in for a server of the model; `wrong` is what it gets wrong."""

    def __init__(self, model_dir: Path, wrong: str = "") -> None:
        from serving.saved_model import SessionModel

        self.asked: list[str] = []
        self._model, self._wrong = SessionModel.load(model_dir), wrong

    def wait(self) -> None:
        self.asked.append("wait")
        if self._wrong == "wait":
            raise ServingError("the server did not start: out of memory")

    def rest_predict(self, signature: str, name: str, items: Any) -> dict[str, np.ndarray]:
        return self._answer("rest", signature, name, items)

    def grpc_predict(self, signature: str, name: str, items: Any) -> dict[str, np.ndarray]:
        return self._answer("grpc", signature, name, items)

    def grpc_classify(self, signature: str, examples: Any) -> list[dict[str, float]]:
        outputs = self._answer("classify", signature, "inputs", examples)
        return [
            {label.decode(): float(score) for label, score in zip(classes, scores, strict=True)}
            for classes, scores in zip(outputs["classes"], outputs["scores"], strict=True)
        ]

    def _answer(self, kind: str, signature: str, name: str, items: Any) -> dict[str, np.ndarray]:
        self.asked.append(kind)
        outputs = self._model.run(signature, {name: np.array(items, dtype=object)})
        key = "scores" if "scores" in outputs else "probabilities"
        return {**outputs, key: np.roll(outputs[key], 1, axis=1)} if self._wrong == kind else outputs


def test_the_server_is_asked_after_the_model(classifier_dir: Path, example_file: Path) -> None:
    server = _Server(classifier_dir)
    report = probe(classifier_dir, [example_file], 2, server)  # type: ignore[arg-type]
    assert report["ok"], report["reason"]
    assert server.asked == ["wait", "rest", "grpc", "classify"]
    assert _by_name(report)["grpc_classify"]["detail"] == "2 answers"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("wait", "server: the server did not start: out of memory"),
        ("rest", "rest_predict: the answers over REST and those in process"),
        ("grpc", "grpc_predict: the answers over gRPC and those in process"),
        ("classify", "grpc_classify: classify over gRPC and in process"),
    ],
)
def test_a_server_that_answers_otherwise(classifier_dir: Path, example_file: Path, wrong: str, words: str) -> None:
    report = probe(classifier_dir, [example_file], 2, _Server(classifier_dir, wrong))  # type: ignore[arg-type]
    assert not report["ok"]
    assert report["reason"].startswith(words)


def test_a_refused_model_is_not_served(tmp_path: Path, example_file: Path) -> None:
    build_classifier(tmp_path / "half", scale=0.5)
    server = _Server(tmp_path / "half")
    assert not probe(tmp_path / "half", [example_file], 2, server)["ok"]  # type: ignore[arg-type]
    assert server.asked == []


def test_a_model_that_does_not_load(classifier_copy: Path, example_file: Path) -> None:
    data = classifier_copy / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:100])
    report = probe(classifier_copy, [example_file], 2)
    assert [check["name"] for check in report["checks"]] == ["load"]
    assert report["reason"].startswith("load: the variables of")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"", "record 1: found nothing, expected predict_log"),
        (b"\xff\xff", "expected a PredictionLog proto"),
        (None, "is not a complete TFRecord file"),
    ],
)
def test_bad_warmup_requests(classifier_copy: Path, example_file: Path, record: bytes | None, words: str) -> None:
    import tensorflow as tf

    path = classifier_copy / "assets.extra" / "tf_serving_warmup_requests"
    if record is None:
        path.write_bytes(path.read_bytes()[:-7])
    else:
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(record)
    report = probe(classifier_copy, [example_file], 1)
    assert not report["ok"]
    assert words in _by_name(report)["warmup"]["detail"]
    assert _by_name(report)["predict_examples"]["ok"], "the other checks still run"


def test_missing_signature_and_bad_examples(classifier_copy: Path, tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    path = classifier_copy / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    del proto.meta_graphs[0].signature_def["classify"]
    path.write_bytes(proto.SerializeToString())
    examples = tmp_path / "plain.tfrecord"
    with tf.io.TFRecordWriter(str(examples)) as writer:
        writer.write(to_example(b"no picture"))
    report = probe(classifier_copy, [examples], 3)
    by_name = _by_name(report)
    assert by_name["examples"]["detail"] == "1 examples"
    assert "no signature 'classify'; it has" in by_name["classify"]["detail"]
    assert "no signature 'classify'" in by_name["warmup"]["detail"]
    assert "Unknown image file format" in by_name["serving_default"]["detail"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "found no example in"),
        (b"\x1f\x8bnot really gzip", "is not a complete TFRecord file"),
        (b"x" * 40, "is not a complete TFRecord file"),
    ],
)
def test_unusable_example_files(classifier_dir: Path, tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "examples"
    if content is not None:
        path.write_bytes(content)
    report = probe(classifier_dir, [path], 1)
    assert words in _by_name(report)["examples"]["detail"]
    assert not report["ok"]


def test_command_line_in_process(classifier_dir: Path, example_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main([str(classifier_dir), "--examples", str(example_file), "--count", "2", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["ok"] and report["count"] == 2
    assert all(check["milliseconds"] >= 0 for check in report["checks"])
    assert main([str(tmp_path / "gone"), "--examples", str(example_file), "--json", str(out)]) == 3
    assert "does not exist" in json.loads(out.read_text())["reason"]
    with pytest.raises(SystemExit):
        main([str(classifier_dir), "--count", "0", "--json", str(out)])


@pytest.mark.parametrize(
    ("code", "limit", "words"),
    [
        (
            "import os, sys; sys.stderr.write('LLVM boom\\n'); sys.stderr.flush(); os.abort()",
            60,
            "SIGABRT.*LLVM boom",
        ),
        ("import os; os.kill(os.getpid(), 9)", 60, "ended by signal 9 .SIGKILL"),
        ("import signal; signal.pause()", 0.2, "did not load and answer within 0.2 seconds"),
        ("raise RuntimeError('a bug')", 60, "no readable result .exit code 1.*RuntimeError: a bug"),
        ("pass", 60, "no readable result .exit code 0"),
        ("open(OUT, 'w').write('[]')", 60, "no readable result"),
        ("open(OUT, 'w').write('{\"ok\": true, \"rea')", 60, "no readable result"),
        ('open(OUT, \'w\').write(\'{"ok": 1, "reason": "", "checks": []}\')', 60, "ended with exit code 0"),
        ('open(OUT, \'w\').write(\'{"ok": true, "reason": "", "checks": []}\'); exit(5)', 60, "exit code 5"),
    ],
)
def test_processes_that_misbehave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, limit: float, words: str
) -> None:
    def command(_model: str, _files: list[str], _count: int, result: Path) -> list[str]:
        return [sys.executable, "-c", code.replace("OUT", repr(str(result)))]

    monkeypatch.setattr(infra_probe, "_command", command)
    verdict = validate_in_subprocess(tmp_path, [], timeout_seconds=limit)
    assert re.search(words, verdict.reason), verdict.reason
    with pytest.raises(Refused, match="the model does not serve") as caught:
        verdict.require()
    assert caught.value.exit_code == 3


def test_the_probe_does_not_load_the_whole_of_tensorflow(classifier_dir: Path, example_file: Path) -> None:
    code = (
        "import sys; from serving import lean_tensorflow, infra_probe; assert lean_tensorflow.install();"
        f"report = infra_probe.probe({str(classifier_dir)!r}, [{str(example_file)!r}], 1);"
        "assert report['ok'], report; assert not lean_tensorflow.install();"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'keras', 'tf_keras', 'tfx', 'apache_beam'}))"
    )
    root = Path(infra_probe.__file__).parent.parent
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr
