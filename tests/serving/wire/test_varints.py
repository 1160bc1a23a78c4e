from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.wire import varints
from serving.wire.messages import TypedTensorProto

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")


@pytest.mark.parametrize("dtype", INTEGERS)
def test_numbers_survive_the_way_there_and_back(dtype: str) -> None:
    @given(hnp.arrays(dtype, st.integers(0, 40)))
    def check(values: np.ndarray) -> None:
        np.testing.assert_array_equal(varints.decode(varints.encode(values)).astype(dtype), values)

    check()


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_bytes_are_those_of_protobuf(values: list[int]) -> None:
    packed = varints.encode(np.array(values, np.int64))
    message = TypedTensorProto(int64_val=values).SerializeToString()
    assert message.endswith(packed)
    assert list(TypedTensorProto.FromString(message).int64_val) == values
    assert varints.decode(packed).view(np.int64).tolist() == values


@pytest.mark.parametrize("data", [b"\x80", b"\x01\xff", b"\xff" * 10 + b"\x01"], ids=["cut", "cut later", "too long"])
def test_damaged_numbers_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="packed integer"):
        varints.decode(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        values = varints.decode(data)
    except ValueError:
        return
    assert values.dtype == np.uint64
    assert values.size == sum(octet < 0x80 for octet in data)
