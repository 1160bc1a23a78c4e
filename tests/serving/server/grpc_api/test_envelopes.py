"""Requests whose envelope is known: always what protobuf would have said."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.server.grpc_api.envelopes import Envelopes, Parsed
from serving.server.grpc_api.predict import parsed
from serving.server.status import StatusError
from serving.wire.messages import PredictRequest, TypedTensorProto
from serving.wire.tensors import write_tensor

FLOATS = np.arange(100, dtype=np.float32)
DTYPES = ("float32", "float64", "float16", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64")


def outcome(read: Any, message: bytes) -> Any:
    """What a reader says, in a form in which NaN equals NaN."""
    try:
        found: Parsed | None = read(message)
    except StatusError as error:
        return error.code, error.message
    if found is None:
        return None
    inputs = {
        name: (array.dtype, array.shape, array.tolist() if array.dtype == object else array.tobytes())
        for name, array in found.inputs.items()
    }
    return found.spec, inputs, found.outputs


def request(array: np.ndarray, *, content: bool, name: str = "m", key: str = "x", **fields: Any) -> Any:
    message = PredictRequest(**fields)
    message.model_spec.name = name
    write_tensor(array, message.inputs[key], content=content)
    return message


def learned(*messages: bytes) -> Envelopes:
    envelopes = Envelopes(parsed)
    for message in messages:
        envelopes.learn(message, parsed(message))
    return envelopes


def others(array: np.ndarray) -> st.SearchStrategy[np.ndarray]:
    """Arrays of the same type and shape, of any bits: NaN, infinities, subnormal numbers, minus zero."""
    return st.binary(min_size=array.nbytes, max_size=array.nbytes).map(
        lambda data: np.frombuffer(data, array.dtype).reshape(array.shape)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, max_side=8).map(lambda s: (*s, 33)))
    ),
    st.booleans(),
    st.sampled_from([{}, {"output_filter": ["y", "x"]}]),
    st.sampled_from(["m", "ä" * 90]),
    st.data(),
)
def test_a_known_envelope_gives_what_protobuf_gives(
    array: np.ndarray, content: bool, fields: dict[str, Any], name: str, data: st.DataObject
) -> None:
    first = request(array, content=content, name=name, **fields).SerializeToString(deterministic=True)
    other = request(data.draw(others(array)), content=content, name=name, **fields).SerializeToString(
        deterministic=True
    )
    envelopes = learned(first)
    for message in (first, other):
        quick = outcome(envelopes.open, message)
        if content and array.nbytes >= 256:
            assert quick is not None
        assert quick in (None, outcome(parsed, message))


@pytest.mark.parametrize("content", [True, False])
def test_floats_take_the_shortcut_in_either_field(content: bool) -> None:
    envelopes = learned(request(FLOATS, content=content).SerializeToString())
    strange = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, *range(95)], np.float32)
    message = request(strange, content=content).SerializeToString()
    assert outcome(envelopes.open, message) == outcome(parsed, message) != None  # noqa: E711


@settings(max_examples=80, deadline=None)
@given(st.booleans(), st.data())
def test_damaged_requests_are_not_taken_for_others(content: bool, data: st.DataObject) -> None:
    message = request(FLOATS, content=content, output_filter=["y"]).SerializeToString()
    envelopes = learned(message)
    place = data.draw(st.integers(0, len(message) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                message[:place],
                message[place:],
                message[:place] + message[place + 1 :],
                message[:place] + bytes([message[place] ^ data.draw(st.integers(1, 255))]) + message[place + 1 :],
                message + message[:place],
            ]
        )
    )
    assert outcome(envelopes.open, damaged) in (None, outcome(parsed, damaged))


def odd_requests() -> dict[str, bytes]:
    """Requests in which the bytes of the numbers stand somewhere, but are not all that counts."""
    plain = request(FLOATS, content=True).SerializeToString()
    twice = request(FLOATS, content=True).SerializeToString() + request(-FLOATS, content=True).SerializeToString()
    two = request(FLOATS, content=True)
    write_tensor(FLOATS, two.inputs["y"], content=True)
    long = TypedTensorProto(dtype=1, float_val=[*FLOATS.tolist(), 5.0, 6.0])
    long.tensor_shape.dim.add().size = FLOATS.size
    few = TypedTensorProto(dtype=1, float_val=FLOATS[:80].tolist())
    few.tensor_shape.dim.add().size = FLOATS.size
    small = request(np.zeros(2, np.float32), content=True).SerializeToString()
    unknown = b"\xa2\x06" + b"\x90\x03" + FLOATS.tobytes()  # field 100, the same bytes
    same = request(np.zeros(400, np.int8), content=False).SerializeToString()

    def spliced(tensor: Any) -> bytes:
        data = tensor.SerializeToString()
        entry = b"\x0a\x01x\x12" + bytes([len(data) & 127 | 128, len(data) >> 7]) + data
        return b"\x0a\x03\x0a\x01m\x12" + bytes([len(entry) & 127 | 128, len(entry) >> 7]) + entry

    return {
        "twice": twice, "two inputs": two.SerializeToString(), "more values than elements": spliced(long),
        "fewer values than elements": spliced(few), "small": small, "unknown field before": unknown + plain,
        "unknown field behind": plain + unknown, "integers as varints": same,
        "unpacked": plain.replace(FLOATS.tobytes(), b"".join(b"\x2d" + struct.pack("<f", one) for one in FLOATS)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", odd_requests())
def test_odd_requests(kind: str) -> None:
    message = odd_requests()[kind]
    envelopes = Envelopes(parsed)
    try:
        envelopes.learn(message, parsed(message))
    except StatusError:
        return
    start = message.find(FLOATS.tobytes()[:300])
    for place in {start, start + 160, message.rfind(FLOATS.tobytes()[:300])} - {-1}:
        other = message[:place] + b"\x41" * 4 + message[place + 4 :]
        assert outcome(envelopes.open, other) in (None, outcome(parsed, other))
    assert outcome(envelopes.open, message) in (None, outcome(parsed, message))


def test_models_of_equally_long_names_are_told_apart() -> None:
    messages = [request(FLOATS, content=True, name=name).SerializeToString() for name in "abcdef"]
    envelopes = learned(*messages)
    known = [envelopes.open(message) for message in messages]
    assert [one and one.spec.name for one in known] == [None, None, "c", "d", "e", "f"]


def test_only_so_many_envelopes_are_kept() -> None:
    messages = [request(np.zeros(100 + n, np.float32), content=True).SerializeToString() for n in range(70)]
    envelopes = learned(*messages)
    assert [envelopes.open(message) is not None for message in messages] == [False] * 6 + [True] * 64
