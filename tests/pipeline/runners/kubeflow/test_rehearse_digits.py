"""A pipeline compiled for a cluster, run container by container on this machine, twice, to two published versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.loading import load
from pipeline.runners.kubeflow import compile_kubeflow
from pipeline.runners.vertex import rehearse
from pipeline.runners.vertex.rehearsal import Rehearsal
from serving.versions import served

ROOT = Path(__file__).resolve().parents[4]
SET = [
    "kubeflow.image=registry.example.org/slipway:1",
    "kubeflow.volume=slipway-claim",
    "data.limit=400",
    "tune.mode=off",
    "compress.variants=[]",
    "evaluate.gates={accuracy: {min: 0.05, max_drop_vs_baseline: 0.9}}",
    "bulk_infer.enabled=false",
]


def rehearsed(tmp_path: Path, *values: str) -> Rehearsal:
    loaded = load(ROOT / "configs/digits.yaml", [*SET, *values])
    rehearsal = rehearse(compile_kubeflow(loaded, tmp_path)[0], tmp_path / "there", timeout_seconds=900)
    assert rehearsal.ok, rehearsal.table()
    return rehearsal


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.orchestration
def test_every_container_runs_and_the_next_run_is_judged_against_what_was_published(tmp_path: Path) -> None:
    first = rehearsed(tmp_path, "train.epochs=1")
    assert {task.state for task in first.tasks} == {"ran"}, first.table()
    (published,) = (tmp_path / "there").rglob("served")
    version = served(published)
    assert version is not None and version.number == 1

    second = rehearsed(tmp_path, "train.epochs=2")
    assert second.state("ExampleGen") == "cached" and second.state("Trainer") == "ran"
    newer = served(published)
    assert newer is not None and newer.number == 2
    judged = max((tmp_path / "there").rglob("summary.json"), key=lambda path: path.stat().st_mtime)
    models = {part["model"] for part in json.loads(judged.read_text("utf-8"))["slices"]}
    assert models == {"candidate", "baseline"}
