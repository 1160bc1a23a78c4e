"""`slipway drift` as a function: the request log of the served version against the data it was trained on.

Comes in: the config, the work directory and the log. Goes out: a report, also as JSON in the work directory. Three
answers are possible: the requests are like the training data, they have drifted, or there are too few to say.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.config import Config
from pipeline.config.retrain import DriftSettings
from pipeline.continuous.drift.comparing import Check, compare
from pipeline.continuous.drift.samples import Sample, held_out_predictions, sample_requests, sample_training
from pipeline.errors import ConfigError
from pipeline.locating import serving_base
from pipeline.records import records
from pipeline.workdir import WorkDir
from serving.durable import write_durably
from serving.versions import PublishedVersion, served

SAME, DRIFTED, UNKNOWN = "same", "drifted", "not enough to say"
"""Verdicts."""

_TRAINED_ON = "train"


@dataclass(frozen=True)
class DriftReport:
    """What a comparison found.

    Attributes:
        model: name of the model.
        version: the served version.
        verdict: one of the verdicts above.
        sentence: the finding, with values, thresholds and sample sizes.
        checks: every property that was compared.
        samples: images in the sample of requests.
        unreadable: images in it that can't be decoded.
        log: directory of the request log.
        since: age of the oldest request looked at, in hours.
        examples: the Examples artifact that the version was trained on.
        path: where the report lies.
    """

    model: str
    version: int
    verdict: str
    sentence: str
    checks: tuple[Check, ...]
    samples: int
    unreadable: int
    log: str
    since: float
    examples: str
    path: str

    @property
    def drifted(self) -> bool:
        """Whether the verdict is drift."""
        return self.verdict == DRIFTED

    def plain(self) -> dict[str, Any]:
        """Return the report as JSON knows it."""
        return dataclasses.asdict(self)


def compare_requests(config: Config, workdir: WorkDir, log: Path, now: float) -> DriftReport:
    """Compare what the served version was asked with what it was trained on.

    Args:
        config: the config; its section `retrain.drift` says how.
        workdir: the work directory.
        log: the model server's `--request_log_dir`.
        now: Unix time.

    Raises:
        ConfigError: nothing is served, there is no such log, or the training data is gone.
    """
    if not log.exists():
        raise ConfigError(
            f"{log} does not exist; expected the directory that the model server was given by --request_log_dir"
        )
    version, settings = _served(workdir), config.retrain.drift
    examples = trained_on(workdir, version)
    manifest = version.manifest
    assert manifest is not None, "an intact version has a manifest"
    since = now - settings.hours * 3600
    requests = sample_requests(
        log, manifest.name, version.number, manifest.labels, config.transform, since, settings.sample
    )
    seen = len(requests.pixels)
    checks: list[Check] = []
    if max(seen, len(requests.predictions)) >= settings.min_samples:
        reference = sample_training(examples, _TRAINED_ON, config.transform, settings.sample)
        reference.predictions = held_out_predictions(examples, config.evaluate.split, version.path, settings.sample)
        checks = _checks(requests, reference, settings)
    verdict, sentence = _judge(checks, requests, settings, version.number)
    path = workdir.root / "drift" / f"{time.strftime('%Y-%m-%dT%H%M%S', time.gmtime(now))}-v{version.number}.json"
    report = DriftReport(
        manifest.name, version.number, verdict, sentence, tuple(checks), seen, requests.unreadable, str(log),
        settings.hours, str(examples), str(path),
    )  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    write_durably(path, json.dumps(report.plain(), indent=1) + "\n")
    return report


def trained_on(workdir: WorkDir, version: PublishedVersion) -> Path:
    """Return the Examples artifact that a published version was trained on.

    Raises:
        ConfigError: no run's record tells, or the examples are gone.
    """
    for record in records(workdir.records):
        if record.version != version.origin:
            continue
        found = [Path(uri) for stage in record.stages if stage.id == "ExampleGen" for uri in stage.outputs]
        if found and found[0].is_dir():
            return found[0]
    raise ConfigError(
        f"the examples that version {version.number} was trained on are not in {workdir.root} any more; train and "
        "publish a new version, against which later requests can be compared"
    )


def _served(workdir: WorkDir) -> PublishedVersion:
    base = serving_base(workdir)
    version = served(base)
    if version is None:
        raise ConfigError(f"no intact version is published in {base}; `slipway versions` shows what is wrong")
    return version


def _checks(requests: Sample, reference: Sample, settings: DriftSettings) -> list[Check]:
    """Compare whatever there is enough of."""
    groups: list[tuple[Mapping[str, Sequence[Any]], Mapping[str, Sequence[Any]], dict[str, float]]] = []
    for ours, theirs in ((requests.pixels, reference.pixels), (requests.files, reference.files)):
        if len(ours) >= settings.min_samples and theirs:
            limits = dict.fromkeys(theirs[0], settings.max_feature_distance)
            groups.append((_columns(ours), _columns(theirs), limits))
    if len(requests.predictions) >= settings.min_samples and reference.predictions:
        limits = {
            "predicted class": settings.max_class_distance,
            "confidence": settings.max_confidence_distance,
        }
        sides = (
            {name: [p[i] for p in side.predictions] for i, name in enumerate(limits)} for side in (requests, reference)
        )
        groups.append((next(sides), next(sides), limits))
    return [check for group in groups for check in compare(*group)]


def _columns(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _judge(checks: list[Check], requests: Sample, settings: DriftSettings, version: int) -> tuple[str, str]:
    """Return verdict and sentence."""
    seen = max(len(requests.pixels), len(requests.predictions))
    if not checks:
        return UNKNOWN, (
            f"{seen:,} logged images of version {version} in the last {settings.hours:g} hours are not enough to say; "
            f"expected at least {settings.min_samples:,} (retrain.drift.min_samples)"
        )
    gone = [check for check in checks if not check.passed]
    if not gone:
        return SAME, f"{seen:,} requests of version {version} are like its training data in {len(checks)} properties"
    named = "; ".join(
        f"{check.name} {check.requests} against {check.reference} ({check.distance} {check.value:.3f}, at most "
        f"{check.threshold:g})"
        for check in sorted(gone, key=lambda check: check.value / check.threshold, reverse=True)[:5]
    )
    more = f"; and {len(gone) - 5} more" if gone[5:] else ""
    return DRIFTED, f"{seen:,} requests of version {version} differ from its training data: {named}{more}"
