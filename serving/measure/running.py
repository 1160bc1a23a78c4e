"""Measures variants in a subprocess that may crash or hang without taking the run with it.

Comes in: files of variants and two sets of images. Goes out: a `Measurement` per variant. Called by the pipeline's
optimizer and the benchmark. A variant whose runtime crashes or does not come back is named, left out, and the
rest is measured again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.measure import images
from serving.measure.latency import LatencySettings, Timing
from serving.measure.measurement import Measurement, from_record
from serving.measure.progress import Step, read_step
from serving.measure.worker import Job

Progress = Callable[[int, int], None]

_WORKER = (sys.executable, "-m", "serving.measure.worker")
_POLL_SECONDS = 0.2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LATENCY = LatencySettings()


def measure(
    forms: Mapping[str, tuple[str, Path]],
    reference: str,
    choose: Path,
    report: Path,
    *,
    latency: LatencySettings | None = _LATENCY,
    step_seconds: float = 600,
    start_seconds: float = 300,
    on_progress: Progress | None = None,
    command: Sequence[str] = _WORKER,
) -> dict[str, Measurement]:
    """Measure quality, size, operations and time of all variants.

    Args:
        forms: Form and path of each variant, the reference among them.
        reference: The variant that all are compared with, as a rule the float SavedModel.
        choose: .npz of the images that decide (`ImageBatches.save`).
        report: .npz of the images whose figures are published.
        latency: How to measure time; None leaves it out.
        step_seconds: How long one step of one variant may take: loading it, one batch, one round.
        start_seconds: How long the process may take until its first step.
        on_progress: Called with (steps done, steps in all).
        command: The program that gets the job file as its last argument.

    Returns:
        A measurement per variant, in the order of `forms`. One that could not be run has the status `failed` and
        the reason.

    Raises:
        ServingError: A set of images cannot be read, the reference is not among the forms or cannot itself be
            run, or the process fails before it comes to any variant.
    """
    _check(forms, reference)
    for path in (choose, report):
        images.load(path)
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        job = Job(
            variants={name: (form, Path(path).absolute()) for name, (form, path) in forms.items()},
            reference=reference,
            choose=choose.absolute(),
            report=report.absolute(),
            directory=Path(folder),
            latency=latency,
        )
        crashed: dict[str, str] = {}
        while True:
            job = dataclasses.replace(job, excluded=tuple(crashed))
            culprit = _run(job, command, step_seconds, start_seconds, on_progress)
            if culprit is None:
                return _collect(job, crashed)
            variant, reason = culprit
            if variant == reference:
                raise ServingError(f"The reference {reference} cannot be measured: {reason}")
            crashed[variant] = reason


def _check(forms: Mapping[str, tuple[str, Path]], reference: str) -> None:
    if reference not in forms:
        raise ServingError(f"The reference {reference!r} is not measured; expected one of {', '.join(forms)}.")
    wrong = [name for name in forms if not _NAME.fullmatch(name)]
    if wrong:
        raise ServingError(f"{wrong[0]!r} is no name of a variant; expected letters, digits, '_', '-' and '.'.")


def _run(
    job: Job, command: Sequence[str], step_seconds: float, start_seconds: float, on_progress: Progress | None
) -> tuple[str, str] | None:
    """Run the worker once; gives the variant that ended it and why, or None if it came to its end."""
    job_file, log = job.directory / "job", job.directory / "log"
    job_file.write_text(job.to_json(), encoding="utf-8")
    job.step_file.unlink(missing_ok=True)
    threads = job.latency.threads if job.latency is not None else os.cpu_count() or 1
    with _process([*command, str(job_file)], log, threads) as process:
        late = _watch(process, job.step_file, step_seconds, start_seconds, on_progress)
    step = read_step(job.step_file)
    if late is not None:
        reason = f"It was ended because after {late:g} seconds"
    elif process.returncode == 0:
        return None
    else:
        reason = f"The process {_ended(process.returncode)}"
    if step is None or not step.variant:
        raise ServingError(f"Measuring failed before any variant. {reason}{_said(log)}. Is the installation complete?")
    if late is not None:
        return step.variant, f"{reason} it was not done: while {step.doing}."
    return step.variant, f"{reason} while {step.doing}{_said(log)}."


@contextlib.contextmanager
def _process(command: Sequence[str], log: Path, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": paths}
    # TensorFlow takes its numbers of threads once, for the whole process.
    environment |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": str(threads)}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _watch(
    process: subprocess.Popen[bytes],
    file: Path,
    step_seconds: float,
    start_seconds: float,
    on_progress: Progress | None,
) -> float | None:
    """Wait for the end of the process; gives the limit that it overstepped, or None."""
    last: Step | None = None
    since = time.monotonic()
    while True:
        try:
            process.wait(timeout=_POLL_SECONDS)
            return None
        except subprocess.TimeoutExpired:
            step = read_step(file)
        if step is not None and step != last:
            if on_progress is not None and (last is None or step.done != last.done):
                on_progress(step.done, step.total)
            last, since = step, time.monotonic()
        limit = start_seconds if last is None else step_seconds
        if time.monotonic() - since > limit:
            return limit


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with the exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = ", as the system does when memory runs out," if name == "SIGKILL" else ""
    return f"was ended by {name}{memory}"


def _said(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"; it last said: {lines[-1][:300].rstrip('. ')}" if lines else ""


def _collect(job: Job, crashed: Mapping[str, str]) -> dict[str, Measurement]:
    records: dict[str, Any] = {}
    for variant in job.variants:
        file = job.record_file(variant)
        if file.exists() and variant not in crashed:
            records[variant] = from_record(json.loads(file.read_text(encoding="utf-8")))
    base = records.get(job.reference)
    if base is None or not base.ok:
        reason = "nothing was recorded" if base is None else base.reason
        raise ServingError(f"The reference {job.reference} cannot be measured: {reason}")
    times, environment = _times(job)
    found = {}
    for variant, (form, path) in job.variants.items():
        if variant in crashed:
            found[variant] = Measurement(variant, form, path, status="failed", reason=crashed[variant])
        else:
            of_variant = {batch: timings[variant] for batch, timings in times.items() if variant in timings}
            found[variant] = dataclasses.replace(records[variant], timings=of_variant, environment=environment)
    return found


def _times(job: Job) -> tuple[dict[int, dict[str, Timing]], dict[str, Any]]:
    if job.latency is None:
        return {}, {}
    content = json.loads(job.times_file.read_text(encoding="utf-8"))
    times = {
        int(batch): {name: Timing(**timing) for name, timing in of_batch.items()}
        for batch, of_batch in content["times"].items()
    }
    return times, content["environment"]
