"""The sections `evaluate`, `infra`, `push` and `bulk_infer`: what happens to a model once it is trained.

Read by the stages of the same names; `data`, `transform`, `model`, `train` and `tune` stand in `transform`
and `trainer`, beside the code that reads them.
"""

from __future__ import annotations

import itertools
import math
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from transform.settings import Settings

Split = Literal["train", "eval", "test"]
Metric = Literal["accuracy", "top_k_accuracy", "auc", "log_loss", "macro_f1", "calibration_error"]
Slice = Literal["label"]

UNBOUNDED_METRICS = frozenset({"log_loss"})
"""Metrics that may exceed 1; all others are shares from 0 to 1."""

RESERVED_FOLDERS = frozenset(
    {"artifacts", "compressed", "drift", "logs", "plans", "reports", "runs", "schemas", "unfinished"}
)
"""Folders of a work directory in which runs keep their own files; see `pipeline.workdir`."""


class Gate(Settings):
    """Thresholds on one metric; a model that misses one of them is not pushed."""

    min: float | None = Field(None, ge=0, description="lowest value that passes; unset: no lower bound")
    max: float | None = Field(None, ge=0, description="highest value that passes; unset: no upper bound")
    max_drop_vs_baseline: float | None = Field(
        None,
        ge=0,
        description="how much worse than the latest blessed model's the metric may be; unset: not compared",
    )
    slices: bool = Field(False, description="true: every slice must pass too; off, since small slices are noisy")

    @model_validator(mode="after")
    def _has_ordered_bounds(self) -> Gate:
        bounds = (self.min, self.max, self.max_drop_vs_baseline)
        if all(bound is None for bound in bounds):
            raise ValueError("this gate tests nothing; set min, max or max_drop_vs_baseline, or remove it")
        if any(bound is not None and not math.isfinite(bound) for bound in bounds):
            raise ValueError("a bound is infinite; remove it, an unset bound tests nothing")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is {self.min:g} and max is {self.max:g}; expected min <= max")
        return self


class EvaluateSettings(Settings):
    """How a trained model is judged, and what it must reach to be pushed."""

    split: Split = Field("test", description="split the verdict is about; test, since nothing else has seen it")
    top_k: int = Field(
        3,
        ge=1,
        le=1000,
        description="top_k_accuracy counts the label among this many best guesses; 3 suits ten classes",
    )
    slices: tuple[Slice, ...] = Field(
        (),
        description="features by whose values the metrics are reported once more; label: one slice per class",
    )
    gates: dict[Metric, Gate] = Field(
        default_factory=dict, description="thresholds by metric; none: every model passes"
    )

    @field_validator("slices")
    @classmethod
    def _each_once(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(slices)) < len(slices):
            raise ValueError(f"names a slice twice: {list(slices)}; list each at most once")
        return slices

    @model_validator(mode="after")
    def _gates_can_be_met(self) -> EvaluateSettings:
        problems = []
        for metric, gate in self.gates.items():
            problems += [
                f"gates.{metric}.{name} is {bound:g}, but {metric} is a share from 0 to 1{_percent(bound)}"
                for name, bound in (("min", gate.min), ("max", gate.max))
                if bound is not None and bound > 1 and metric not in UNBOUNDED_METRICS
            ]
            if gate.slices and not self.slices:
                problems.append(
                    f"gates.{metric}.slices is true, but slices is empty; add slices: [label], or set it to false"
                )
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _percent(bound: float) -> str:
    return f"; if {bound:g} percent are meant, write {bound / 100:g}" if bound <= 100 else ""


class InfraSettings(Settings):
    """How a model has to prove that it can be served: a fresh process loads it and answers requests."""

    timeout_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="seconds until a model that does not answer is refused; ample on a busy laptop",
    )
    examples: int = Field(
        8,
        ge=1,
        le=1000,
        description="real examples sent as requests; a few show that every signature answers",
    )


class PushSettings(Settings):
    """Where models that passed every gate are published."""

    serving: str = Field(
        "served",
        min_length=1,
        description="folder of the versions that TensorFlow Serving watches, in the work directory",
    )
    edge: str = Field(
        "edge",
        min_length=1,
        description="folder of the versions of the mobile bundle, in the work directory; see the section compress",
    )
    forms: str = Field(
        "forms",
        min_length=1,
        description="folder of the versions of the forms for other servers, in the work directory; see compress",
    )
    keep: int | None = Field(
        None, ge=1, description="newest versions kept, two or more allow a rollback; unset: all of them"
    )

    @field_validator("serving", "edge", "forms")
    @classmethod
    def _stays_in_the_work_directory(cls, folder: str) -> str:
        path = PurePosixPath(folder)
        if path.is_absolute() or ".." in path.parts or path == PurePosixPath(".") or "\0" in folder:
            raise ValueError(
                f"received {folder!r}; expected the name of a folder inside the work directory, "
                "such as 'served' (the work directory itself is chosen by --workdir)"
            )
        if path.parts[0] in RESERVED_FOLDERS:
            raise ValueError(f"received {folder!r}, where runs keep their own files; choose another name")
        return folder

    @model_validator(mode="after")
    def _folders_differ(self) -> PushSettings:
        named = {name: PurePosixPath(getattr(self, name)) for name in ("serving", "edge", "forms")}
        for (name, path), (other, inside) in itertools.permutations(named.items(), 2):
            if inside.is_relative_to(path):
                where = f"both {path!s}" if inside == path else f"{path!s} and {inside!s}, one inside the other"
                raise ValueError(
                    f"{name} and {other} are {where}; expected folders apart from each other, their versions differ"
                )
        return self


class BulkInferSettings(Settings):
    """Whether the pushed model also predicts a whole split, for a look at its answers."""

    enabled: bool = Field(True, description="whether predictions are written; they cost seconds and show the mistakes")
    split: Split = Field("test", description="split whose examples are predicted")
