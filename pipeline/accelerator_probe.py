"""What TensorFlow says about GPU and TF-TRT, asked in a process of its own.

Run as a script by `pipeline.accelerators`, never imported: one of TensorFlow's own questions
(`get_loaded_tensorrt_version`) aborts the process where libnvinfer is missing. Prints one JSON
object a line, each as soon as it is known, so that an abort loses only what came after it.
"""

from __future__ import annotations

import json


def say(**facts: object) -> None:
    """Print some facts at once."""
    print(json.dumps(facts), flush=True)


def probe() -> None:
    """Climb the ladder: built with TF-TRT, a GPU, libnvinfer, a fitting version; each asked only if safe."""
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    say(tensorflow=tf.__version__, cuda_build=bool(build.get("is_cuda_build")))
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    say(gpus=names)
    if not build.get("is_tensorrt_build"):
        say(tftrt="not_built")
        return
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils as trt

    linked = trt.get_linked_tensorrt_version()
    say(linked=".".join(map(str, linked)))
    if not gpus:
        say(tftrt="no_gpu")
    elif not trt.is_tensorrt_enabled():
        say(tftrt="no_libnvinfer")
    else:
        loaded = trt.get_loaded_tensorrt_version()
        say(tftrt="version_mismatch" if loaded < linked else "ok", loaded=".".join(map(str, loaded)))


if __name__ == "__main__":
    probe()
