"""Measures all variants in this process, which may crash: `python -m serving.measure.worker JOB.json`.

Comes in: the job that `serving.measure.running` wrote. Goes out: one record per variant and the times of all, as
files in the job's directory, each written as soon as it is known. A second run continues where the first one
ended.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert.forms import form as form_named
from serving.errors import ServingError
from serving.forms.base import LoadedForm, pixels_for
from serving.forms.loading import load_form
from serving.measure import images, machine
from serving.measure.images import ImageBatches
from serving.measure.latency import LatencySettings, Timing, time_variants
from serving.measure.measurement import Measurement, from_record, to_record
from serving.measure.operations import Operations, count_operations
from serving.measure.progress import Step, StepFile
from serving.measure.quality import Quality, labels_of, predict_all, quality
from serving.measure.size import measure_size

_BROKEN_CALL = "its time was measured"


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        variants: Form and path per variant.
        reference: The variant that all others are compared with.
        choose: Images that decide.
        report: Images whose figures are published.
        directory: Where records go.
        latency: How to time; None leaves times out.
        excluded: Variants to leave out, because they crashed an earlier run.
    """

    variants: dict[str, tuple[str, Path]]
    reference: str
    choose: Path
    report: Path
    directory: Path
    latency: LatencySettings | None
    excluded: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Write as JSON."""
        return json.dumps(dataclasses.asdict(self), default=str, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        latency = data["latency"]
        if latency is not None:
            latency = LatencySettings(**{**latency, "batches": tuple(latency["batches"])})
        return cls(
            variants={name: (form, Path(path)) for name, (form, path) in data["variants"].items()},
            reference=data["reference"],
            choose=Path(data["choose"]),
            report=Path(data["report"]),
            directory=Path(data["directory"]),
            latency=latency,
            excluded=tuple(data["excluded"]),
        )

    def record_file(self, variant: str) -> Path:
        """Where the record of a variant lies."""
        return self.directory / f"{variant}.json"

    @property
    def times_file(self) -> Path:
        """Where the times of all variants lie."""
        return self.directory / "times.json"

    @property
    def step_file(self) -> Path:
        """Where the process says what it is at."""
        return self.directory / "step"


class _CallFailed(Exception):
    """A variant raised while it was timed."""

    def __init__(self, variant: str, batch: int, error: Exception) -> None:
        super().__init__(variant)
        self.variant = variant
        self.reason = f"At batch size {batch}: {_sentence(error)}"


class _Run:
    """One run over all variants."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.steps = StepFile(job.step_file)
        self.models: dict[str, LoadedForm] = {}
        self.sets = {"choose": images.load(job.choose), "report": images.load(job.report)}
        self.done = 0
        batches = len(job.latency.batches) if job.latency else 0
        self.total = len(self.sets) * len(job.variants) + batches

    def note(self, variant: str, doing: str) -> None:
        self.steps.write(Step(variant, doing, self.done, self.total))

    def everything(self) -> None:
        job = self.job
        for variant in sorted(job.variants, key=lambda name: name != job.reference):
            if variant not in job.excluded:
                self.one(variant)
            self.done = min(self.done + len(self.sets), self.total)
            if variant == job.reference and variant not in self.models:
                return
        if job.latency is not None:
            self.times(job.latency)
        self.note("", "everything is measured")

    def one(self, variant: str) -> None:
        """Load a variant and measure all but its times, unless an earlier run did that."""
        form, path = self.job.variants[variant]
        file = self.job.record_file(variant)
        known = from_record(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None
        if known is not None and not known.ok:
            return
        try:
            self.note(variant, "it was loaded")
            model = load_form(form, path, self.job.latency.threads if self.job.latency else 1)
            self.models[variant] = model
            if known is None:
                _write(file, to_record(self.measured(variant, form, path, model)))
        except Exception as error:
            # Runtimes raise what they like; whatever it is, it belongs to this variant alone.
            self.fail(variant, _sentence(error))

    def measured(self, variant: str, form: str, path: Path, model: LoadedForm) -> Measurement:
        found: dict[str, Quality] = {}
        for split, batches in self.sets.items():
            found[split] = self.quality(variant, split, batches, model)
        self.note(variant, "its size was measured")
        size = measure_size(path)
        operations, remark = self.operations(variant, form, path)
        return Measurement(
            variant,
            form,
            path,
            choose=found["choose"],
            report=found["report"],
            size=size,
            operations=operations,
            remark=remark,
        )

    def quality(self, variant: str, split: str, batches: ImageBatches, model: LoadedForm) -> Quality:
        doing = f"it classified the images of the split {split!r}"
        self.note(variant, doing)
        # Every batch is a step, so that a slow form on many images does not look like one that hangs.
        answers = predict_all(model, batches, lambda done, total: self.note(variant, f"{doing} ({done} of {total})"))
        file = self.job.directory / f"reference-{split}.npy"
        if variant == self.job.reference:
            np.save(file, answers)
            return quality(labels_of(batches), answers, answers)
        return quality(labels_of(batches), answers, np.load(file))

    def operations(self, variant: str, form: str, path: Path) -> tuple[Operations | None, str]:
        self.note(variant, "its operations were counted")
        name = form_named(form).file_name
        try:
            return count_operations(path / name if name and path.is_dir() else path), ""
        except ServingError as error:
            return None, f"Operations are not counted: {error}"

    def fail(self, variant: str, reason: str) -> None:
        form, path = self.job.variants[variant]
        record = to_record(Measurement(variant, form, path, status="failed", reason=reason))
        _write(self.job.record_file(variant), record)
        model = self.models.pop(variant, None)
        if model is not None:
            model.close()

    def times(self, settings: LatencySettings) -> None:
        environment = machine.describe(settings.threads)
        times: dict[int, dict[str, Timing]] = {}
        for batch in settings.batches:
            times[batch] = self.times_at(batch, settings)
            self.done = min(self.done + 1, self.total)
        environment["load_average_after"] = machine.load_average()
        _write(
            self.job.times_file,
            {
                "environment": environment,
                "times": {
                    str(batch): {name: dataclasses.asdict(timing) for name, timing in of_batch.items()}
                    for batch, of_batch in times.items()
                },
            },
        )

    def times_at(self, batch: int, settings: LatencySettings) -> dict[str, Timing]:
        """Time what is loaded; a variant that raises is failed and the others are timed again."""
        pixels = _first_images(self.sets["choose"], batch)
        rounds = 0

        def progress(done: int, _total: int) -> None:
            nonlocal rounds
            rounds = done

        while True:
            calls = {name: _call(name, model, pixels) for name, model in self.models.items()}
            try:
                return time_variants(
                    calls,
                    self.job.reference,
                    batch,
                    settings,
                    # The round is part of the step, so that a long run does not look like one that hangs.
                    on_variant=lambda name: self.note(name, f"{_BROKEN_CALL} (batch size {batch}, round {rounds + 1})"),
                    on_progress=progress,
                )
            except _CallFailed as error:
                self.fail(error.variant, error.reason)
                if error.variant == self.job.reference:
                    raise ServingError(f"The reference {error.variant} failed. {error.reason}") from error


def _call(name: str, model: LoadedForm, pixels: np.ndarray) -> Callable[[], object]:
    batch = pixels_for(model, pixels)

    def call() -> object:
        try:
            return model.predict(batch)
        except Exception as error:
            raise _CallFailed(name, len(batch), error) from error

    return call


def _first_images(batches: ImageBatches, count: int) -> np.ndarray:
    """The first images of a set, repeated if it has too few; uint8 [count, H, W, C]."""
    parts: list[np.ndarray] = []
    for pixels, _ in batches.read():
        parts.append(pixels)
        if sum(map(len, parts)) >= count:
            break
    found = np.concatenate(parts)
    return np.ascontiguousarray(found[np.arange(count) % len(found)])


def _sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0][:500] if lines else ""
    if isinstance(error, ServingError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _write(file: Path, content: dict[str, Any]) -> None:
    temporary = file.with_name(f"{file.name}.new")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False), encoding="utf-8")
    os.replace(temporary, file)


def main(arguments: Sequence[str]) -> int:
    """Run the job in the file that is named."""
    if len(arguments) != 1:
        print("usage: python -m serving.measure.worker JOB.json", file=sys.stderr)
        return 2
    job = Job.from_json(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        run = _Run(job)
        run.everything()
    except ServingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for model in run.models.values():
        model.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
