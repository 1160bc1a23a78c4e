from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.convert import tftrt_segments
from serving.convert.tftrt_segmenting import compile_libraries, library_sources
from serving.convert.tftrt_segments import coverage_of, coverage_sentence, read_report, segments
from serving.errors import ConversionError, UnavailableError
from tests.serving.convert import networks


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network as the trainer exports it, beside the label and the class."""
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(2)
    image = tf_keras.Input(networks.SIZE, name="image")
    start = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(image)))
    inner = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(start))
    joined = layers.ReLU()(layers.Add()([start, inner]))
    scores = layers.Dense(networks.CLASSES, name="logits")(layers.GlobalAveragePooling2D()(joined))
    module = tf.Module()
    module.network = tf_keras.Model(image, scores)

    def predict(image: Any) -> dict[str, Any]:
        probabilities = tf.nn.softmax(module.network(image, training=False))
        return {"probabilities": probabilities, "class_id": tf.argmax(probabilities, axis=1)}

    spec = tf.TensorSpec([None, *networks.SIZE], tf.float32, name="image")
    function = tf.function(predict, autograph=False).get_concrete_function(spec)
    directory = tmp_path_factory.mktemp("residual") / "model"
    tf.saved_model.save(module, str(directory), signatures={"predict_float": function})
    return directory


@pytest.mark.slow
def test_a_residual_network_is_one_engine(residual: Path) -> None:
    coverage = segments(residual, "FP16")
    assert coverage.engines == 1
    assert coverage.share == 1.0
    assert coverage.nodes_in_engines == coverage.nodes >= 10
    assert coverage.unsupported == {} and coverage.left_out == {}
    json.dumps(coverage.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_an_unsupported_operation_is_listed_and_small_segments_are_left_out(tmp_path: Path) -> None:
    import tensorflow as tf

    def odd(images: Any) -> Any:
        hidden = tf.abs(networks.logits(images))
        ratio = tf.math.betainc(hidden + 1.0, hidden + 2.0, tf.ones_like(hidden) * 0.5)
        return tf.nn.softmax(ratio * 3.0)

    coverage = segments(networks.save(tmp_path / "odd", odd), "INT8", 8)
    assert coverage.unsupported["Betainc"] == {"count": 1, "reasons": ["Op type Betainc is not supported."]}
    assert coverage.left_out["Softmax"] == 1  # too few nodes lie behind Betainc
    assert 0 < coverage.share < 1
    assert coverage.engines >= 1
    outside = sum(entry["count"] for entry in coverage.unsupported.values()) + sum(coverage.left_out.values())
    assert coverage.nodes - coverage.nodes_in_engines <= outside


def test_without_a_compiler_that_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="neither cc, gcc nor clang is on PATH"):
        segments(tmp_path / "model")


def test_a_compiler_that_fails_is_a_reason(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'ld: no space left' >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(ConversionError, match=r"cannot make libnvinfer.so.8.6.1: ld: no space left\."):
        compile_libraries(str(compiler), tmp_path, (8, 6, 1))


def test_the_libraries_claim_the_version_that_is_asked_for() -> None:
    sources = library_sources((8, 6, 1))
    assert sorted(sources) == ["libnvinfer.so.8.6.1", "libnvinfer_plugin.so.8.6.1"]
    assert "return 8601;" in sources["libnvinfer.so.8.6.1"]


@pytest.mark.parametrize(("precision", "size"), [("fp16", 3), ("BF16", 3), ("FP16", 0), ("FP16", True), ("FP16", 2.5)])
def test_settings_that_make_no_sense_are_refused_before_anything_runs(precision: str, size: Any) -> None:
    with pytest.raises(ConversionError, match="expected"):
        segments("nowhere", precision, size)


def graph(outside: dict[str, int], engines: list[dict[str, int]]) -> Any:
    """A converted graph with so many operations of each kind outside and in each engine."""
    from tensorflow.core.framework import graph_pb2

    built = graph_pb2.GraphDef()
    for op, count in {**outside, "Placeholder": 1, "Identity": 1}.items():
        for number in range(count):
            built.node.add(name=f"{op}_{number}", op=op)
    for place, inside in enumerate(engines):
        built.node.add(name=f"engine_{place}", op="TRTEngineOp")
        function = built.library.function.add()
        function.signature.name = f"engine_{place}_native_segment"
        for op, count in {**inside, "Const": 2}.items():
            for number in range(count):
                function.node_def.add(name=f"{op}_{number}", op=op)
    return built


def test_nodes_are_counted_without_the_plumbing(tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    report.write_text("OP Name|Reason|Count\nTopKV2|too large|1\nTopKV2|int64|1\nNoOp|Op type NoOp|2\n")
    coverage = coverage_of(graph({"TopKV2": 2, "Softmax": 1}, [{"Conv2D": 4, "Relu": 3}, {"MatMul": 3}]), report)
    assert (coverage.nodes, coverage.nodes_in_engines, coverage.engines) == (13, 10, 2)
    assert coverage.share == pytest.approx(10 / 13)
    assert coverage.unsupported == {"TopKV2": {"count": 2, "reasons": ["too large", "int64"]}}
    assert coverage.left_out == {"Softmax": 1}


def test_a_graph_without_work_has_no_coverage(tmp_path: Path) -> None:
    coverage = coverage_of(graph({}, []), tmp_path / "no report")
    assert (coverage.nodes, coverage.share, coverage.engines, coverage.unsupported) == (0, 0.0, 0, {})


@given(st.binary() | st.text("|0123a\n").map(str.encode))
def test_no_report_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(content)
    for entry in read_report(file).values():
        assert entry["count"] >= 0 and entry["reasons"]


def test_a_reason_may_hold_the_delimiter(tmp_path: Path) -> None:
    file = tmp_path / "report.csv"
    file.write_text('OP Name|Reason|Count\nMul|a | b "c|3\n')
    assert read_report(file) == {"Mul": {"count": 3, "reasons": ['a | b "c']}}


def test_the_work_is_done_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def ask(module: str, question: dict, environment: dict, seconds: float) -> dict:
        seen.update(question, module=module, environment=environment, seconds=seconds)
        return {
            "nodes": 2,
            "nodes_in_engines": 1,
            "share": 0.5,
            "engines": 1,
            "unsupported": {},
            "left_out": {"Mul": 1},
        }

    monkeypatch.setattr(tftrt_segments.child, "ask", ask)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    coverage = segments(tmp_path, "INT8", 5, signature="predict_float", timeout_seconds=9)
    assert coverage.share == 0.5
    assert (seen["module"], seen["seconds"]) == ("serving.convert.tftrt_segmenting", 9)
    assert (seen["signature"], seen["precision"], seen["minimum_segment_size"]) == ("predict_float", "INT8", 5)
    assert seen["environment"]["LD_LIBRARY_PATH"] == f"{seen['libraries']}:/opt/lib"
    assert seen["environment"]["CUDA_VISIBLE_DEVICES"] == "-1"
    assert not Path(seen["libraries"]).exists()


def test_the_coverage_is_told_in_words_where_it_is_known():
    found = coverage_sentence({"coverage": {"share": 0.94, "engines": 2, "unsupported": {"Betainc": {"count": 1}}}})
    assert found == "94% of its operations would run in 2 engines; not supported: Betainc."
    whole = coverage_sentence({"coverage": {"share": 1.0, "engines": 1}})
    assert whole == "100% of its operations would run in 1 engine."
    assert coverage_sentence({}) == coverage_sentence({"coverage": {"unknown": "no compiler"}}) == ""
