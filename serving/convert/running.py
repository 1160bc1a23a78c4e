"""Runs one conversion in a process of its own and tells what came of it.

Comes in: a `Conversion`. Goes out: an `Outcome`, whatever the converter does: raise, abort, hang, run out of
memory, lack a package. Called by the optimizer of the pipeline and by `serving.convert.exporting`.

The converter writes into a directory beside the target, which is renamed into place only after it succeeded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving.convert.forms import Form, form
from serving.convert.job import Conversion, Outcome, Status
from serving.errors import ConversionError
from serving.installed import installed

INSTALL = "pip install 'tfx-slipway[convert]'"
_WORKER = "serving.convert.worker"
_LOG_TAIL = 200_000
_LONGEST = 300
# Lines that say nothing about why a process ended: log levels below error, stack frames, progress.
_NOISE = re.compile(
    r"^\s*$|^(\d{4}-\d\d-\d\d [\d:.]+: )?[IW] \S+:\d+\]|^[IWE]\d{4} |^(INFO|WARNING|DEBUG)\b|^fully_quantize: "
    r"|^\s*(File \"|@ |#\d+ |\*\*\*|\^+\s*$)|^(Traceback|Current thread|Thread 0x|Extension modules:|PC: @)"
    r"|[A-Za-z]*Warning: |^\s{4,}\S"
)
_FATAL = re.compile(
    r"(\bF tensorflow|\bF\d{4} |Check fail|terminate called|what\(\):|LLVM ERROR|Assertion .* failed|Fatal Python error"
    r"|MemoryError|bad_alloc|Aborted)"
)


def convert(job: Conversion, timeout_seconds: float = 300) -> Outcome:
    """Convert a model in a subprocess.

    Args:
        job: What to convert.
        timeout_seconds: Wall time after which the process and all that it started are killed.

    Returns:
        What came of it. A package, a GPU or a library that is not there gives `skipped`; a model that cannot be
        converted, a converter that crashes or hangs, and an unknown form give `failed`.
    """
    start = time.monotonic()
    try:
        wanted = form(job.form)
        missing = _missing(wanted)
        if missing:
            outcome = _ended(job, "skipped", f"{', '.join(missing)} not installed; {INSTALL}")
        elif wanted.runtime == "saved_model":
            raise ConversionError("saved_model is the source of all conversions; there is nothing to convert.")
        else:
            outcome = _convert(job, wanted, timeout_seconds)
    except OSError as error:
        outcome = _ended(job, "failed", f"{job.out_dir} cannot be written: {error.strerror or error}")
    except ValueError as error:
        outcome = _ended(job, "failed", str(error))
    return dataclasses.replace(outcome, seconds=round(time.monotonic() - start, 3))


def _missing(wanted: Form) -> list[str]:
    return [name for name in wanted.packages if not installed(name)]


def _convert(job: Conversion, wanted: Form, timeout_seconds: float) -> Outcome:
    target = Path(os.path.abspath(job.out_dir))
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        made = scratch / "made"
        made.mkdir()
        inside = dataclasses.replace(
            job,
            saved_model=Path(os.path.abspath(job.saved_model)),
            representative=None if job.representative is None else Path(os.path.abspath(job.representative)),
            out_dir=made,
        )
        outcome = _run(inside, wanted, scratch, timeout_seconds)
        if outcome.ok:
            _put(made, target)
            outcome = dataclasses.replace(outcome, path=target / wanted.file_name if wanted.file_name else target)
        return outcome
    finally:
        # Also after Ctrl-C: whoever starts again finds no remains.
        shutil.rmtree(scratch, ignore_errors=True)


def _run(job: Conversion, wanted: Form, scratch: Path, timeout_seconds: float) -> Outcome:
    request, result, log = scratch / "job.json", scratch / "outcome.json", scratch / "log.txt"
    request.write_text(job.to_json(), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-m", _WORKER, str(request), str(result)]
    code = _wait(command, log, _environment(wanted, scratch), timeout_seconds)
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL))
        words = last_words(stream.read().decode("utf-8", "replace"))
    last = f"; its last words: {words}" if words else ""
    if code is None:
        return _ended(job, "failed", f"the conversion took longer than {timeout_seconds:g} seconds and was ended{last}")
    if code < 0:
        return _ended(job, "failed", f"the conversion was ended by {_signal_name(-code)}{last}")
    try:
        outcome = Outcome.from_json(result.read_text(encoding="utf-8"))
    except (OSError, ConversionError, UnicodeDecodeError):
        return _ended(job, "failed", f"the conversion ended with exit code {code} and no result{last}")
    if code != 0 or outcome.form != job.form:
        return _ended(job, "failed", f"the conversion ended with exit code {code} after it had finished{last}")
    made = job.out_dir / wanted.file_name if wanted.file_name else job.out_dir
    if outcome.ok and not (made.is_file() and made.stat().st_size if wanted.file_name else any(made.iterdir())):
        return _ended(job, "failed", f"the conversion left no {wanted.file_name or 'model'}{last}")
    return outcome


def _environment(wanted: Form, scratch: Path) -> dict[str, str]:
    environment = {
        **os.environ,
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
        # What a killed converter leaves behind goes with the scratch directory.
        "TMPDIR": str(scratch),
    }
    if wanted.runtime != "tftrt":
        # The parent may hold the memory of the GPU, and these converters have no use for it.
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return environment


def _wait(command: list[str], log: Path, environment: dict[str, str], timeout_seconds: float) -> int | None:
    """Exit code, negative for a signal; None if the time was up. Nothing of the process survives this call."""
    # Run beside the package: whatever the caller's directory holds cannot shadow modules of the child.
    root = str(Path(__file__).resolve().parents[2])
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _put(made: Path, target: Path) -> None:
    """Move everything from one directory to another, each entry by one rename; an old entry gives way."""
    target.mkdir(exist_ok=True)
    for entry in sorted(made.iterdir()):
        place = target / entry.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        os.replace(entry, place)


def last_words(log: str) -> str:
    """Find the line of a log that says most about why a process ended.

    Args:
        log: What the process wrote.

    Returns:
        The last line that names a fatal error, else the last that is neither chatter nor a stack frame; empty
        if there is none. At most 300 characters.
    """
    lines = [line.strip() for line in log.splitlines() if not _NOISE.match(line) or _FATAL.search(line)]
    fatal = [line for line in lines if _FATAL.search(line)]
    # Python's report of an abort only repeats the signal; a line of the library itself says why.
    telling = [line for line in fatal if not line.startswith(("Fatal Python error", "Aborted"))] or fatal or lines
    return telling[-1][:_LONGEST] if telling else ""


def _signal_name(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = {"SIGKILL": ", perhaps for want of memory", "SIGABRT": " (it aborted)", "SIGSEGV": " (it crashed)"}
    return name + hint.get(name, "")


def _ended(job: Conversion, status: Status, reason: str) -> Outcome:
    return Outcome(job.form, status, reason, None, 0.0)
