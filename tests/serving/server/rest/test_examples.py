from __future__ import annotations

from typing import Any

import pytest

from serving.server.rest.examples import decode_examples
from serving.server.status import Code, StatusError


def features(example: bytes) -> dict[str, Any]:
    from tensorflow.core.example import example_pb2

    found = {}
    for name, feature in example_pb2.Example.FromString(example).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = (kind, list(getattr(feature, kind).value)) if kind else (None, [])
    return found


def refused(body: str) -> str:
    with pytest.raises(StatusError) as caught:
        decode_examples(body.encode())
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_features_of_every_kind() -> None:
    call = decode_examples(
        b"""{"examples": [
            {"names": ["foo", "bar"], "ratings": [8.0, 9.0], "age": 20, "good": true, "raw": {"b64": "/w=="}},
            {"names": ["baz"], "ratings": 6.0, "none": []}
        ]}"""
    )
    assert call.signature == "serving_default"
    assert features(call.examples[0]) == {
        "names": ("bytes_list", [b"foo", b"bar"]),
        "ratings": ("float_list", [8.0, 9.0]),
        "age": ("int64_list", [20]),
        "good": ("int64_list", [1]),
        "raw": ("bytes_list", [b"\xff"]),
    }
    assert features(call.examples[1]) == {
        "names": ("bytes_list", [b"baz"]),
        "ratings": ("float_list", [6.0]),
        "none": (None, []),
    }
    assert sorted(call.blobs) == [b"bar", b"baz", b"foo", b"\xff"]


def test_the_context_stands_in_every_example_and_gives_way_to_it() -> None:
    call = decode_examples(b'{"signature_name": "c", "context": {"a": 1, "b": 2}, "examples": [{"b": 3}, {}]}')
    assert call.signature == "c"
    assert [features(example) for example in call.examples] == [
        {"a": ("int64_list", [1]), "b": ("int64_list", [3])},
        {"a": ("int64_list", [1]), "b": ("int64_list", [2])},
    ]


def test_images_in_the_context_are_seen() -> None:
    assert decode_examples(b'{"context": {"image": {"b64": "QQ=="}}, "examples": [{}]}').blobs == [b"A"]


def test_special_floats() -> None:
    call = decode_examples(b'{"examples": [{"x": [Infinity, 1.5]}]}')
    assert features(call.examples[0])["x"] == ("float_list", [float("inf"), 1.5])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("{}", "When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": {}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [5]}', "Example must be JSON object but got JSON Number"),
        ('{"context": [], "examples": [{}]}', "Example must be JSON object but got JSON Array"),
        ('{"signature_name": 1, "examples": [{}]}', "'signature_name' key must be a string value."),
        ('{"examples": [{"x": null}]}', "Feature: x has element with unexpected JSON type: Null"),
        ('{"examples": [{"x": [[1]]}]}', "Feature: x has element with unexpected JSON type: Array"),
        ('{"examples": [{"x": {"y": 1}}]}', "Feature: x has element with unexpected JSON type: Object"),
        ('{"examples": [{"x": {"b64": "*"}}]}', "Unable to base64 decode"),
        ('{"examples": [{"x": [1, 2.5]}]}', "Unexpected element type in feature: x expecting type: int64"),
        ('{"examples": [{"x": [2.5, "a"]}]}', "Unexpected element type in feature: x expecting type: float"),
        ('{"examples": [{"x": ["a", true]}]}', "Unexpected element type in feature: x expecting type: bytes"),
        ('{"examples": [{"x": 1e39}]}', "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ('{"examples": [{"x": 18446744073709551615}]}', "Feature: x has uint64 element. Only int64 is supported."),
        ('{"examples": [' + "[" * 900 + "]" * 900 + "]}", "Example must be JSON object but got JSON Array"),
    ],
)
def test_what_is_refused(body: str, expected: str) -> None:
    assert expected in refused(body)


def test_a_feature_name_must_be_text() -> None:
    with pytest.raises(StatusError, match="valid UTF-8"):
        decode_examples(b'{"examples": [{"\xff": 1}]}')
