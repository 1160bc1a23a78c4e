"""Our tensors against TensorFlow's own, both ways."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.wire import tensors
from serving.wire.messages import TensorProto, TypedTensorProto
from serving.wire.tensors import read_tensor, write_tensor

NUMERIC = (
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@pytest.fixture(scope="module")
def tf_tensors() -> Any:
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.python.framework import tensor_util

    class TensorFlow:
        @staticmethod
        def parse(data: bytes) -> np.ndarray:
            return tensor_util.MakeNdarray(tensor_pb2.TensorProto.FromString(data))

        @staticmethod
        def content(array: np.ndarray) -> bytes:
            return bytes(tensor_util.make_tensor_proto(array).SerializeToString())

        @staticmethod
        def fields(array: np.ndarray) -> bytes:
            """As the C++ server writes it: each value in the field of its type."""
            from tensorflow.python.framework import dtypes

            proto = tensor_pb2.TensorProto(dtype=dtypes.as_dtype(array.dtype).as_datatype_enum)
            for size in array.shape:
                proto.tensor_shape.dim.add().size = size
            tensor_util.GetNumpyAppendFn(array.dtype)(proto, array.ravel())
            return bytes(proto.SerializeToString())

    return TensorFlow


def written(array: np.ndarray, content: bool) -> bytes:
    proto = TensorProto()
    write_tensor(array, proto, content=content)
    return bytes(proto.SerializeToString())


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
    else:
        # Equal, with every NaN equal to every other: Python's floats do not keep the payload of a NaN.
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("content", [True, False], ids=["content", "fields"])
@pytest.mark.parametrize("dtype", NUMERIC)
def test_tensorflow_reads_what_we_write(dtype: str, content: bool, tf_tensors: Any) -> None:
    @settings(max_examples=15, deadline=None)
    @given(hnp.arrays(dtype, SHAPES))
    def check(array: np.ndarray) -> None:
        data = written(array, content)
        assert_same(read_tensor(TensorProto.FromString(data)), array)
        assert_same(np.asarray(tf_tensors.parse(data)), array)

    check()


@pytest.mark.parametrize("dtype", NUMERIC)
def test_we_read_what_tensorflow_writes(dtype: str, tf_tensors: Any) -> None:
    @settings(max_examples=15, deadline=None)
    @given(hnp.arrays(dtype, SHAPES))
    def check(array: np.ndarray) -> None:
        assert_same(read_tensor(TensorProto.FromString(tf_tensors.content(array))), array)
        assert_same(read_tensor(TensorProto.FromString(tf_tensors.fields(array))), array)

    check()


@pytest.mark.parametrize("content", [True, False], ids=["content", "fields"])
def test_bfloat16(content: bool, tf_tensors: Any) -> None:
    array = np.array([[1.5, -2.0], [0.0, np.inf]], ml_dtypes.bfloat16)
    data = written(array, content)
    assert_same(read_tensor(TensorProto.FromString(data)), array)
    np.testing.assert_array_equal(np.asarray(tf_tensors.parse(data)).astype("float32"), array.astype("float32"))


@given(hnp.arrays(object, SHAPES, elements=st.binary(max_size=8)))
def test_strings_survive(array: np.ndarray) -> None:
    assert_same(read_tensor(TensorProto.FromString(written(array, True))), array)


def test_strings_agree_with_tensorflow(tf_tensors: Any) -> None:
    array = np.array([[b"", b"a\0"], [b"\xff" * 300, "grün".encode()]], object)
    data = written(array, False)
    assert_same(np.asarray(tf_tensors.parse(data)), array)
    assert_same(read_tensor(TensorProto.FromString(tf_tensors.content(array))), array)


def test_strings_in_tensor_content_are_read_as_the_cpp_server_reads_them() -> None:
    proto = TensorProto(dtype=7, tensor_content=bytes([3, 0, 2]) + b"abcde")
    proto.tensor_shape.dim.add().size = 3
    assert read_tensor(proto).tolist() == [b"abc", b"", b"de"]
    for damaged in (bytes([3, 0]), bytes([3, 0, 2]) + b"abcd", bytes([3, 0, 0x80])):
        proto.tensor_content = damaged
        with pytest.raises(ValueError, match="tensor_content"):
            read_tensor(proto)


def test_text_is_written_as_utf8_and_other_objects_are_refused() -> None:
    assert read_tensor(TensorProto.FromString(written(np.array(["ä"], object), True))).tolist() == ["ä".encode()]
    assert read_tensor(TensorProto.FromString(written(np.array(["ab", "c"]), True))).tolist() == [b"ab", b"c"]
    with pytest.raises(ValueError, match="int"):
        written(np.array([1, b"a"], object), True)


@pytest.mark.parametrize("order", [">f4", ">i8"])
def test_other_byte_orders_and_gaps_make_no_difference(order: str) -> None:
    array = np.arange(12).astype(order).reshape(3, 4)[:, ::2]
    for content in (True, False):
        found = read_tensor(TensorProto.FromString(written(array, content)))
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("dtype", NUMERIC)
def test_a_missing_value_repeats_the_last_and_a_surplus_is_cut(dtype: str, tf_tensors: Any) -> None:
    proto = TensorProto.FromString(written(np.array([1, 0, 1], dtype), False))
    del proto.tensor_shape.dim[:]
    proto.tensor_shape.dim.add().size = 5
    assert_same(read_tensor(proto), np.array([1, 0, 1, 1, 1], dtype))
    assert_same(np.asarray(tf_tensors.parse(proto.SerializeToString())), np.array([1, 0, 1, 1, 1], dtype))
    proto.tensor_shape.dim[0].size = 2
    assert_same(read_tensor(proto), np.array([1, 0], dtype))
    empty = TensorProto(dtype=proto.dtype)
    empty.tensor_shape.dim.add().size = 2
    assert_same(read_tensor(empty), np.zeros(2, dtype))


@pytest.mark.parametrize("dtype", NUMERIC)
def test_values_that_a_writer_did_not_pack_are_read(dtype: str) -> None:
    array = np.array([1, 0, 1], dtype)
    packed = TypedTensorProto.FromString(written(array, False))
    fields = {field.name: field for field in TypedTensorProto.DESCRIPTOR.fields}
    name = next(field.name for field, _ in packed.ListFields() if field.name.endswith("_val"))
    data = bytearray()
    for value in getattr(packed, name):
        one = TypedTensorProto(**{name: [value]}).SerializeToString()
        tag = fields[name].number << 3
        width = {"float_val": 4, "scomplex_val": 4, "double_val": 8, "dcomplex_val": 8}.get(name)
        # A packed field of one value is tag, length, value: the unpacked one has another tag and no length.
        payload = one[-width:] if width else one[2 + (tag > 127) :]
        wire_type = {4: 5, 8: 1, None: 0}[width]
        data += _varint(tag | wire_type) + payload
    getattr(packed, name)[:] = []
    proto = TensorProto.FromString(packed.SerializeToString() + bytes(data))
    assert_same(read_tensor(proto), array)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def test_packed_values_in_two_pieces_are_joined() -> None:
    proto = TensorProto(dtype=1, float_val=[np.float32([1, 2]).tobytes(), np.float32([3]).tobytes()])
    proto.tensor_shape.dim.add().size = 3
    assert read_tensor(proto).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": 0}, "DataType 0"),
        ({"dtype": 20}, "DataType 20"),
        ({"tensor_content": b"123"}, "3 bytes of tensor_content"),
        ({"float_val": [b"123"]}, "float_val"),
    ],
    ids=["no type", "resource", "short content", "half a float"],
)
def test_damaged_tensors_are_refused(change: dict[str, Any], message: str) -> None:
    proto = TensorProto(**({"dtype": 1} | change))
    proto.tensor_shape.dim.add().size = 2
    with pytest.raises(ValueError, match=message):
        read_tensor(proto)


def test_sizes_that_make_no_tensor_are_refused() -> None:
    proto = TensorProto(dtype=1)
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="shape"):
        read_tensor(proto)
    negative = TensorProto(dtype=1)
    negative.tensor_shape.dim.add().size = -1
    with pytest.raises(ValueError, match="shape"):
        read_tensor(negative)


@pytest.mark.parametrize("dtype", [1, 7])
def test_a_few_bytes_cannot_ask_for_all_memory(dtype: int) -> None:
    proto = TensorProto(dtype=dtype)
    proto.tensor_shape.dim.add().size = tensors.MAX_REPEATED_BYTES
    with pytest.raises(ValueError, match="more than"):
        read_tensor(proto)


@pytest.mark.filterwarnings("ignore:Unexpected end-group tag")
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    from google.protobuf.message import DecodeError

    try:
        proto = TensorProto.FromString(b"\x08\x01" + data)
        read_tensor(proto)
    except (DecodeError, ValueError):
        pass


def test_types_that_tensorflow_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="datetime64"):
        written(np.array(["2020-01-01"], "datetime64[D]"), True)
