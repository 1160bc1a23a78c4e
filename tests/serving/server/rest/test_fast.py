from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.server.rest.fast import PredictDecoder
from serving.server.rest.requests import PredictCall, SignatureOf, decode_predict
from serving.server.status import Code, StatusError
from serving.signature import Signature
from tests.serving.server.engines import signature, spec

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string")
IMAGES = signature(inputs=[spec("image_bytes", (None,), "string")])
FLOATS = signature(inputs=[spec("x", None)])


def of(*signatures: Signature) -> SignatureOf:
    table = {item.name: item for item in signatures}

    def find(name: str) -> Signature:
        if name not in table:
            raise StatusError(Code.INVALID_ARGUMENT, f"no signature {name}")
        return table[name]

    return find


def outcome(decode: Any, body: bytes, signature_of: SignatureOf) -> Any:
    """What a decoder says, in a form that can be compared: NaN equals NaN, -0.0 differs from 0.0."""
    try:
        call: PredictCall = decode(body, signature_of)
    except StatusError as error:
        return error.code, error.message
    arrays = {
        name: (array.dtype, array.shape, array.tolist() if array.dtype == object else array.tobytes())
        for name, array in call.inputs.items()
    }
    return call.signature, call.row, arrays


def same(body: bytes, *signatures: Signature) -> Any:
    """Check that both ways agree, and give back what they say."""
    quick = outcome(PredictDecoder().decode, body, of(*signatures))
    assert quick == outcome(decode_predict, body, of(*signatures)), body
    return quick


def images_body(images: list[bytes], name: str = "") -> bytes:
    values: list[Any] = [{"b64": base64.b64encode(image).decode()} for image in images]
    if name:
        values = [{name: value} for value in values]
    return json.dumps({"instances": values}).encode()


# --- the shortcuts are taken ---


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.sampled_from(["", "image_bytes"]))
def test_images_take_the_shortcut(images: list[bytes], name: str) -> None:
    body = images_body(images, name)
    call = PredictDecoder().decode_images(body, of(IMAGES))
    assert call is not None
    assert call.inputs["image_bytes"].tolist() == images
    same(body, IMAGES)


FRAMES = (
    '{"instances": [{"b64": "%s"}]}',
    '{"instances": [{"image_bytes": {"b64": "%s"}}]}',
    '{"instances": [{"image": {"b64": "%s"}}]}',
    '{"signature_name": "second", "instances": [{"b64": "%s"}]}',
    '{"signature_name": "nobody", "instances": [{"b64": "%s"}]}',
    ' {"instances":[{"b64":"%s"}]}\n' + " " * 2000,
)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(FRAMES),
            st.one_of(
                st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode()),
                # What looks like the first at both ends, and is something else between.
                st.sampled_from(['QUJD"}, {"b64": "QUJD', "QQ", "Q*==", "QUJD\\/", "QQ==QUJD", "é", '"}]}']),
            ),
            st.integers(0, 60),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_what_a_decoder_remembers_changes_nothing(bodies: list[tuple[str, str, int]]) -> None:
    decoder, find = PredictDecoder(), of(IMAGES, signature("second", inputs=list(IMAGES.inputs.values())))
    for form, text, cut in bodies:
        body = (form % text).encode()
        for sent in (body, body[:cut] + body[cut + 1 :], body[: len(body) - cut]):
            assert outcome(decoder.decode, sent, find) == outcome(decode_predict, sent, find), sent


@settings(max_examples=40)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.int64]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
        elements=st.integers(0, 100),
    ),
    st.sampled_from(
        ['{"instances": %s}', '{"inputs":%s}', ' {"inputs" : {"x":\n%s } }\n', '{"signature_name":"e.3","inputs":%s}']
    ),
    st.sampled_from([None, 2]),
)
def test_numbers_take_the_shortcut(array: np.ndarray, form: str, indent: int | None) -> None:
    body = (form % json.dumps(array.tolist(), indent=indent)).encode()
    signatures = [signature(name, inputs=[spec("x", None, array.dtype.name)]) for name in ("serving_default", "e.3")]
    decoder = PredictDecoder()
    for _ in range(2):
        call = decoder.decode_numbers(body, of(*signatures))
        # A list of whole numbers that are written as decimals is no list of integers.
        assert call is not None
        np.testing.assert_array_equal(call.inputs["x"], array)
        assert call.inputs["x"].dtype == array.dtype
    same(body, *signatures)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"b64": "QUJD"}], "signature_name": "serving_default"}',
        b'{"instances": [{"b64": "QU\\/D"}]}',
        b'{"instances": [{"b64": "QQ"}]}',
        b'{"instances": [{"b64": "QQ=="}, {"b64": "QQ"}]}',
        b'{"instances": [{"b64": "Q Q =="}]}',
        b'{"instances": [{"b64": "Q*=="}]}',
        b'{"instances": [{"b64": "QUJD"}, "text"]}',
        b'{"instances": [{"b64": "QUJD"}, {"image_bytes": {"b64": "QUJD"}}]}',
        b'{"instances": [{"image_bytes": {"b64": "QUJD"}}, {"b64": "QUJD"}]}',
        b'{"instances": [{"image_bytes": {"b64": "QUJD"}}, {"image_bytes": {"b64": "QUJD"}}]}',
        b'{"instances": [{"image": {"b64": "QUJD"}}]}',
        b'{"instances": [{"image_bytes": {"b64": "QUJD"}}, {"image": {"b64": "QUJD"}}]}',
        b'{"instances": [{"b64": {"b64": "QUJD"}}]}',
        b'{"instances": [{"b64": "QUJD"}}]}',
        b'{"instances": [{"image_bytes": {"b64": "QUJD"}]}',
        b'{"instances": [{"b64": "QUJD"}]}}',
        b'{"instances": [{"b64": "QUJD"}]} x',
        b'{"instances": [{"b64": "QUJD"}], "inputs": 1}',
        b'{"instances": [{"b64": "QUJD", "b64": "QUJD"}]}',
        b'{"instances": [{"b64": "QUJD"}',
        b'{"instances": [{"b64": "QUJD',
        b'{"instances": [{"b64": "QUJD"},]}',
        b'{"signature_name": "nobody", "instances": [{"b64": "QUJD"}]}',
        b'{"signature_name": "nobody", "instances": [{"b64": "QUJD"}]',
        b'{"signature_name": "", "instances": [{"b64": "QUJD"}]}',
        b'\xef\xbb\xbf{"instances": [{"b64": "QUJD"}]}',
        b'\x0b{"instances": [{"b64": "QUJD"}]}',
        b'{"instances": [{"b64": ""}]}',
        b'{"inputs": {"b64": "QUJD"}}',
        b'{"inputs": ["a", {"b64": "QUJD"}]}',
    ],
)
def test_bodies_that_look_like_images(body: bytes) -> None:
    same(body, IMAGES)
    same(body, FLOATS)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[1, 2, 3], [4]]}',
        b'{"instances": [[1], [2, 3]]}',
        b'{"instances": [[1], []]}',
        b'{"instances": [[], [1]]}',
        b'{"instances": [[[1, 2]], [[3]], [[4]]]}',
        b'{"instances": [[[1], [2]], [[3]]]}',
        b'{"instances": [1, [2]]}',
        b'{"instances": [[1], 2]}',
        b'{"instances": []}',
        b'{"instances": [[]]}',
        b'{"inputs": []}',
        b'{"inputs": [[], []]}',
        b'{"instances": [1 2]}',
        b'{"instances": [1,]}',
        b'{"instances": [,1]}',
        b'{"instances": [1], }',
        b'{"instances": [1]}}',
        b'{"instances": [1]} 5',
        b'{"instances": [1]',
        b'{"instances": [1',
        b'{"instances": [01]}',
        b'{"instances": [+1]}',
        b'{"instances": [1.]}',
        b'{"instances": [.5]}',
        b'{"instances": [1e]}',
        b'{"instances": [-]}',
        b'{"instances": [e]}',
        b'{"instances": [1e999]}',
        b'{"instances": [-0, -0.0]}',
        b'{"instances": [16777216]}',
        b'{"instances": [16777216.0, 16777217.0]}',
        b'{"instances": [9007199254740993]}',
        b'{"instances": [18446744073709551616]}',
        b'{"instances": [18446744073709551615]}',
        b'{"instances": [9223372036854775808, -9223372036854775808]}',
        b'{"instances": [-9223372036854775809]}',
        b'{"instances": [2147483648]}',
        b'{"instances": [300, -200]}',
        b'{"instances": [1.0, 2.0]}',
        b'{"instances": [1, 2.5]}',
        b'{"instances": [1e2]}',
        b'{"instances": [3.5e38]}',
        b'{"instances": [1e-400, 1e-46, 5e-324]}',
        b'{"instances": [NaN, 1, Infinity, -Infinity, Inf]}',
        b'{"instances": [true]}',
        b'{"instances": [null]}',
        b'{"instances": ["1"]}',
        b'{"instances": [{}]}',
        b'{"instances": [1], "instances": [2]}',
        b'{"instances": [1], "inputs": [2]}',
        b'{"insteances": [1]}',
        b'{"instances1": [1]}',
        b'{"inputs": {"x": [1]}}',
        b'{"inputs": {"y": [1]}}',
        b'{"inputs": {"x": [1], "x": [2]}}',
        b'{"inputs": {"x": [1], "y": 2}}',
        b'{"instances": {"x": [1]}}',
        b'{"instances": [{"x": [1]}]}',
        b'{"inputs": {"x": 1}}',
        b'{"inputs": 1}',
        b'{"signature_name": "nobody", "instances": [1]}',
        b'{"signature_name": "nobody", "instances": [1 2]}',
        b'{"instances": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}',
        b'{"instances": [' + b"[" * 2000 + b"]" * 2000 + b"]}",
    ],
)
def test_bodies_that_look_like_numbers(body: bytes) -> None:
    for dtype in DTYPES:
        same(body, signature(inputs=[spec("x", None, dtype)]))


# --- both ways agree on anything ---

SCALARS = (
    st.integers(-(2**66), 2**66)
    | st.integers(-300, 300)
    | st.floats()
    | st.floats(width=32)
    | st.booleans()
    | st.none()
    | st.sampled_from(["", "a", "QUJD", "ä"])
    | st.sampled_from([{"b64": "QUJD"}, {"b64": "Q"}, {"x": {"b64": "QQ=="}}, {"x": 1}, {"x": [1.5]}, {"b64": 1}])
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=12)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "instances": TREES,
        "inputs": TREES,
        "signature_name": st.sampled_from(["serving_default", "nobody", "", 5]),
        "context": st.none(),
    },
)


@settings(max_examples=150)
@given(DOCUMENTS, st.sampled_from(DTYPES), st.sampled_from([None, 1]), st.data())
def test_both_ways_agree(document: dict[str, Any], dtype: str, indent: int | None, data: st.DataObject) -> None:
    body = json.dumps(document, indent=indent).encode()
    if data.draw(st.booleans()):
        # A fault somewhere: a character lost, doubled or replaced.
        place = data.draw(st.integers(0, len(body) - 1))
        piece = data.draw(
            st.sampled_from([b"", b" ", b"1", b",", b"[", b"]", b'"', b"}", b"e", b"\xff", body[place : place + 1] * 2])
        )
        body = body[:place] + piece + body[place + 1 :]
    same(body, signature(inputs=[spec("x", None, dtype)]))
    same(body, signature(inputs=[spec("x", None, dtype), spec("y", None)]))


@settings(max_examples=40)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=3), elements=st.floats(allow_nan=False, width=64)),
    st.sampled_from(["float32", "float64"]),
)
def test_both_ways_give_the_same_floats(array: np.ndarray, dtype: str) -> None:
    same(json.dumps({"instances": array.tolist()}).encode(), signature(inputs=[spec("x", None, dtype)]))


@settings(max_examples=60)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=3), elements=st.floats(width=32)),
    st.sampled_from(['{"instances": %s}', '{"signature_name": "e.3-5", "inputs": {"x": %s}}']),
    st.data(),
)
def test_both_ways_agree_on_damaged_bodies(array: np.ndarray, form: str, data: st.DataObject) -> None:
    body = (form % json.dumps(array.tolist())).encode()
    place = data.draw(st.integers(0, len(body) - 1))
    put = data.draw(st.sampled_from([b"", b"[", b"]", b"],[", b",", b"}", b"{", b'"', b"0", b"-", b"e", b" ", b"\\"]))
    cut = data.draw(st.integers(0, 3))
    signatures = [signature(name, inputs=[spec("x", None)]) for name in ("serving_default", "e.3-5")]
    decoder = PredictDecoder()
    for damaged in (body, body[:place], body[:place] + put + body[place + cut :], body):
        assert outcome(decoder.decode, damaged, of(*signatures)) == outcome(decode_predict, damaged, of(*signatures))


def test_the_shape_that_is_remembered_is_not_taken_for_another() -> None:
    decoder = PredictDecoder()
    find = of(signature(inputs=[spec("x", None)]))
    bodies = [
        b'{"inputs": [[1, 2]]}',
        b'{"inputs": {"x": [[1, 2]]}}',
        b'{"inputs": [[1], [2]]}',
        b'{"inputs": [[1, 2]]}}',
    ]
    for body in bodies * 2:
        assert outcome(decoder.decode, body, find) == outcome(decode_predict, body, find)


def test_a_decoder_goes_on_after_a_fault() -> None:
    decoder = PredictDecoder()
    find = of(FLOATS)
    for _ in range(3):
        assert decoder.decode_numbers(b'{"instances": [1e999]}', find) is None
        call = decoder.decode_numbers(b'{"instances": [1.5]}', find)
        assert call is not None
        kept = call.inputs["x"]
        decoder.decode_numbers(b'{"instances": [2.5]}', find)
        assert kept.tolist() == [1.5]
