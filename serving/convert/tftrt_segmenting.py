"""The process that runs TensorFlow's TensorRT segmenter on a machine that has neither TensorRT nor a GPU.

Comes in: the question of `serving.convert.tftrt_segments`. Goes out: its answer. Never imported by anything else: it
gives TensorFlow stand-ins for libraries and for a device.

TensorFlow loads TensorRT's libraries only to ask for their version and to register plugins, as long as no engine is
built. Two libraries that answer exactly these questions are compiled at run time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.convert import child
from serving.convert.tftrt import TrtSettings, converter
from serving.convert.tftrt_probe import Version
from serving.convert.tftrt_segments import coverage_of
from serving.errors import ConversionError

_DEVICE = "/gpu:0"


def respond(question: Mapping[str, Any]) -> dict[str, Any]:
    """Segment a model and count.

    Args:
        question: What `serving.convert.tftrt_segments.segments` asks.

    Returns:
        The fields of a `Coverage`.

    Raises:
        ConversionError: TensorFlow was built without TensorRT, the compiler fails, or the model cannot be read.
    """
    from serving.convert import source

    _provide_libraries(question["compiler"], Path(question["libraries"]))
    _provide_device()
    settings = TrtSettings(precision=question["precision"], minimum_segment_size=question["minimum_segment_size"])
    model = source.open_source(question["saved_model"], question["signature"], question["options"])
    with tempfile.TemporaryDirectory(prefix="source-") as scratch:
        trt = converter(source.save(model, Path(scratch) / "model"), settings)
        # A function that is asked for images only when engines are built, which never happens here.
        function = trt.convert((lambda: iter(())) if settings.calibrated else None)
    return coverage_of(function.graph.as_graph_def(), Path(question["report"])).to_dict()


def library_sources(version: Version) -> dict[str, str]:
    """C source by file name of the libraries that TensorFlow looks for.

    Args:
        version: The version of TensorRT that TensorFlow was built against.
    """
    major, minor, patch = version
    ending = f"so.{major}.{minor}.{patch}"
    return {
        f"libnvinfer.{ending}": f"int getInferLibVersion(void) {{ return {major * 1000 + minor * 100 + patch}; }}\n",
        f"libnvinfer_plugin.{ending}": (
            "int initLibNvInferPlugins(void *logger, const char *name_space) { return 1; }\n"
            "void *getPluginRegistry(void) { return 0; }\n"
        ),
    }


def compile_libraries(compiler: str, directory: Path, version: Version) -> None:
    """Compile the stand-ins.

    Args:
        compiler: A C compiler.
        directory: Where the libraries go.
        version: The version of TensorRT that they shall claim.

    Raises:
        ConversionError: The compiler fails.
    """
    for name, text in library_sources(version).items():
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(directory / name)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConversionError(f"the C compiler {compiler} cannot make {name}: {last[:300]}.")


def _provide_libraries(compiler: str, directory: Path) -> None:
    from tensorflow.python.platform import build_info

    if not build_info.build_info.get("is_tensorrt_build"):
        raise ConversionError("this TensorFlow was built without TensorRT and has no segmenter.")
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    if not _pywrap_py_utils.is_tensorrt_enabled():
        compile_libraries(compiler, directory, _pywrap_py_utils.get_linked_tensorrt_version())
    if not _pywrap_py_utils.is_tensorrt_enabled():
        raise ConversionError("TensorFlow does not find the stand-ins for TensorRT's libraries.")


def _provide_device() -> None:
    """Let the converter believe that new tensors are placed on a GPU; it asks for nothing else."""
    from tensorflow.python.compiler.tensorrt import trt_convert

    real = trt_convert.array_ops

    class OnGpu:
        device = _DEVICE

    class ArrayOps:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def zeros(self, *arguments: Any, **named: Any) -> Any:
            return OnGpu()

    trt_convert.array_ops = ArrayOps()


if __name__ == "__main__":
    sys.exit(child.answer(sys.argv[1:], respond))
