from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.forms import tflite_file
from serving.forms.loading import load_form
from tests.serving.convert import networks


@pytest.fixture(scope="module")
def content() -> bytes:
    import tensorflow as tf

    spec = tf.TensorSpec([None, *networks.SIZE], tf.float32, name="image")
    function = tf.function(networks.probabilities, autograph=False).get_concrete_function(spec)
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module()).convert())


def rewritten(content: bytes, change: Any) -> bytes:
    """The file after a change of its object tree."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), tflite_file.IDENTIFIER)
    return bytes(builder.Output())


def test_a_whole_file_passes(content: bytes) -> None:
    tflite_file.check_structure(content, "m.tflite")
    tflite_file.check_structure(rewritten(content, lambda model: None), "m.tflite")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_a_truncated_file_is_an_error_wherever_it_ends(content: bytes, tmp_path: Path, share: float) -> None:
    file = tmp_path / "cut.tflite"
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ServingError, match=r"cut.tflite \([\d,]+ bytes\) is no (whole )?TFLite file"):
        load_form("tflite_float32", file)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_never_anything_but_a_serving_error(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        tflite_file.check_structure(bytes(damaged), "m.tflite")
    except ServingError as error:
        assert "m.tflite" in str(error)


def set_opcode(model: Any) -> None:
    model.subgraphs[0].operators[0].opcodeIndex = 99


def set_input(model: Any) -> None:
    model.subgraphs[0].operators[0].inputs = [9999]


def set_output(model: Any) -> None:
    model.subgraphs[0].outputs = [-1]


def set_buffer(model: Any) -> None:
    model.subgraphs[0].tensors[0].buffer = 9999


def shorten_constant(model: Any) -> None:
    longest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    longest.data = longest.data[:-4]


def drop_graphs(model: Any) -> None:
    model.subgraphs = []


def set_signature(model: Any) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex, signature.inputs, signature.outputs = "f", 7, [], []
    model.signatureDefs = [signature]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (set_opcode, "an operation that it does not declare"),
        (set_input, "a tensor that does not exist"),
        (set_output, "an input or output of graph 0 does not exist"),
        (set_buffer, "a tensor has no buffer"),
        (shorten_constant, "a constant has"),
        (drop_graphs, "it has no graph"),
        (set_signature, "a signature names a graph that does not exist"),
    ],
)
def test_what_points_outside_is_named(content: bytes, change: Any, problem: str) -> None:
    with pytest.raises(ServingError, match=f"no sound TFLite file: .*{problem}"):
        tflite_file.check_structure(rewritten(content, change), "m.tflite")


def test_a_file_that_the_runtime_refuses_is_found_out_in_another_process(content: bytes, tmp_path: Path) -> None:
    def unknown(model: Any) -> None:
        for code in model.operatorCodes:
            code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"Mystery"

    file = tmp_path / "m.tflite"
    file.write_bytes(rewritten(content, unknown))
    with pytest.raises(ServingError, match=r"the TFLite runtime cannot run .*Mystery"):
        load_form("tflite_float32", file)


def test_a_crash_is_a_reason(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite_file.sys, "executable", "/bin/false")
    with pytest.raises(ServingError, match=r"the TFLite runtime cannot run .*no message"):
        tflite_file.check_by_running(content + b"1", tmp_path / "m.tflite")
    suicide = tmp_path / "suicide"
    suicide.write_text("#!/bin/sh\nkill -SEGV $$\n")
    suicide.chmod(0o755)
    monkeypatch.setattr(tflite_file.sys, "executable", str(suicide))
    with pytest.raises(ServingError, match=r"crashes the TFLite runtime \(SIGSEGV\)"):
        tflite_file.check_by_running(content + b"2", tmp_path / "m.tflite")
