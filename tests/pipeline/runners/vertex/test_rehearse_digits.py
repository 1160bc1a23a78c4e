"""The demo, compiled for Vertex AI and run container by container on this machine, to the pushed model."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loading import load
from pipeline.runners.vertex import compile_vertex, rehearse
from serving.versions import served

ROOT = Path(__file__).resolve().parents[4]
SET = [
    "vertex.root=gs://bucket/slipway",
    "vertex.image=europe-docker.pkg.dev/a-project/slipway/pipeline:1",
    "data.limit=400",
    "train.epochs=2",
    "tune.trials=1",
    "tune.epochs=1",
    "compress.variants=[tflite_float16]",
    "compress.budget={max_accuracy_drop: 1.0, max_worst_class_drop: 1.0}",  # 40 images prove nothing
    "evaluate.gates={accuracy: {min: 0.05, max_drop_vs_baseline: 0.5}}",
]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.orchestration
def test_every_container_of_the_demo_runs(tmp_path: Path) -> None:
    loaded = load(ROOT / "configs/digits.yaml", SET)
    spec = compile_vertex(loaded, tmp_path)[0]
    rehearsal = rehearse(spec, tmp_path / "there", timeout_seconds=900)
    assert rehearsal.ok, rehearsal.table()
    states = {task.name: task.state for task in rehearsal.tasks}
    resolvers = {"Resolver-model-blessing-resolver", "Resolver-model-resolver"}
    assert all(state == ("resolved" if name in resolvers else "ran") for name, state in states.items()), states
    assert {"Tuner", "Trainer", "Evaluator", "Pusher", "BulkInferrer"} <= set(states)
    folder = tmp_path / "there" / "gcs" / "bucket" / "slipway" / "digits"
    version = served(folder / "served")
    assert version is not None and version.number == 1
    assert version.manifest is not None and version.manifest.labels == tuple("0123456789")
    assert (folder / "splits.npz").is_file()
    bundle = served(folder / "edge")
    assert bundle is not None and any(path.suffix == ".tflite" for path in bundle.path.iterdir())
