"""One measurement: the data stages on one folder, by one engine, in a process of their own.

Comes in: arguments. Goes out: a line of JSON with wall time, CPU time of all processes and peak memory of the driver
and of the largest worker, for each stage. Called by `benchmarks.scale.bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tfx.components.transform.executor import Executor as TransformExecutor
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact, standard_artifacts

from pipeline.beam_options import beam_args
from pipeline.components import evaluator, example_gen, statistics_gen
from pipeline.config.config import Config
from pipeline.evaluation.eval_config import eval_config
from pipeline.runners import resources

STAGES = ("ExampleGen", "StatisticsGen", "Transform", "Evaluator")


class Cell:
    """The stages of one measurement, one after the other."""

    def __init__(self, config: Config, folder: Path, model: Path, schema: Path):
        """Initialize.

        Args:
            config: with data and engine.
            folder: empty, for everything that is written.
            model: SavedModel to evaluate, inside the artifact's folder.
            schema: folder of the schema.
        """
        self._config = config
        self._folder = folder
        self._model = model
        self._schema = schema
        self.rows: list[dict[str, Any]] = []

    def run(self) -> None:
        """Run all stages."""
        examples = self._made(standard_artifacts.Examples, "examples")
        data = self._folder / "data.json"
        data.write_text(self._config.data.model_dump_json(), encoding="utf-8")
        properties = {"settings_file": str(data), "ledger": str(self._folder / "ledger.npz"), "fingerprint": ""}
        with self._measured("ExampleGen"):
            self._executor(example_gen.Executor).Do({}, {"examples": [examples]}, properties)
        statistics = self._made(standard_artifacts.ExampleStatistics, "statistics")
        with self._measured("StatisticsGen"):
            self._executor(statistics_gen.Executor).Do(
                {"examples": [examples]}, {"statistics": [statistics]}, {"sample": self._config.data.statistics_sample}
            )
        with self._measured("Transform"):
            self._transform(examples)
        with self._measured("Evaluator"):
            self._evaluate(examples)

    def digest(self) -> str:
        """Return a hash of examples and counts, which must not depend on the engine."""
        total = hashlib.blake2b(digest_size=8)
        for path in sorted(self._folder.glob("examples/Split-*/*")):
            total.update(f"{path.parent.name}/{path.name}".encode() + hashlib.sha256(path.read_bytes()).digest())
        total.update((self._folder / "evaluation/summary.json").read_bytes())
        return total.hexdigest()

    def _transform(self, examples: artifact.Artifact) -> None:
        outputs = {
            "transform_graph": [self._made(standard_artifacts.TransformGraph, "graph")],
            "updated_analyzer_cache": [self._made(standard_artifacts.TransformCache, "cache")],
        }
        schema = standard_artifacts.Schema()
        schema.uri = str(self._schema)
        properties = {
            "preprocessing_fn": "transform.preprocessing.preprocessing_fn",
            "disable_statistics": 1,
            "force_tf_compat_v1": 0,
            "custom_config": json.dumps({"transform": self._config.transform.model_dump(mode="json")}),
        }
        self._executor(TransformExecutor).Do({"examples": [examples], "schema": [schema]}, outputs, properties)

    def _evaluate(self, examples: artifact.Artifact) -> None:
        model = standard_artifacts.Model()
        model.uri = str(self._model)
        outputs = {
            "evaluation": [self._made(standard_artifacts.ModelEvaluation, "evaluation")],
            "blessing": [self._made(standard_artifacts.ModelBlessing, "blessing")],
        }
        properties = {
            "eval_config": json_format.MessageToJson(eval_config(self._config.evaluate), sort_keys=True),
            "split": self._config.evaluate.split,
            "top_k": self._config.evaluate.top_k,
        }
        self._executor(evaluator.Executor).Do({"examples": [examples], "model": [model]}, outputs, properties)

    def _made(self, kind: type[artifact.Artifact], name: str) -> Any:
        made = kind()
        made.uri = str(self._folder / name)
        os.makedirs(made.uri)
        return made

    def _executor(self, kind: Any) -> Any:
        args = beam_args(self._config)
        context = BaseBeamExecutor.Context(beam_pipeline_args=args, tmp_dir=str(self._folder / "tmp"), unique_id="1")
        return kind(context)

    @contextlib.contextmanager
    def _measured(self, stage: str) -> Iterator[None]:
        before, meter = len(resources.worker_costs), resources.Meter()
        yield
        wall, cpu, _ = meter.read()
        peaks = [peak for _, peak in resources.worker_costs[before:]]
        driver = resources.peak_mb()
        row = {"stage": stage, "wall_s": wall, "cpu_s": cpu, "driver_mb": driver, "worker_mb": max(peaks, default=0.0)}
        self.rows.append(row)


def main() -> None:
    """Measure one cell and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("pictures", "folder", "model", "schema"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--engine", choices=("direct", "workers"), required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # TFX reads it
    config = Config.model_validate(
        {
            "name": "scale",
            "data": {"source": str(options.pictures)},
            "transform": {"size": [32, 32]},
            "beam": {"runner": options.engine, "workers": options.workers},
        }
    )
    start = time.perf_counter()
    cell = Cell(config, options.folder, options.model, options.schema)
    cell.run()
    wall = round(time.perf_counter() - start, 3)
    print(json.dumps({"wall_s": wall, "stages": cell.rows, "digest": cell.digest()}), flush=True)


if __name__ == "__main__":
    main()
