"""Answers to Predict calls as bytes: what TensorFlow's own protos read in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.server.grpc_api.responses import response
from serving.wire.messages import PredictResponse
from serving.wire.tensors import write_tensor

NUMBERS = (
    "float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool",
    "complex64", "complex128", ">f4",
)  # fmt: skip
ARRAYS = st.one_of(
    st.sampled_from(NUMBERS).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    st.lists(st.binary(max_size=5), max_size=3).map(lambda items: np.array([*items, b""], object)[:-1]),
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3), st.booleans(), st.integers(0, 2**63 - 1))
def test_the_bytes_are_those_of_the_message(outputs: dict[str, np.ndarray], tensor_content: bool, version: int) -> None:
    expected: Any = PredictResponse()
    expected.model_spec.name = "m"
    expected.model_spec.version.value = version
    expected.model_spec.signature_name = "serving_default"
    for name, array in outputs.items():
        write_tensor(array, expected.outputs[name], content=tensor_content)
    for _ in range(2):
        found = response("m", version, "", outputs, tensor_content=tensor_content)
        assert PredictResponse.FromString(found).SerializeToString(deterministic=True) == expected.SerializeToString(
            deterministic=True
        )


@pytest.mark.parametrize("tensor_content", [False, True])
def test_tensorflow_reads_them(tensor_content: bool) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    outputs = {
        "scores": np.array([[np.nan, np.inf], [-0.0, 1e-45]], np.float32),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "scalar": np.float32(2.5).reshape(()),
        "label": np.array([b"cat", b"\xff"], object),
        "count": np.array([1, -1], np.int64),
    }
    answer = predict_pb2.PredictResponse.FromString(response("pets", 7, "top", outputs, tensor_content=tensor_content))
    assert (answer.model_spec.name, answer.model_spec.version.value, answer.model_spec.signature_name) == (
        "pets", 7, "top",
    )  # fmt: skip
    assert bool(answer.outputs["scores"].tensor_content) == tensor_content
    for name, array in outputs.items():
        found = tf.make_ndarray(answer.outputs[name])
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_a_type_that_tensorflow_lacks() -> None:
    with pytest.raises(ValueError, match="datetime64"):
        response("m", 1, "", {"y": np.zeros(1, "datetime64[s]")}, tensor_content=False)
