"""`make bench`: what the pipeline costs beside the plain script, on all 70,000 images of Fashion-MNIST.

Runs both as whole processes, start-up included, one after the other and again (interleaved, so that a machine that
slows down slows both), then the pipeline once more with nothing to do, and once on 7,000 images for its memory.
Writes one row per process and per stage to `benchmarks/results/pipeline_cost.csv`, with hardware and date.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/bench/fashion_mnist_cnn_small.yaml"
FEWER = ("--set", "data.limit=7000", "--set", "evaluate.gates.accuracy.min=0.5")
RESULTS = ROOT / "benchmarks" / "results" / "pipeline_cost.csv"
FIELDS = ("date", "cpu", "cores", "load", "what", "round", "stage", "state", "wall_s", "cpu_s", "peak_mb")


@dataclass(frozen=True)
class Cost:
    """What a process cost, with its children."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system."""
    peak_mb: float
    """Largest resident set of the process or of one of its children, in MB."""


def measure(command: list[str], log: Path) -> Cost:
    """Run a command to its end and return its cost.

    Raises:
        SystemExit: the command failed.
    """
    environment = {
        **os.environ,
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(ROOT),
    }
    start = time.perf_counter()
    with open(log, "ab") as output:
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
            ],
        )
        _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(command)} failed; its output is in {log}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def cpu_model() -> str:
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


class Results:
    """Rows of the results file."""

    def __init__(self) -> None:
        """Begin with no rows."""
        self._rows: list[dict[str, object]] = []
        self._machine = {"date": time.strftime("%Y-%m-%d"), "cpu": cpu_model(), "cores": os.cpu_count()}

    def add(self, what: str, number: int, cost: Cost, workdir: Path | None = None) -> None:
        """Add a process, and its stages where it was a run of the pipeline."""
        row = {**self._machine, "load": round(os.getloadavg()[0], 2), "what": what, "round": number}
        figures = {"wall_s": round(cost.wall, 2), "cpu_s": round(cost.cpu, 2), "peak_mb": round(cost.peak_mb)}
        self._rows.append({**row, "stage": "whole process", **figures})
        if workdir is not None:
            record = json.loads(max((workdir / "runs").glob("*.json")).read_text(encoding="utf-8"))
            for stage in record["stages"]:
                costs = {
                    "wall_s": stage["seconds"],
                    "cpu_s": stage["cpu_seconds"],
                    "peak_mb": round(stage["peak_mb"]),
                }
                self._rows.append({**row, "stage": stage["id"], "state": stage["state"], **costs})
        print(
            f"{what} {number}: {cost.wall:.1f} s wall, {cost.cpu:.1f} s CPU, {cost.peak_mb:.0f} MB",
            flush=True,
        )

    def write(self) -> None:
        """Replace the results file."""
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with open(RESULTS, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(self._rows)

    def median(self, what: str, field: str, stage: str = "whole process") -> float:
        """Return the median of a figure over the rounds."""
        chosen = [row[field] for row in self._rows if row["what"] == what and row["stage"] == stage]
        return statistics.median(float(str(value)) for value in chosen)

    def stages(self, what: str) -> list[str]:
        """Return the names of the stages of a kind of run."""
        return list(dict.fromkeys(str(row["stage"]) for row in self._rows if row["what"] == what))


def summarize(results: Results) -> None:
    """Print the ratios that the project promises."""
    for field, name in (("cpu_s", "CPU"), ("wall_s", "wall")):
        plain, ours = results.median("plain", field), results.median("pipeline", field)
        again = results.median("pipeline, cached", field)
        print(f"{name}: pipeline / plain script = {ours:.1f} / {plain:.1f} = {ours / plain:.2f} (target 1.25)")
        print(f"{name}: cached / first run = {again:.1f} / {ours:.1f} = {again / ours:.1%} (target 10 %)")
    for stage in results.stages("pipeline"):
        small, large = (
            results.median("pipeline, 7,000", "peak_mb", stage),
            results.median("pipeline", "peak_mb", stage),
        )
        if small:
            print(f"peak memory {stage}: {large:.0f} MB, {large / small:.2f} of that at 7,000 images (target 1.2)")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run")
    rounds = parser.parse_args().rounds
    results = Results()
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    try:
        log = folder / "log"
        for number in range(1, rounds + 1):
            out, workdir, small = folder / "plain", folder / f"run-{number}", folder / f"small-{number}"
            run = [sys.executable, "-m", "pipeline", "run", str(ROOT / CONFIG), "--quiet", "--workdir"]
            results.add(
                "plain",
                number,
                measure([sys.executable, "-W", "ignore", "benchmarks/plain_keras.py", str(out)], log),
            )
            results.add("pipeline", number, measure([*run, str(workdir)], log), workdir)
            results.add("pipeline, cached", number, measure([*run, str(workdir)], log), workdir)
            results.add("pipeline, 7,000", number, measure([*run, str(small), *FEWER], log), small)
            for path in (out, workdir, small):
                shutil.rmtree(path)
            results.write()
        summarize(results)
        print(f"written to {RESULTS.relative_to(ROOT)}")
    finally:
        if sys.exc_info()[0] is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
