from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.server.rest import answers
from serving.server.rest.requests import decode_predict
from serving.server.servable import VersionState
from serving.server.status import Code, StatusError
from tests.serving.server.engines import signature, spec


def strings(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_a_single_output_gives_bare_rows() -> None:
    body = answers.predictions({"p": np.array([[1, 2], [3, 4]], np.int32)})
    assert json.loads(body) == {"predictions": [[1, 2], [3, 4]]}
    assert json.loads(answers.predictions({"p": np.array([5, 6], np.int64)})) == {"predictions": [5, 6]}


def test_several_outputs_give_objects() -> None:
    outputs = {
        "label": strings(b"cat", b"dog"),
        "raw_bytes": strings(b"\0\xff", b""),
        "score": np.array([[0.1], [0.25]], np.float32),
        "rank": np.array([1, 2], np.int64),
        "good": np.array([True, False]),
        "exact": np.array([0.1, 1e300]),
    }
    assert json.loads(answers.predictions(outputs)) == {
        "predictions": [
            {"label": "cat", "raw_bytes": {"b64": "AP8="}, "score": [0.1], "rank": 1, "good": True, "exact": 0.1},
            {"label": "dog", "raw_bytes": {"b64": ""}, "score": [0.25], "rank": 2, "good": False, "exact": 1e300},
        ]
    }


def test_columns() -> None:
    one = {"p": np.array([[0.5]], np.float32)}
    assert json.loads(answers.columns(one)) == {"outputs": [[0.5]]}
    both = one | {"n": np.array(3, np.int32), "f": np.array(0.1, np.float32), "s_bytes": strings(b"A").reshape(())}
    assert json.loads(answers.columns(both)) == {
        "outputs": {"p": [[0.5]], "n": 3, "f": 0.1, "s_bytes": {"b64": "QQ=="}}
    }


def test_whole_floats_keep_their_point() -> None:
    assert answers.columns({"p": np.array([1, -0.0], np.float32)}) == b'{"outputs":[1.0,-0.0]}'


def test_special_floats_are_bare_tokens() -> None:
    array = np.array([math.nan, math.inf, -math.inf, 0.1], np.float32)
    assert answers.predictions({"p": array}) == b'{"predictions": [NaN, Infinity, -Infinity, 0.1]}'
    several = {"p": array.astype(np.float64), "q": np.arange(4), "s": strings(b"a", b"b", b"c", b"d")}
    rows = json.loads(answers.predictions(several))["predictions"]
    assert math.isnan(rows[0]["p"])
    assert rows[1] == {"p": math.inf, "q": 1, "s": "b"}
    assert json.loads(answers.columns({"p": np.array(math.inf)})) == {"outputs": math.inf}


def test_the_word_null_in_a_string_is_no_special_float() -> None:
    outputs = {"s": strings(b"null"), "f": np.array([0.1], np.float32)}
    assert answers.columns(outputs) == b'{"outputs":{"f":[0.1],"s":["null"]}}'


def test_text_that_is_no_utf8_does_not_break_the_answer() -> None:
    assert json.loads(answers.columns({"s": strings(b"a\xff")})) == {"outputs": ["a\ufffd"]}


def test_half_floats_are_numbers() -> None:
    assert json.loads(answers.columns({"h": np.array([0.5], np.float16)})) == {"outputs": [0.5]}


def test_arrays_in_any_memory_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert json.loads(answers.columns({"p": array.T})) == {"outputs": array.T.tolist()}
    assert json.loads(answers.columns({"p": array[:, ::-2]})) == {"outputs": array[:, ::-2].tolist()}


def test_empty_arrays() -> None:
    assert json.loads(answers.predictions({"p": np.zeros((0, 3), np.float32)})) == {"predictions": []}
    assert json.loads(answers.columns({"p": np.zeros((2, 0), np.float32), "s": strings()})) == {
        "outputs": {"p": [[], []], "s": []}
    }


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"p": np.array(1.0)}, "Tensor name: p has no shape information "),
        ({"p": np.zeros(2), "q": np.zeros(3)}, "Tensor name: q has inconsistent batch size: 3 expecting: 2"),
        ({"p": np.zeros(2, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
        ({"p": np.zeros(2, np.uint16)}, "Failed to write JSON value for tensor type: uint16"),
    ],
)
def test_what_rows_cannot_say(outputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(StatusError) as caught:
        answers.predictions(outputs)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


@settings(max_examples=60)
@given(
    st.data(),
    st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "bool", "uint64"]),
    hnp.array_shapes(max_dims=3, max_side=3),
    st.booleans(),
)
def test_what_is_encoded_is_decoded(data: st.DataObject, dtype: str, shape: tuple[int, ...], row: bool) -> None:
    limit = {"float32": 2**23, "float64": 2**52}.get(dtype)
    elements = None if limit is None else st.floats(width=32) if dtype == "float32" else st.floats()
    array = data.draw(hnp.arrays(np.dtype(dtype), shape, elements=elements))
    body = answers.predictions({"x": array}) if row else answers.columns({"x": array})
    request = body.replace(b'"predictions"', b'"instances"').replace(b'"outputs"', b'"inputs"')
    back = decode_predict(request, lambda _: signature(inputs=[spec("x", None, dtype)])).inputs["x"]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=10), min_size=1, max_size=4))
def test_bytes_are_encoded_and_decoded(values: list[bytes]) -> None:
    body = answers.predictions({"x_bytes": strings(*values)}).replace(b'"predictions"', b'"instances"')
    call = decode_predict(body, lambda _: signature(inputs=[spec("x", None, "string")]))
    assert call.inputs["x"].tolist() == values


def test_classifications() -> None:
    body = answers.classifications([["cat", "dog"]], [[float(np.float32(0.1)), 0.9]])
    assert json.loads(body) == {"results": [[["cat", 0.1], ["dog", 0.9]]]}
    assert json.loads(answers.classifications([[b"cat"], [b"dog"]], None)) == {"results": [[["cat", 0]], [["dog", 0]]]}
    assert json.loads(answers.classifications(None, [[0.5], [1.0]])) == {"results": [[["", 0.5]], [["", 1.0]]]}
    assert answers.classifications(None, [[math.nan]]) == b'{"results": [[["", NaN]]]}'


def test_regressions() -> None:
    assert answers.regressions([float(np.float32(0.1)), 2]) == b'{"results":[0.1,2.0]}'
    assert answers.regressions([math.inf]) == b'{"results": [Infinity]}'


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: answers.classifications(None, []), "ClassificationResults"),
        (lambda: answers.classifications([], None), "ClassificationResults"),
        (lambda: answers.regressions([]), "RegressionResults"),
    ],
)
def test_no_results(call: Any, what: str) -> None:
    with pytest.raises(StatusError, match=f"Cannot convert empty {what} to JSON"):
        call()


def test_status_has_strings_for_versions_and_prints_defaults() -> None:
    states = [VersionState(2**60, "AVAILABLE", Code.OK, ""), VersionState(1, "END", Code.NOT_FOUND, "gone")]
    assert json.loads(answers.status(states)) == {
        "model_version_status": [
            {
                "version": "1152921504606846976",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            },
            {"version": "1", "state": "END", "status": {"error_code": "NOT_FOUND", "error_message": "gone"}},
        ]
    }


def test_metadata_is_the_json_form_of_the_protos() -> None:
    from google.protobuf import text_format
    from tensorflow_serving.apis import get_model_metadata_pb2

    text = """signature_def { key: "serving_default" value {
        inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { dim { size: -1 } dim { size: 3 } } } }
        outputs { key: "y" value { name: "y:0" dtype: DT_STRING tensor_shape { unknown_rank: true } } }
        method_name: "tensorflow/serving/predict" } }"""
    proto = text_format.Parse(text, get_model_metadata_pb2.SignatureDefMap())
    found = json.loads(answers.metadata("pets", 7, proto))
    assert found["model_spec"] == {"name": "pets", "signature_name": "", "version": "7"}
    signature_def = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature_def["inputs"]["x"] == {
        "name": "x:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}], "unknown_rank": False},
    }
    assert signature_def["outputs"]["y"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
    assert signature_def["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.OK, 200),
        (Code.CANCELLED, 499),
        (Code.UNKNOWN, 500),
        (Code.INVALID_ARGUMENT, 400),
        (Code.DEADLINE_EXCEEDED, 504),
        (Code.NOT_FOUND, 404),
        (Code.ALREADY_EXISTS, 409),
        (Code.PERMISSION_DENIED, 403),
        (Code.RESOURCE_EXHAUSTED, 429),
        (Code.FAILED_PRECONDITION, 400),
        (Code.ABORTED, 409),
        (Code.OUT_OF_RANGE, 400),
        (Code.UNIMPLEMENTED, 501),
        (Code.INTERNAL, 500),
        (Code.UNAVAILABLE, 503),
        (Code.DATA_LOSS, 500),
        (Code.UNAUTHENTICATED, 401),
    ],
)
def test_every_code_has_its_http_status(code: Code, status: int) -> None:
    assert answers.http_status(code) == status


def test_errors() -> None:
    assert json.loads(answers.error('no "model" ä\n')) == {"error": 'no "model" ä\n'}
    assert json.loads(answers.error("\udcff"))["error"] == "?"
