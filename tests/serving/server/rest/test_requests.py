from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from serving.server.rest.requests import decode_predict
from serving.server.status import Code, StatusError
from serving.signature import Signature
from tests.serving.server.engines import signature, spec

NUMBERS = signature(inputs=[spec("x", (None, None))])
WHOLE = signature(inputs=[spec("x", (None,), "int32")])
STRINGS = signature(inputs=[spec("image_bytes", (None,), "string")])
MANY = signature(
    inputs=[
        spec("ints", (None, 3, 2), "int32"),
        spec("strings", (None, 2), "string"),
        spec("floats", (None, 2)),
        spec("double", (None, 1), "float64"),
    ]
)


def of(*signatures: Signature) -> Callable[[str], Signature]:
    table = {item.name: item for item in signatures}

    def find(name: str) -> Signature:
        if name not in table:
            raise StatusError(Code.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found in signature def')
        return table[name]

    return find


def refused(body: str, *signatures: Signature) -> str:
    with pytest.raises(StatusError) as caught:
        decode_predict(body.encode(), of(*signatures))
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_rows_of_one_input() -> None:
    call = decode_predict(b'{"instances": [[1, 2], [3, 4], [5, 6]]}', of(NUMBERS))
    assert (call.signature, call.row) == ("serving_default", True)
    np.testing.assert_array_equal(call.inputs["x"], np.array([[1, 2], [3, 4], [5, 6]], np.float32))


def test_rows_of_scalars() -> None:
    assert decode_predict(b'{"instances": [1, 2, 3]}', of(WHOLE)).inputs["x"].tolist() == [1, 2, 3]


def test_rows_with_names() -> None:
    body = """{"instances": [
        {"ints": [[1,2],[3,4],[5,6]], "strings": ["foo", "bar"], "floats": [1.0, NaN], "double": [NaN]},
        {"double": [2.0], "ints": [[7,8],[9,0],[1,2]], "strings": ["baz", {"b64": "YmF0"}], "floats": [2, Infinity]}
    ]}"""
    inputs = decode_predict(body.encode(), of(MANY)).inputs
    assert {name: array.shape for name, array in inputs.items()} == {
        "ints": (2, 3, 2),
        "strings": (2, 2),
        "floats": (2, 2),
        "double": (2, 1),
    }
    assert inputs["strings"].tolist() == [[b"foo", b"bar"], [b"baz", b"bat"]]
    assert inputs["ints"][1].tolist() == [[7, 8], [9, 0], [1, 2]]
    assert inputs["floats"][1].tolist() == [2, float("inf")]


def test_base64_rows_are_values_not_objects() -> None:
    call = decode_predict(b'{"instances": [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}]}', of(STRINGS))
    assert call.inputs["image_bytes"].tolist() == [b"hello", b"world"]


def test_a_named_row_may_hold_base64() -> None:
    call = decode_predict(b'{"instances": [{"image_bytes": {"b64": "aGVsbG8="}}]}', of(STRINGS))
    assert call.inputs["image_bytes"].tolist() == [b"hello"]


@pytest.mark.parametrize("body", ['{"inputs": [[1, 2]]}', '{"inputs": {"x": [[1, 2]]}}'])
def test_columns_of_one_input(body: str) -> None:
    call = decode_predict(body.encode(), of(NUMBERS))
    assert not call.row
    assert call.inputs["x"].tolist() == [[1, 2]]


def test_columns_may_be_base64_and_scalars() -> None:
    assert decode_predict(b'{"inputs": {"b64": "QQ=="}}', of(STRINGS)).inputs["image_bytes"].item() == b"A"
    assert decode_predict(b'{"inputs": 5}', of(WHOLE)).inputs["x"].shape == ()


def test_columns_with_names_ignore_others() -> None:
    body = json.dumps(
        {"inputs": {"ints": [[[1, 2]]], "strings": ["a"], "floats": [[1]], "double": [0.5], "what": "ever"}}
    )
    inputs = decode_predict(body.encode(), of(MANY)).inputs
    assert set(inputs) == set(MANY.inputs)
    assert inputs["ints"].shape == (1, 1, 2)


def test_the_signature_is_named_in_the_body() -> None:
    other = signature("other", inputs=[spec("y", (None,))])
    call = decode_predict(b'{"instances": [1], "signature_name": "other"}', of(NUMBERS, other))
    assert (call.signature, list(call.inputs)) == ("other", ["y"])
    assert decode_predict(b'{"signature_name": "", "instances": [1]}', of(NUMBERS)).signature == "serving_default"


def test_of_equal_keys_the_first_counts() -> None:
    body = b'{"instances": [1], "instances": [2, 3], "signature_name": "serving_default", "signature_name": "b"}'
    assert decode_predict(body, of(WHOLE)).inputs["x"].tolist() == [1]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"signature_name": 5, "instances": [1]}', "'signature_name' key must be a string value."),
        ('{"signature_name": "b", "instances": [1]}', 'Serving signature name: "b" not found in signature def'),
        ('{"instances": [1], "inputs": [1]}', "expecting only one of 'inputs' or 'instances' keys to exist"),
        ('{"instances": 1}', "Excepting 'instances' to be an list/array"),
        ('{"instances": {"x": [1]}}', "Excepting 'instances' to be an list/array"),
        ('{"instances": []}', "No values in 'instances' array"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"Instances": [1]}', "Missing 'inputs' or 'instances' key"),
        (
            '{"instances": [[1,2],[3,4],[5,6,7]]}',
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but "
            "got: 3",
        ),
        ('{"instances": [[1,2],[3,4],[[5,6]]]}', "Expecting shape [2] but got: [1,2]"),
        ('{"instances": [1, [1]]}', "Expecting shape [] but got: [1]"),
        ('{"instances": [[1,2],["a", "b"]]}', 'JSON Value: "a" Type: String is not of expected type: int32'),
        (
            '{"instances": [{"y": 1}]}',
            "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not "
            "have named input: y",
        ),
        ('{"instances": [1, {"x": 1}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [{"x": 1}, 1]}', "Expecting object but got list at item 1 of input list"),
        ('{"instances": [{"x": 1, "x": 2}]}', "keys must be equal to: x"),
        ('{"inputs": {"y": 1}}', "Missing named input: x in 'inputs' object."),
        ('{"inputs": "text"}', 'JSON Value: "text" Type: String is not of expected type: int32'),
        ('{"instances": [' + "[" * 900 + "]" * 900 + "]}", "nested"),
    ],
)
def test_what_is_refused(body: str, expected: str) -> None:
    assert expected in refused(body, WHOLE)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '{"instances": [1]}',
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            '{"inputs": [1]}',
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        ('{"instances": [{"ints": [[1]]}]}', "keys must be equal to: double,floats,ints,strings"),
        ('{"instances": [{"b64": "QQ=="}]}', "Type: Object is not of expected type: int32"),
    ],
)
def test_what_is_refused_with_many_inputs(body: str, expected: str) -> None:
    assert expected in refused(body, MANY)


def test_a_bare_base64_row_feeds_the_first_of_several_inputs_only() -> None:
    two = signature(inputs=[spec("a", (None,), "string"), spec("b", (None,), "string")])
    assert set(decode_predict(b'{"instances": [{"b64": "QQ=="}]}', of(two)).inputs) == {"a"}


def test_a_signature_without_inputs() -> None:
    empty = signature(inputs=[])
    assert refused('{"instances": [1]}', empty) == "Failed to get input map for signature: DEFAULT"
