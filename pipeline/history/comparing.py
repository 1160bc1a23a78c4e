"""What differs between two runs: config, code, data, libraries, metrics, verdicts, and how long the stages took.

Comes in: two runs. Goes out: `Comparison`. Called by `slipway runs compare`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.history.details import RunDetails, RunSummary, StageDetails, behind, details, nodes_of
from pipeline.history.ingredients import Difference, Ingredients, differences, flat, ingredients, made

if TYPE_CHECKING:
    from pipeline.history.runs import History, Run


@dataclass(frozen=True)
class MetricChange:
    """One metric on both sides; None where a side has no such value."""

    name: str
    a: float | None
    b: float | None

    @property
    def change(self) -> float | None:
        """From a to b."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True)
class StagePair:
    """One stage in both runs; None where a run has no such stage, or didn't reach it."""

    name: str
    a: StageDetails | None
    b: StageDetails | None

    @property
    def same_outputs(self) -> bool | None:
        """Whether both runs have the very same artifacts from it; None if one has none."""
        outputs = [_ids(side) for side in (self.a, self.b)]
        return None if not all(outputs) else outputs[0] == outputs[1]


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side."""

    a: RunSummary
    b: RunSummary
    config: list[Difference]
    code: list[Difference]
    data: list[Difference]
    libraries: list[Difference]
    environment: list[Difference]
    """Commit, machine and so on, as the records have them."""
    metrics: list[MetricChange]
    verdicts: list[Difference]
    stages: list[StagePair]


def compare(history: History, a: Run, b: Run) -> Comparison:
    """Return what differs between two runs of a work directory.

    Config and code are those that the results were made with, stage by stage; a stage that only one of the runs
    reached shows in `stages`, not as a hundred differences.
    """
    sides = [details(history, run) for run in (a, b)]
    first, second = _ingredients_of_common_stages(history, a, b)
    settings = [flat(run.record.settings) if run.record else {} for run in (a, b)]
    config = [first.config, second.config]
    if all(settings):
        config = [{**whole, **own} for whole, own in zip(settings, config, strict=True)]
    code = [
        Difference(found.name, found.a, found.b, tuple(sorted({*_users(first, found), *_users(second, found)})))
        for found in differences(first.code, second.code)
    ]
    environments = [run.record.environment if run.record else {} for run in (a, b)]
    return Comparison(
        sides[0].summary,
        sides[1].summary,
        differences(*config),
        code,
        differences(_data(sides[0], first), _data(sides[1], second)),
        differences(first.libraries, second.libraries),
        differences(*environments) if all(environments) else [],
        _metrics(*sides),
        differences(*({v["gate"]: v["sentence"] for v in side.verdicts} for side in sides)),
        _pairs(*sides),
    )


def _ingredients_of_common_stages(history: History, a: Run, b: Run) -> tuple[Ingredients, Ingredients]:
    stages = []
    for run in (a, b):
        executions = behind(history, run)
        stages.append(made(executions, nodes_of(history, executions)))
    common = stages[0].keys() & stages[1].keys()
    first, second = ({name: found[name] for name in found if name in common} for found in stages)
    return ingredients(first), ingredients(second)


def _users(side: Ingredients, module: Difference) -> list[str]:
    return side.users.get(module.name, [])


def _data(side: RunDetails, found: Ingredients) -> dict[str, Any]:
    """Return what is known about the data of a run: its fingerprint, the spans, what the ingestion counted."""
    facts = {"fingerprint": found.data} if found.data else {}
    stage = next((stage for stage in side.stages if stage.id == "ExampleGen"), None)
    if stage is not None and stage.detail:
        facts["examples"] = stage.detail
    for artifact in (a for artifacts in (stage.outputs.values() if stage else ()) for a in artifacts):
        if spans := artifact.properties.get("spans"):
            facts["spans"] = str(spans)
    return facts


def _metrics(a: RunDetails, b: RunDetails) -> list[MetricChange]:
    names = [*a.metrics, *(name for name in b.metrics if name not in a.metrics)]
    return [MetricChange(name, a.metrics.get(name), b.metrics.get(name)) for name in names]


def _pairs(a: RunDetails, b: RunDetails) -> list[StagePair]:
    sides = [{stage.id: stage for stage in side.stages} for side in (a, b)]
    names = [*sides[0], *(name for name in sides[1] if name not in sides[0])]
    return [StagePair(name, sides[0].get(name), sides[1].get(name)) for name in names]


def _ids(stage: StageDetails | None) -> list[int]:
    return sorted(a.id for artifacts in stage.outputs.values() for a in artifacts) if stage else []
