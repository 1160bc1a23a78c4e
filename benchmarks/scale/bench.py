"""What the data stages cost on one process and on several, from 7,000 to 700,000 pictures.

Every measurement is a process of its own on the same made-up pictures; engines take turns, so that a machine that slows
down slows all of them. A measurement that is in the results file already, of the same code on the same machine, is not
made again, so a benchmark that was ended goes on where it was. It ends by itself when its minutes are over. Writes
`benchmarks/results/scale.csv`, a picture and a sentence: from how many pictures on workers pay.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale.picture import draw
from benchmarks.scale.pictures import write_pictures
from benchmarks.scale.summary import sentence
from pipeline.fingerprint import code_fingerprint

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
FIELDS = (
    "date", "cpu", "cores", "load", "code", "round", "images", "engine", "workers", "stage", "wall_s", "cpu_s",
    "driver_mb", "worker_mb", "digest",
)  # fmt: skip
ENGINES = (("direct", 1), ("workers", 2), ("workers", 1), ("workers", 4))
"""The first two are wanted at all sizes before the others, since time is short."""

_MEASURED = (
    "pipeline.components.example_gen",
    "pipeline.components.statistics_gen",
    "pipeline.components.evaluator",
    "pipeline.runners.beam.runner",
)
_MODEL_IMAGES = 2000
_WHOLE = "all"
_START_SECONDS = 60.0
_SECONDS_PER_FILE = 2e-4
_MARGIN = 1.3


@dataclass(frozen=True, order=True)
class Cell:
    """What is measured."""

    round: int
    images: int
    engine: str
    workers: int


def cells(sizes: list[int], rounds: int) -> list[Cell]:
    """Return all measurements in their order."""
    return [
        Cell(number, images, engine, workers)
        for number in range(1, rounds + 1)
        for group in (ENGINES[:2], ENGINES[2:])
        for images in sizes
        for engine, workers in group
    ]


def cpu_model() -> str:
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


class Results:
    """Rows of the results file; it is written after every measurement."""

    def __init__(self, file: Path) -> None:
        """Read what an earlier call of the same code measured on this machine."""
        self._file = file
        self._machine = {
            "cpu": cpu_model(),
            "cores": str(os.cpu_count()),
            "code": code_fingerprint(_MEASURED)[:12],
        }
        rows: list[dict[str, str]] = []
        if file.exists():
            with open(file, encoding="utf-8", newline="") as stored:
                rows = list(csv.DictReader(stored))
        self.rows = [row for row in rows if all(row[name] == value for name, value in self._machine.items())]

    def has(self, cell: Cell) -> bool:
        """Return whether a measurement is there."""
        wanted = [str(value) for value in vars(cell).values()]
        return any([row["round"], row["images"], row["engine"], row["workers"]] == wanted for row in self.rows)

    def expected(self, cell: Cell) -> float:
        """Return about how many seconds a measurement takes, from those of the same size or of fewer pictures."""
        known = [(int(row["images"]), float(row["wall_s"])) for row in self.rows if row["stage"] == _WHOLE]
        same = [wall for images, wall in known if images == cell.images]
        if same:
            return _MARGIN * max(same)
        fewer = [(images, wall) for images, wall in known if images < cell.images]
        if not fewer:
            return _START_SECONDS
        images, wall = max(fewer)
        return wall * cell.images / images + _SECONDS_PER_FILE * cell.images

    def add(self, cell: Cell, measured: dict) -> None:
        """Add a measurement and replace the file."""
        shared = {
            "date": time.strftime("%Y-%m-%d"),
            **self._machine,
            "load": str(round(os.getloadavg()[0], 2)),
            **{name: str(value) for name, value in vars(cell).items()},
            "digest": measured["digest"],
        }
        stages = measured["stages"]
        whole = {
            "stage": _WHOLE,
            "wall_s": measured["wall_s"],
            "cpu_s": round(sum(stage["cpu_s"] for stage in stages), 3),
            "driver_mb": max(stage["driver_mb"] for stage in stages),
            "worker_mb": max(stage["worker_mb"] for stage in stages),
        }
        self.rows += [{**shared, **{name: str(value) for name, value in row.items()}} for row in (*stages, whole)]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        with open(part, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(self.rows)
        part.replace(self._file)
        print(
            f"{cell.images:,} pictures, {cell.engine} {cell.workers}: {whole['wall_s']:.1f} s wall, "
            f"{whole['cpu_s']:.1f} s CPU, driver {whole['driver_mb']:.0f} MB, worker {whole['worker_mb']:.0f} MB",
            flush=True,
        )


def prepare(folder: Path) -> tuple[Path, Path]:
    """Return folders of a trained model and of a schema; made by the pipeline itself, once."""
    work = folder / "model"
    if not (work / "done").exists():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        pictures = write_pictures(folder / "pictures", _MODEL_IMAGES)
        yaml = f"name: scale\ndata: {{source: {pictures}}}\ntransform: {{size: [32, 32]}}\ntrain: {{epochs: 1}}\n"
        (work / "scale.yaml").write_text(yaml, encoding="utf-8")
        command = ["run", str(work / "scale.yaml"), "--quiet", "--to", "Trainer", "--workdir", str(work / "run")]
        run([sys.executable, "-W", "ignore", "-m", "pipeline", *command], folder / "log")
        (work / "done").touch()
    artifacts = work / "run" / "artifacts"
    return next(artifacts.glob("Trainer/model/*")), next(artifacts.glob("SchemaGen/schema/*"))


def run(command: list[str], log: Path) -> str:
    """Run a command to its end and return the last line that it printed.

    Raises:
        SystemExit: it failed.
    """
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    with open(log, "ab") as errors:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, text=True, check=False
        )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with exit code {done.returncode}; its output is in {log}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def measure(cell: Cell, folder: Path) -> dict:
    """Make one measurement."""
    model, schema = prepare(folder)
    pictures = write_pictures(folder / "pictures", cell.images)
    out = Path(tempfile.mkdtemp(prefix="cell-", dir=folder))
    try:
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.scale.cell",
            *map(str, (pictures, out, model, schema)),
        ]
        line = run([*command, "--engine", cell.engine, "--workers", str(cell.workers)], folder / "log")
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return dict(json.loads(line))


def same_results(rows: list[dict[str, str]]) -> None:
    """Check that all engines wrote the same.

    Raises:
        SystemExit: they didn't.
    """
    for images in {row["images"] for row in rows}:
        digests = {row["digest"] for row in rows if row["images"] == images}
        if len(digests) > 1:
            raise SystemExit(f"engines wrote different examples or metrics of {images} pictures: {sorted(digests)}")


def main() -> None:
    """Measure as much as fits into the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="end before that; call again to go on")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured")
    parser.add_argument("--sizes", type=int, nargs="+", default=[7_000, 70_000, 700_000], help="pictures")
    parser.add_argument(
        "--folder", type=Path, help="for pictures and outputs, 8 GB; unset: made, and removed at the end"
    )
    parser.add_argument("--results", type=Path, default=RESULTS / "scale.csv", help="the table")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    folder = options.folder or Path(tempfile.mkdtemp(prefix="slipway-scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(options.results)
    try:
        for cell in cells(sorted(options.sizes), options.rounds):
            if results.has(cell):
                continue
            left, expected = end - time.monotonic(), results.expected(cell)
            if expected > left:
                what = f"{cell.images:,} pictures, {cell.engine} {cell.workers}"
                print(f"left out: {what}, which may take {expected:.0f} s of {max(left, 0):.0f} s left")
                continue
            results.add(cell, measure(cell, folder))
    finally:
        if options.folder is None and sys.exc_info()[0] is None:
            shutil.rmtree(folder, ignore_errors=True)
    same_results(results.rows)
    if results.rows:
        draw(results.rows, options.results.with_suffix(".png"))
        options.results.with_suffix(".txt").write_text(sentence(results.rows) + "\n", encoding="utf-8")
        print(sentence(results.rows))


if __name__ == "__main__":
    main()
