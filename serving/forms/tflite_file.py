"""Whether a .tflite file is whole, before a runtime gets it.

Comes in: the content of a file from anywhere. Goes out: nothing, or the reason. Called by `serving.forms.tflite`.

The runtime follows the offsets of a FlatBuffer without checking them, so a truncated file ends the process. Two
gates stand before it: this process walks the whole structure in Python, and another one runs the model once.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving.errors import ServingError

IDENTIFIER = b"TFL3"
_TIMEOUT_SECONDS = 120
_REMEDY = "it is damaged or truncated; convert or copy it again"
_MALFORMED = (
    struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip
# Bytes of an element by type of schema.fbs; types of other sizes (strings, variants, 4 bits) are left out.
_WIDTHS = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 8: 8, 9: 1, 10: 8, 11: 16, 12: 8, 15: 4, 16: 2}
_run_before: set[str] = set()


def check_structure(content: bytes, where: str) -> None:
    """Walk a TFLite file from end to end.

    Args:
        content: The file.
        where: Its name, for messages.

    Raises:
        ServingError: It is no TFLite file, or something in it points outside, or a constant lacks bytes.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise ServingError(f"{where} ({len(content):,} bytes) is no TFLite file: the mark TFL3 is missing.")
    from tensorflow.lite.python import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        problem = _inconsistency(model)
    except _MALFORMED as error:
        raise ServingError(f"{where} ({len(content):,} bytes) is no whole TFLite file: {_REMEDY}.") from error
    if problem:
        raise ServingError(f"{where} ({len(content):,} bytes) is no sound TFLite file: {problem}; {_REMEDY}.")


def _inconsistency(model: Any) -> str:
    """The first thing in a model that points outside; empty if there is none."""
    if not model.subgraphs or not model.buffers or model.operatorCodes is None:
        return "it has no graph"
    for number, graph in enumerate(model.subgraphs):
        tensors = len(graph.tensors)
        for operator in graph.operators or []:
            if not 0 <= operator.opcodeIndex < len(model.operatorCodes):
                return f"graph {number} uses an operation that it does not declare"
            if not _within(operator.inputs, tensors, -1) or not _within(operator.outputs, tensors):
                return f"an operation of graph {number} uses a tensor that does not exist"
        if not _within(graph.inputs, tensors) or not _within(graph.outputs, tensors):
            return f"an input or output of graph {number} does not exist"
        for tensor in graph.tensors:
            if problem := _tensor_problem(tensor, model.buffers):
                return problem
    for signature in model.signatureDefs or []:
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            return "a signature names a graph that does not exist"
        tensors = len(model.subgraphs[signature.subgraphIndex].tensors)
        if not _within([entry.tensorIndex for entry in (*signature.inputs, *signature.outputs)], tensors):
            return "a signature names a tensor that does not exist"
    return ""


def _tensor_problem(tensor: Any, buffers: list[Any]) -> str:
    if not 0 <= tensor.buffer < len(buffers):
        return "a tensor has no buffer"
    data = buffers[tensor.buffer].data
    width = _WIDTHS.get(tensor.type)
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    if data is None or not len(data) or width is None or tensor.sparsity is not None or min(shape, default=0) < 0:
        return ""
    expected = math.prod(shape) * width
    return "" if len(data) == expected else f"a constant has {len(data):,} bytes instead of {expected:,}"


def _within(indices: Any, count: int, lowest: int = 0) -> bool:
    return all(lowest <= int(index) < count for index in ([] if indices is None else indices))


def check_by_running(content: bytes, path: Path) -> None:
    """Run a model once in another process; once for the same content in the life of this process.

    Raises:
        ServingError: The runtime refuses the model, crashes or hangs.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest in _run_before:
        return
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", "-m", __name__, os.path.abspath(path)]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ServingError(f"{path} does not answer within {_TIMEOUT_SECONDS} seconds: {_REMEDY}.") from error
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        raise ServingError(f"{path} crashes the TFLite runtime ({name}): {_REMEDY}.")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ServingError(f"the TFLite runtime cannot run {path}: {(lines or ['no message'])[-1][:300]}")
    _run_before.add(digest)


def main(file: str) -> int:
    """Run a file once on zeros, in this process."""
    import resource

    import numpy as np

    from serving import lean_tensorflow

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lean_tensorflow.install()
    from tensorflow.lite.python.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=Path(file).read_bytes(), num_threads=1)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            if detail["dtype"] != np.object_:
                interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        print(" ".join(str(error).split())[:300], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
