"""What the ready-made configs reach on the test split, one training per seed; writes a CSV.

    python scripts/accuracy.py configs/digits.yaml --seeds 1 2 3 4 5
    python scripts/accuracy.py configs/fashion_mnist.yaml --seeds 7

Rows of the same config in `benchmarks/results/accuracy.csv` are replaced, the others stay.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import cpu_model

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.csv"
FIELDS = (
    "date",
    "cpu",
    "config",
    "seed",
    "state",
    "accuracy",
    "log_loss",
    "calibration_error",
    "train_wall_s",
    "train_cpu_s",
)


def run(config: Path, seed: int, workdir: Path) -> dict[str, object]:
    """Run a config with a seed and return its row.

    Raises:
        SystemExit: the run ended otherwise than by success or refusal.
    """
    command = [sys.executable, "-W", "ignore", "-m", "pipeline", "run", str(config), "--workdir", str(workdir)]
    # The forms beside the float model have figures of their own.
    command += ["--set", f"train.seed={seed}", "--set", "compress.variants=[]", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    record = json.loads(done.stdout)
    stages = {stage["id"]: stage for stage in record["stages"]}
    (summary,) = (path for uri in stages["Evaluator"]["outputs"] for path in Path(uri).glob("summary.json"))
    parts = json.loads(summary.read_text(encoding="utf-8"))["slices"]
    whole = next(part for part in parts if part["model"] == "candidate" and not part["slice"])
    metrics = {name: round(whole["metrics"][name], 4) for name in ("accuracy", "log_loss", "calibration_error")}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu_model(),
        "config": config.resolve().relative_to(ROOT).as_posix(),
        "seed": seed,
        "state": record["state"],
        **metrics,
        "train_wall_s": round(stages["Trainer"]["seconds"]),
        "train_cpu_s": round(stages["Trainer"]["cpu_seconds"]),
    }


def write(rows: list[dict[str, object]]) -> None:
    """Replace the rows of the same configs in the results file."""
    configs = {row["config"] for row in rows}
    old: list[dict[str, object]] = []
    if RESULTS.exists():
        with open(RESULTS, encoding="utf-8", newline="") as file:
            old = [dict(row) for row in csv.DictReader(file) if row["config"] not in configs]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with open(RESULTS, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows([*old, *rows])


def main() -> None:
    """Train once per seed and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a config of the repository")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="seeds of the training")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="slipway-accuracy-") as folder:
        for seed in arguments.seeds:
            # One work directory: the data and, if the config asks for one, the search are the same for every seed.
            rows.append(run(arguments.config, seed, Path(folder)))
            print(rows[-1], flush=True)
    write(rows)
    mean = statistics.mean(float(str(row["accuracy"])) for row in rows)
    print(f"mean accuracy {mean:.4f} over {len(rows)} seeds; written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
