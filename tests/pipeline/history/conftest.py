"""A work directory with runs that really happened, and stores with made-up ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.config.loading import load
from pipeline.records import RunRecord
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.running import run_pipeline
from pipeline.workdir import WorkDir
from tests.pipeline.history.synthetic import Synthetic

YAML = """
name: shapes
data:
  source: {folder}
transform: {{size: [16, 16]}}
model: {{name: cnn_small, width: 0.25}}
train: {{epochs: 1, batch_size: 16, seed: 1}}
evaluate:
  gates: {{log_loss: {{max: 100}}, accuracy: {{min: 0.0}}}}
infra: {{examples: 1}}
bulk_infer: {{enabled: false}}
"""

BETTER = ("train.seed=2",)
REFUSED = ("train.seed=3", "evaluate.gates.log_loss.max=0.0001")


@dataclass
class Life:
    """A config, its work directory and the runs made in it, by a name."""

    file: Path
    workdir: WorkDir
    runs: dict[str, RunRecord] = field(default_factory=dict)

    def run(self, name: str, *overrides: str, **options) -> RunRecord:
        log = self.workdir.logs / f"{time.time_ns()}.log"
        with self.workdir.lock():
            loaded = load(self.file, overrides)
            self.runs[name] = run_pipeline(loaded, self.workdir, log, RunOptions(**options), Observer())
        return self.runs[name]


@pytest.fixture(scope="session")
def life(tmp_path_factory, shapes) -> Life:
    """Return a life of four runs: a good one, a refused one, another good one, and that again."""
    root = tmp_path_factory.mktemp("life")
    (root / "shapes.yaml").write_text(YAML.format(folder=shapes), encoding="utf-8")
    found = Life(root / "shapes.yaml", WorkDir(root / "work"))
    found.workdir.create()
    found.run("good")
    found.run("refused", *REFUSED, to_stage="Evaluator")
    found.run("better", *BETTER)
    found.run("again", *BETTER)
    return found


@pytest.fixture
def synthetic(tmp_path) -> Synthetic:
    """Return a work directory with an empty store."""
    return Synthetic(tmp_path / "work")
