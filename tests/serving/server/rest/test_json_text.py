from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.rest.json_text import JsonObject, kind_of, parse, show
from serving.server.status import Code, StatusError


def refused(body: bytes) -> str:
    with pytest.raises(StatusError) as caught:
        parse(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), VALUES, max_size=4), st.booleans())
def test_any_object_is_read_back(document: dict[str, Any], ascii_only: bool) -> None:
    try:
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    try:
        assert parse(body) == document
    except StatusError as error:
        # Texts may hold lone surrogates, which only escapes can spell.
        assert "surrogate" in error.message
        with pytest.raises(UnicodeEncodeError):
            json.dumps(document, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b"  \n", "The document is empty. at offset: 3"),
        (b"instances = [1]", "Invalid value. at offset: 0"),
        (b'{"a": tru}', "Invalid value. at offset: 9"),
        (b'{"a": x}', "Invalid value. at offset: 6"),
        (b'{"a": [1, 2,]}', "Invalid value. at offset: 12"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b"{'a': 1}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": 1 "b": 2}', "Missing a comma or '}' after an object member. at offset: 8"),
        (b'{"a": [1 2]}', "Missing a comma or ']' after an array element. at offset: 9"),
        (b'{"a": ["]", {"x": 1 2}]}', "Missing a comma or '}' after an object member. at offset: 20"),
        (b'{"a": 1} x', "The document root must not be followed by other values. at offset: 9"),
        (b'{"a": "x', "Missing a closing quotation mark in string. at offset: 8"),
        (b'{"a": "x\ny"}', "Invalid encoding in string. at offset: 8"),
        (b'{"a": "\\x"}', "Invalid escape character in string. at offset: 7"),
        (b'{"a": "\\u12g4"}', "Incorrect hex digit after \\u escape in string. at offset: 7"),
        (b'{"a": 1e999}', "Number too big to be stored in double. at offset: 6"),
        (b'{"a": -1e999}', "Number too big to be stored in double. at offset: 6"),
        (b'{"a": [' + b"1" * 400 + b"]}", "Number too big to be stored in double. at offset: 7"),
        (b'{"a": "\\ud800"}', "The surrogate pair in string is invalid."),
        (b'{"a": ["\\udc00x"]}', "The surrogate pair in string is invalid."),
        ('{"ä": x}'.encode(), "Invalid value. at offset: 7"),
    ],
)
def test_faults_have_the_texts_of_rapidjson(body: bytes, message: str) -> None:
    assert refused(body) == f"JSON Parse error: {message}"


def test_only_an_object_is_a_request() -> None:
    assert refused(b"[1, 2]") == "JSON Value: [\n    1,\n    2\n] Is not object"
    assert refused(b"NaN") == "JSON Value: NaN Is not object"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_a_depth_bomb_is_refused(opening: bytes) -> None:
    message = refused(b'{"instances": ' + opening * 100_000)
    assert message == "JSON Parse error: The document is nested too deeply."


@pytest.mark.parametrize("length", range(1, 40))
def test_a_truncated_body_is_refused(length: int) -> None:
    body = b'{"instances": [{"b64": "QUJD"}, 1.5e3]}'
    assert refused(body[:length].rstrip() if length < len(body) else body[:-1])


def test_of_equal_keys_the_first_counts() -> None:
    document = parse(b'{"a": 1, "a": 2, "b": {"c": [], "c": 1, "c": 2}}')
    assert document == {"a": 1, "b": {"c": []}}
    assert document["b"].members == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", float(2**64)),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", float(-(2**63) - 1)),
        ("1" * 30, float("1" * 30)),
        ("1e308", 1e308),
        ("1e-999", 0.0),
        ("0." + "0" * 400 + "1", 0.0),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        ("Inf", math.inf),
        ("-Inf", -math.inf),
        ("1e5", 1e5),
    ],
)
def test_numbers(text: str, expected: float) -> None:
    found = parse(f'{{"a": [{text}]}}'.encode())["a"][0]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("text", ["NaN", "-NaN"])
def test_not_a_number(text: str) -> None:
    assert math.isnan(parse(f'{{"a": {text}}}'.encode())["a"])


def test_short_infinity_in_a_string_stays_text() -> None:
    assert parse(b'{"a": "Inf \\" -NaN", "b": [Inf, -Inf, -NaN]}')["a"] == 'Inf " -NaN'


def test_bytes_that_are_no_utf8_pass() -> None:
    value = parse(b'{"a": "\xff\xc3\xa4"}')["a"]
    assert value.encode("utf-8", "surrogateescape") == b"\xff\xc3\xa4"


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@given(st.binary(max_size=60))
def test_any_bytes_give_an_object_or_a_refusal(body: bytes) -> None:
    try:
        assert isinstance(parse(b'{"a":' + body), JsonObject)
    except StatusError as error:
        assert error.code is Code.INVALID_ARGUMENT


def test_a_shown_value_is_cut_off() -> None:
    assert len(show(list(range(1_000_000)))) < 1100
    assert len(show("x" * 1_000_000)) < 1100
    assert show(JsonObject.of([("a", [1.5, None])])) == '{\n    "a": [\n        1.5,\n        null\n    ]\n}'


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "Null"), (True, "True"), (False, "False"), (1, "Number"), (1.5, "Number"), ("", "String"), ([], "Array")],
)
def test_kinds(value: Any, name: str) -> None:
    assert kind_of(value) == name
    assert kind_of(JsonObject.of([])) == "Object"
