"""Real images as examples, and a way to load a SavedModel as TensorFlow Serving does."""

from __future__ import annotations

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transform import features


def example(encoded: bytes, label: int) -> bytes:
    """Serialize an example with the two features that a trainer reads."""
    import tensorflow as tf

    feature = {
        features.IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        features.LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 handwritten digits of scikit-learn: uint8 [N, 8, 8, 1] and int64 [N]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8)[..., np.newaxis], data.target.astype(np.int64)


@pytest.fixture(scope="session")
def digit_examples(digits: tuple[np.ndarray, np.ndarray]) -> list[bytes]:
    """The first 300 digits as PNG in serialized examples."""
    import tensorflow as tf

    images, labels = digits
    return [
        example(tf.io.encode_png(image).numpy(), int(label)) for image, label in zip(images[:300], labels, strict=False)
    ]


@pytest.fixture(scope="session")
def photographs() -> list[bytes]:
    """Five JPEG cuttings of scikit-learn's two photographs, in colour and of several sizes."""
    import tensorflow as tf
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    cuts = [
        china[:200, :300],
        china[100:132, 200:232],
        flower[:427, :640],
        flower[50:67, 300:423],
        china[::4, ::4],
    ]
    return [tf.io.encode_jpeg(cut, quality=90).numpy() for cut in cuts]


@pytest.fixture
def write_records(tmp_path: Path) -> Callable[..., str]:
    """A function that writes serialized examples to a gzip file and returns its path."""
    import tensorflow as tf

    def write(examples: list[bytes], name: str = "data_tfrecord-00000-of-00001.gz") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for one in examples:
                writer.write(one)
        return str(path)

    return write


@pytest.fixture(scope="session")
def load_as_serving() -> Callable[[Path], Callable[..., dict[str, np.ndarray]]]:
    """A function that loads a SavedModel as TensorFlow Serving does: graph, restore op, init op."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    def load(folder: Path) -> Callable[..., dict[str, np.ndarray]]:
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        meta = next(graph for graph in saved.meta_graphs if set(graph.meta_info_def.tags) == {"serve"})
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(meta.graph_def, name="")
        session = tf.compat.v1.Session(graph=graph)
        saver = meta.saver_def
        session.run(saver.restore_op_name, {saver.filename_tensor_name: str(folder / "variables" / "variables")})
        init = meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"]
        session.run(init.name.split(":")[0])

        def predict(signature: str, **inputs: Any) -> dict[str, np.ndarray]:
            definition = meta.signature_def[signature]
            feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
            return session.run({name: info.name for name, info in definition.outputs.items()}, feeds)

        return predict

    return load
