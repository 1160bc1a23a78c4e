"""Whether this machine can build TensorRT engines with TensorFlow, and if not, what is in the way.

Comes in: nothing. Goes out: a status and a sentence. Called by `serving.convert.tftrt` and by whoever wants to know
before a model is converted. Asked in a process of its own, because TensorFlow aborts the process when the version of
a library is asked for that is not there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from serving.convert import child
from serving.errors import ConversionError

TrtStatus = Literal["ok", "not_built", "no_gpu", "no_libnvinfer", "version_mismatch", "probe_failed"]
Version = tuple[int, int, int]


@dataclass(frozen=True)
class Facts:
    """What the probe found; what it did not come to is None.

    Attributes:
        tensorflow: Version of TensorFlow; None if it is not installed.
        built: Whether TensorFlow was built with TensorRT.
        gpus: Number of GPUs that TensorFlow can use.
        linked: Version of TensorRT that TensorFlow was built against.
        libraries: Whether TensorFlow finds TensorRT's libraries.
        loaded: Version of these libraries.
    """

    tensorflow: str | None = None
    built: bool | None = None
    gpus: int | None = None
    linked: Version | None = None
    libraries: bool | None = None
    loaded: Version | None = None


def tftrt_status(timeout_seconds: float = 120) -> tuple[TrtStatus, str]:
    """Find out whether TensorRT engines can be built here.

    Args:
        timeout_seconds: Time limit of the probe.

    Returns:
        The status, and the reason in one sentence; empty if ok. `probe_failed` if the process that asked was ended.
    """
    try:
        found = child.ask("serving.convert.tftrt_probe", {}, {"TF_CPP_MIN_LOG_LEVEL": "2"}, timeout_seconds)
    except ConversionError as error:
        return "probe_failed", f"the probe for TensorRT did not come to an end: {error}."
    return judge(facts_from(found))


def judge(facts: Facts) -> tuple[TrtStatus, str]:
    """Tell status and reason from what was found, the first obstacle first."""
    if facts.tensorflow is None:
        return "not_built", "TensorFlow is not installed; pip install 'tfx-slipway[serving]'."
    if not facts.built:
        return "not_built", (
            f"TensorFlow {facts.tensorflow} was built without TensorRT; TF-TRT needs the package tensorflow, 2.17 or "
            "older, on Linux x86-64."
        )
    if not facts.gpus:
        return "no_gpu", (
            "TensorFlow finds no GPU here; engines have to be built on the same model of GPU that will serve them."
        )
    linked = _dotted(facts.linked)
    if not facts.libraries:
        return "no_libnvinfer", (
            f"TensorFlow finds no libnvinfer.so.{linked} and libnvinfer_plugin.so.{linked}; install TensorRT {linked} "
            "and put its directory on LD_LIBRARY_PATH."
        )
    if facts.linked is None or facts.loaded is None or not _compatible(facts.loaded, facts.linked):
        return "version_mismatch", (
            f"the libraries are TensorRT {_dotted(facts.loaded)}; TensorFlow {facts.tensorflow} needs {linked} or a "
            "later one of the same major version."
        )
    return "ok", ""


def facts(count_gpus: Callable[[], int] | None = None) -> Facts:
    """Look, in this process, one step after the other; stops at the first obstacle. May abort the process.

    Args:
        count_gpus: How to count the GPUs; None asks TensorFlow.
    """
    try:
        from tensorflow.python.framework.versions import VERSION
        from tensorflow.python.platform import build_info
    except ImportError:
        return Facts()
    if not build_info.build_info.get("is_tensorrt_build"):
        return Facts(VERSION, built=False)
    gpus = (count_gpus or _count_gpus)()
    if not gpus:
        return Facts(VERSION, True, gpus)
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    linked = tuple(_pywrap_py_utils.get_linked_tensorrt_version())
    if not _pywrap_py_utils.is_tensorrt_enabled():
        return Facts(VERSION, True, gpus, linked, False)
    return Facts(VERSION, True, gpus, linked, True, tuple(_pywrap_py_utils.get_loaded_tensorrt_version()))


def facts_from(data: Mapping[str, Any]) -> Facts:
    """Read the facts back from JSON, where tuples are lists."""
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return Facts(**plain)


def _count_gpus() -> int:
    from tensorflow.python.framework import config

    return len(config.list_physical_devices("GPU"))


def _compatible(loaded: Version, linked: Version) -> bool:
    return loaded[0] == linked[0] and loaded >= linked


def _dotted(version: Version | None) -> str:
    return ".".join(map(str, version)) if version else "of an unknown version"


if __name__ == "__main__":
    from serving import lean_tensorflow

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    lean_tensorflow.install()
    sys.exit(child.answer(sys.argv[1:], lambda question: asdict(facts())))
