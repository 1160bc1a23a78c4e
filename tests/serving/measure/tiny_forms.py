"""A tiny classifier whose figures are known by hand, in every form that is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (8, 8, 2)
CLASSES = 3
# conv 3x3, 2 -> 4, same: 8*8*4*3*3*2; depthwise 3x3, stride 2: 4*4*4*3*3; conv 1x1, 4 -> 6: 4*4*6*4;
# transposed conv 2x2, stride 2, 6 -> 2: 4*4*6*2*2*2; dense 128 -> 3.
MULTIPLY_ADDS = 8 * 8 * 4 * 18 + 4 * 4 * 4 * 9 + 4 * 4 * 6 * 4 + 4 * 4 * 6 * 4 * 2 + 128 * 3
PARAMETERS = (18 * 4 + 4) + (9 * 4 + 4) + (4 * 6 + 6) + (4 * 2 * 6 + 2) + (128 * 3 + 3)
# One kernel, the dense one, is half zeros.
ZEROS = 192
KERNELS = 18 * 4 + 9 * 4 + 4 * 6 + 4 * 2 * 6 + 128 * 3


@dataclass(frozen=True)
class Tiny:
    """Where the forms of the tiny classifier lie, and one call of it."""

    saved_model: Path
    float32: Path
    float16: Path
    int8: Path
    sparse: Path
    onnx: Path
    openvino: Path


def tiny_weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    shapes = {
        "conv": (3, 3, 2, 4),
        "conv_bias": (4,),
        "depthwise": (3, 3, 4, 1),
        "depthwise_bias": (4,),
        "point": (1, 1, 4, 6),
        "point_bias": (6,),
        "up": (2, 2, 2, 6),
        "up_bias": (2,),
        "dense": (128, 3),
        "dense_bias": (3,),
    }
    weights = {
        name: generator.uniform(0.1, 0.5, shape).astype(np.float32) * generator.choice([-1.0, 1.0], shape)
        for name, shape in shapes.items()
    }
    weights["dense"].reshape(-1)[::2] = 0
    return {name: values.astype(np.float32) for name, values in weights.items()}


def network(image: Any, weights: Any) -> Any:
    import tensorflow as tf

    x = tf.nn.relu(tf.nn.conv2d(image, weights["conv"], 1, "SAME") + weights["conv_bias"])
    x = tf.nn.depthwise_conv2d(x, weights["depthwise"], [1, 2, 2, 1], "SAME") + weights["depthwise_bias"]
    x = tf.nn.relu(tf.nn.conv2d(tf.nn.relu(x), weights["point"], 1, "SAME") + weights["point_bias"])
    size = tf.stack([tf.shape(x)[0], 8, 8, 2])
    x = tf.nn.conv2d_transpose(x, weights["up"], size, 2, "SAME") + weights["up_bias"]
    x = tf.matmul(tf.reshape(tf.nn.relu(x), [-1, 128]), weights["dense"]) + weights["dense_bias"]
    return tf.nn.softmax(x)


def build_saved_model(directory: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.weights = {name: tf.Variable(values) for name, values in tiny_weights().items()}

    def classify(image: Any) -> dict[str, Any]:
        probabilities = network(image, module.weights)
        return {"probabilities": probabilities, "class_id": tf.argmax(probabilities, axis=1)}

    def of_floats(image: Any) -> dict[str, Any]:
        return classify(image)

    def of_pixels(image: Any) -> dict[str, Any]:
        return classify(tf.cast(image, tf.float32) / 255.0)

    signatures = {}
    for name, function, dtype in (("predict_float", of_floats, tf.float32), ("predict_uint8", of_pixels, tf.uint8)):
        spec = tf.TensorSpec([None, *SHAPE], dtype, name="image")
        signatures[name] = tf.function(function, input_signature=[spec], autograph=False)
    module.signatures_kept_alive = list(signatures.values())
    tf.saved_model.save(module, str(directory), signatures=signatures)


def build_tflite(saved_model: Path, path: Path, kind: str) -> Path:
    import tensorflow as tf

    module = tf.saved_model.load(str(saved_model))
    spec = tf.TensorSpec([None, *SHAPE], tf.float32, name="image")
    signature = module.signatures["predict_float"]
    function = tf.function(
        lambda image: {"probabilities": signature(image=image)["probabilities"]},
        input_signature=[spec],
        autograph=False,
    )
    holder = tf.Module()
    holder.model, holder.predict = module, function
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], holder)
    if kind == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    elif kind == "sparse":
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    elif kind == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        generator = np.random.default_rng(1)
        samples = [generator.random((1, *SHAPE), np.float32) for _ in range(8)]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    path.write_bytes(converter.convert())
    return path


def build_onnx(path: Path) -> Path:
    """The same network, written with ONNX's own operations, image first transposed to channels first."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = tiny_weights()
    stored = {
        "conv": weights["conv"].transpose(3, 2, 0, 1),
        "depthwise": weights["depthwise"].transpose(2, 3, 0, 1),
        "point": weights["point"].transpose(3, 2, 0, 1),
        "up": weights["up"].transpose(3, 2, 0, 1),
        "dense": weights["dense"],
        **{name: values for name, values in weights.items() if name.endswith("bias")},
        "flat": np.array([-1, 128], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["a"], perm=[0, 3, 1, 2]),
        node("Conv", ["a", "conv", "conv_bias"], ["b"], pads=[1, 1, 1, 1]),
        node("Relu", ["b"], ["c"]),
        node("Conv", ["c", "depthwise", "depthwise_bias"], ["d"], pads=[0, 0, 1, 1], strides=[2, 2], group=4),
        node("Relu", ["d"], ["e"]),
        node("Conv", ["e", "point", "point_bias"], ["f"]),
        node("Relu", ["f"], ["g"]),
        node("ConvTranspose", ["g", "up", "up_bias"], ["h"], strides=[2, 2]),
        node("Relu", ["h"], ["i"]),
        node("Transpose", ["i"], ["j"], perm=[0, 2, 3, 1]),
        node("Reshape", ["j", "flat"], ["k"]),
        node("Gemm", ["k", "dense", "dense_bias"], ["l"]),
        node("Softmax", ["l"], ["probabilities"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *SHAPE])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])
    initializers = [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in stored.items()]
    graph = helper.make_graph(nodes, "tiny", [image], [answer], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def build_openvino(onnx_path: Path, path: Path) -> Path:
    import openvino

    openvino.save_model(openvino.convert_model(str(onnx_path)), str(path), compress_to_fp16=True)
    return path
