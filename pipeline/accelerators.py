"""The truth about TensorFlow, GPU and TF-TRT on this machine, found out without risk to the asking process.

Nothing comes in but a time limit; an `Accelerators` goes out. Called by `pipeline.doctor`. TensorFlow itself is started
in a process that runs this module; whether TensorRT engines can be built is asked of `serving.convert.tftrt_probe`, as
every conversion to TF-TRT does.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

from serving.convert import child
from serving.convert.tftrt_probe import TrtStatus, tftrt_status
from serving.errors import ConversionError

# Importing TensorFlow takes 5 s, and ten times that on a busy machine without bytecode.
TIME_LIMIT = 120.0


@dataclass(frozen=True)
class Accelerators:
    """What the probe found.

    Attributes:
        tensorflow: the version that started, empty if it did not.
        gpus: names of the GPUs that TensorFlow sees.
        tftrt: whether engines can be built, or the first obstacle.
        reason: the obstacle in one sentence; empty if there is none.
        failure: why TensorFlow did not start, empty if it did.
    """

    tensorflow: str = ""
    gpus: tuple[str, ...] = ()
    tftrt: TrtStatus = "probe_failed"
    reason: str = ""
    failure: str = ""


def probe_accelerators(time_limit: float = TIME_LIMIT) -> Accelerators:
    """Ask TensorFlow in a subprocess.

    Args:
        time_limit: seconds after which a question is given up.
    """
    try:
        found = child.ask("pipeline.accelerators", {}, {"TF_CPP_MIN_LOG_LEVEL": "3"}, time_limit)
    except ConversionError as error:
        return Accelerators(reason=str(error), failure=str(error))
    status, reason = tftrt_status(time_limit)
    return Accelerators(found["tensorflow"], tuple(found["gpus"]), status, reason)


def _look() -> dict[str, Any]:
    """Start TensorFlow as a whole, in this process, and ask it for its GPUs."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return {"tensorflow": tf.__version__, "gpus": names}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(child.answer(sys.argv[1:], lambda question: _look()))
