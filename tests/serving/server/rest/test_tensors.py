from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from serving.server.rest.json_text import parse
from serving.server.rest.tensors import flat_values, is_base64, to_array
from serving.server.status import Code, StatusError

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string")


def array(text: str, dtype: str) -> np.ndarray:
    numpy_dtype = np.dtype(object) if dtype == "string" else np.dtype(dtype)
    return to_array(*flat_values(parse(f'{{"v": {text}}}'.encode())["v"], dtype), numpy_dtype)


def refused(text: str, dtype: str) -> str:
    with pytest.raises(StatusError) as caught:
        array(text, dtype)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("1", "float32", 1.0),
        ("[1, 2.5, -3e2]", "float32", [1, 2.5, -300]),
        ("[[1, 2], [3, 4], [5, 6]]", "int32", [[1, 2], [3, 4], [5, 6]]),
        ("[]", "float32", []),
        ("[[], []]", "float64", [[], []]),
        ("[[[1]], [[2]]]", "float64", [[[1]], [[2]]]),
        ("[true, false]", "bool", [True, False]),
        ("16777215", "float32", 16777215),
        ("9007199254740991", "float64", 9007199254740991),
        ("16777217.0", "float32", 16777216),
        ("3.4028234e38", "float32", float(np.float32(3.4028234e38))),
        ("2147483647", "int32", 2**31 - 1),
        ("-9223372036854775808", "int64", -(2**63)),
        ("18446744073709551615", "uint64", 2**64 - 1),
        ("4294967295", "uint32", 2**32 - 1),
        # Narrow integers are cut off like in C++.
        ("[300, -1]", "uint8", [44, 255]),
        ("[200]", "int8", [-56]),
    ],
)
def test_numbers(text: str, dtype: str, expected: Any) -> None:
    found = array(text, dtype)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, np.array(expected, dtype=dtype))
    assert found.shape == np.shape(expected)


def test_special_floats() -> None:
    found = array("[NaN, Infinity, -Infinity, 1]", "float32")
    assert math.isnan(found[0])
    assert found[1:].tolist() == [math.inf, -math.inf, 1]
    assert array("[1, Infinity]", "float64").tolist() == [1, math.inf]


def test_strings_and_bytes() -> None:
    found = array('["foo", {"b64": "AAH/"}, "ä", ""]', "string")
    assert found.tolist() == [b"foo", b"\0\1\xff", "ä".encode(), b""]
    assert array('{"b64": "QQ"}', "string").item() == b"A"
    assert array('[["a"], ["b"]]', "string").shape == (2, 1)


@pytest.mark.parametrize(
    ("text", "dtype", "message"),
    [
        ("1.0", "int32", "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ("1e2", "int64", "JSON Value: 100.0 Type: Number is not of expected type: int64"),
        ("2147483648", "int32", "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ("2147483648", "uint8", "JSON Value: 2147483648 Type: Number is not of expected type: uint8"),
        ("-1", "uint32", "JSON Value: -1 Type: Number is not of expected type: uint32"),
        ("-1", "uint64", "JSON Value: -1 Type: Number is not of expected type: uint64"),
        ("9223372036854775808", "int64", "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64"),
        ("true", "int32", "JSON Value: true Type: True is not of expected type: int32"),
        ("1", "bool", "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("false", "float32", "JSON Value: false Type: False is not of expected type: float"),
        ("null", "float64", "JSON Value: null Type: Null is not of expected type: double"),
        ('"x"', "float32", 'JSON Value: "x" Type: String is not of expected type: float'),
        ("5", "string", "JSON Value: 5 Type: Number is not of expected type: string"),
        ("16777216", "float32", "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ("-16777216", "float32", "Cannot convert JSON value: -16777216 to float without loss of precision."),
        ("9007199254740992", "float64", "to double without loss of precision."),
        ("1e39", "float32", "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ("[NaN, -1e300]", "float32", "Cannot convert JSON value: -1e+300 to float without loss of precision."),
        ('{"b64": "QQ", "x": 1}', "string", "not formatted correctly for base64 data"),
        ('{"b64": 5}', "string", "not formatted correctly for base64 data"),
        ('{"b64": "Q*=="}', "string", "Unable to base64 decode"),
        ('{"b64": "QQ=="}', "float32", "Type: Object is not of expected type: float"),
        ("{}", "int32", "JSON Value: {} Type: Object is not of expected type: int32"),
        ("[[1, 2], [3]]", "float32", "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ("[[1], 2]", "float32", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ("[1, [2]]", "float32", "Encountered list at unexpected level: 1 expected < 1"),
        ("[[1], [[2]]]", "float32", "Encountered list at unexpected level: 2 expected < 2"),
        ("[[[1]], [[2], [3]]]", "float32", "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        # The first fault in the order of the text is told.
        ("[[1, true], [3]]", "float32", "JSON Value: true Type: True is not of expected type: float"),
        ("[" * 40 + "1" + "]" * 40, "float32", "Lists are nested 40 deep; at most 32 are allowed."),
    ],
)
def test_what_is_refused(text: str, dtype: str, message: str) -> None:
    assert message in refused(text, dtype)


@pytest.mark.parametrize(
    ("dtype", "name"), [("float16", "half"), ("bfloat16", "bfloat16"), ("complex64", "complex64"), ("uint16", "uint16")]
)
def test_types_that_json_lacks(dtype: str, name: str) -> None:
    with pytest.raises(StatusError) as caught:
        flat_values([1.5], dtype)
    assert caught.value.code is Code.UNIMPLEMENTED
    assert caught.value.message == f"Conversion of JSON Value: 1.5 to type: {name}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"b64": "x"}', True),
        ('{"b64": 1}', False),
        ('{"b64": "x", "a": 1}', False),
        ('{"b64": "x", "b64": "x"}', False),
        ("{}", False),
    ],
)
def test_what_stands_for_bytes(text: str, expected: bool) -> None:
    assert is_base64(parse(f'{{"v": {text}}}'.encode())["v"]) is expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_list_fits_every_type(dtype: str) -> None:
    assert array("[[], []]", dtype).shape == (2, 0)
