"""The process that converts one model.

Comes in: the file of a `Conversion`. Goes out: the file of an `Outcome`. Started by `serving.convert.running`:

    python -m serving.convert.worker JOB.json OUTCOME.json
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.convert.forms import form
from serving.convert.job import Conversion, Outcome, Status
from serving.errors import ServingError, UnavailableError

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_MODULES = {
    "tflite_mixed": "serving.convert.mixed",
    "onnx_int8": "serving.convert.onnx_int8",
    "onnx_float32": "serving.convert.onnx",
    "openvino": "serving.convert.openvino",
    "tflite": "serving.convert.tflite",
    "tftrt": "serving.convert.tftrt",
}


def run(job: Conversion) -> Outcome:
    """Convert in this process.

    Returns:
        What came of it: errors of the model or the request become `failed` with their message, a missing package
        or device `skipped`. Any other exception is a failure that names its type.
    """
    start = time.monotonic()
    details: dict[str, Any] = {}
    path: Path | None = None
    status: Status = "ok"
    reason = ""
    try:
        details = _converter(job.form).convert(job)
        path = job.out_dir / form(job.form).file_name
    except (UnavailableError, ModuleNotFoundError) as error:
        status, reason = "skipped", _unavailable(error)
        details = getattr(error, "details", {})
    except ServingError as error:
        status, reason = "failed", str(error)
    except MemoryError:
        status, reason = "failed", "the conversion needs more memory than this machine has"
    except Exception as error:  # Converters raise all sorts of things, and each is only a row with its reason.
        status, reason = "failed", f"{type(error).__name__}: {_brief(error)}"
        sys.excepthook(type(error), error, error.__traceback__)
    seconds = round(time.monotonic() - start, 3)
    return Outcome(job.form, status, reason, path, seconds, details)


def _converter(name: str) -> Any:
    module = _MODULES.get(name) or _MODULES[name.partition("_")[0]]
    return importlib.import_module(module)


def _unavailable(error: Exception) -> str:
    if isinstance(error, UnavailableError):
        return str(error)
    return f"{getattr(error, 'name', None) or error} not installed; pip install 'tfx-slipway[convert]'"


def _brief(error: Exception) -> str:
    text = re.sub(r"\{\{.*?\}\}", "", str(error)).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else "no message")[:300]


def _live_with_parent() -> None:
    """Die with the process that started this one, and leave no core file of a crash behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the worker; 0 if there is an outcome, whatever it is."""
    request, result = map(Path, sys.argv[1:] if arguments is None else arguments)
    _live_with_parent()
    outcome = run(Conversion.from_json(request.read_text(encoding="utf-8")))
    text = outcome.to_json()
    unfinished = result.with_name(f"{result.name}.new")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, result)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The outcome is written: whatever a library does wrong while it is torn down no longer matters.
    os._exit(code)
