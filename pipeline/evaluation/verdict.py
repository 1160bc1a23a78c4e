"""A gate's verdict in words and numbers, written beside every blessing and shown by the command line.

Made by the components that can refuse (ExampleValidator, Evaluator, InfraValidator, Pusher), read back by the
runner, which ends the run with exit code 3 where one of them says no.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.counts import SliceKey
from pipeline.evaluation.eval_config import BASELINE

if TYPE_CHECKING:
    from tensorflow_model_analysis.proto import config_pb2

FILE_NAME = "verdict.json"


@dataclass(frozen=True)
class Verdict:
    """What one gate found."""

    gate: str
    """The stage that judged."""
    passed: bool
    sentence: str
    """The finding as one sentence, with value and threshold."""
    checks: list[dict[str, Any]] = field(default_factory=list)
    """Each check: metric, slice, value, threshold, baseline, passed."""


def write_verdict(verdict: Verdict, uri: str) -> None:
    """Write a verdict as JSON into an artifact's folder."""
    import tensorflow as tf

    with tf.io.gfile.GFile(os.path.join(uri, FILE_NAME), "w") as file:
        file.write(json.dumps(asdict(verdict), indent=1))


def read_verdict(uri: str) -> Verdict | None:
    """Return the verdict that an artifact's folder holds, or None."""
    path = os.path.join(uri, FILE_NAME)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return Verdict(**json.load(file))


def judge(config: config_pb2.EvalConfig, metrics: dict[SliceKey, dict[Any, float]], validation_ok: bool) -> Verdict:
    """Put TFMA's validation into words.

    Args:
        config: the EvalConfig that was validated.
        metrics: values by slice and TFMA metric key.
        validation_ok: TFMA's own verdict, which decides.

    Returns:
        The verdict with one check per threshold and slice it applies to.
    """
    checks = list(_checks(config, metrics))
    failed = [check for check in checks if not check["passed"]]
    if not checks:
        sentence = "no gate is configured, so every model passes"
    elif validation_ok:
        sentence = "; ".join(_words(check) for check in checks if not check["slice"]) or "every slice passes"
    else:
        sentence = "; ".join(_words(check) for check in failed[:5]) or "a threshold could not be checked"
        if len(failed) > 5:
            sentence += f"; and {len(failed) - 5} more"
    return Verdict("Evaluator", validation_ok, sentence, checks)


def _checks(config: config_pb2.EvalConfig, metrics: dict[SliceKey, dict[Any, float]]) -> Any:
    """Yield one record per threshold and slice it applies to."""
    from tensorflow_model_analysis.metrics import metric_specs
    from tensorflow_model_analysis.proto import config_pb2
    from tensorflow_model_analysis.slicer import slicer_lib

    thresholds = metric_specs.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    for key, entries in thresholds.items():
        for slice_spec, threshold in entries:
            for slice_key, values in metrics.items():
                if not slicer_lib.SingleSliceSpec(spec=slice_spec).is_slice_applicable(slice_key):
                    continue
                value = values.get(key, math.nan)
                record = {
                    "metric": key.name,
                    "slice": " ".join(f"{n}={v}" for n, v in slice_key),
                    "value": value,
                }
                if key.is_diff:
                    own = values.get(key._replace(is_diff=False), math.nan)
                    base = values.get(key.make_baseline_key(BASELINE), math.nan)
                    limit = threshold.absolute.value
                    higher = threshold.direction == config_pb2.MetricDirection.HIGHER_IS_BETTER
                    good = value >= limit if higher else value <= limit
                    record |= {
                        "value": own,
                        "baseline": base,
                        "change": value,
                        "threshold": limit,
                        "kind": "change",
                    }
                    record["passed"] = bool(good)
                else:
                    low = threshold.lower_bound.value if threshold.HasField("lower_bound") else None
                    high = threshold.upper_bound.value if threshold.HasField("upper_bound") else None
                    record |= {"min": low, "max": high, "kind": "value"}
                    record["passed"] = bool((low is None or value >= low) and (high is None or value <= high))
                yield record


def _words(check: dict[str, Any]) -> str:
    """Return one check as a clause: metric, value, threshold, baseline."""
    where = f" on {check['slice']}" if check["slice"] else ""
    if check["kind"] == "change":
        allowed = abs(check["threshold"])
        return (
            f"{check['metric']}{where} is {check['value']:.4f} against {check['baseline']:.4f} of the baseline "
            f"({check['change']:+.4f}; at most {allowed:.4f} worse is allowed)"
        )
    bounds = [
        f"at least {check['min']:g}" if check["min"] is not None else "",
        f"at most {check['max']:g}" if check["max"] is not None else "",
    ]
    return f"{check['metric']}{where} is {check['value']:.4f} (required: {' and '.join(b for b in bounds if b)})"
