"""From an unknown folder of color images to predictions, by the command line alone."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PLAIN = ("--set", "compress.variants=[]")
"""Without the forms beside the SavedModel, of which one run in this file is enough."""

ROOT = Path(__file__).resolve().parents[3]


def slipway(*words: str, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pipeline", *words],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if check is not None:
        assert done.returncode == check, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_init_then_a_run_killed_half_way_then_the_same_run_goes_on(home, shapes):
    slipway("init", str(shapes), "--out", "shapes.yaml", cwd=home)
    command = [sys.executable, "-W", "ignore", "-m", "pipeline", "run", "shapes.yaml", "--set", "train.epochs=400"]
    process = subprocess.Popen(
        command, cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Trainer"):
            break
    deadline = time.monotonic() + 120
    unfinished = home / "runs" / "shapes" / "unfinished"
    while not unfinished.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shown = slipway("status", cwd=home).stdout
    assert "interrupted" in shown
    assert not (home / "runs" / "shapes" / "served").exists()
    done = slipway(
        "run", "shapes.yaml", "--set", "train.epochs=8", "--set", "evaluate.gates.accuracy.min=0.4", cwd=home
    )
    lines = done.stdout.splitlines()
    hits = {line.split()[0] for line in lines if " HIT " in line}
    assert {"ExampleGen", "StatisticsGen", "Transform"} <= hits
    assert any("MISS" in line and line.startswith("Trainer") for line in lines)
    assert "version 1 is in" in done.stdout
    slipway("edge", "verify", "runs/shapes/edge/1", cwd=home)
    assert "tensorflow" not in done.stdout.lower().replace("log of tensorflow", "")


def test_predictions_for_files_and_for_a_folder(home, shapes, tmp_path):
    pictures = sorted((shapes / "circle").iterdir())[:3]
    notes = tmp_path / "notes.txt"
    notes.write_text("no image", encoding="utf-8")
    shown = json.loads(slipway("predict", *map(str, pictures), "--json", cwd=home).stdout)
    assert [row["error"] for row in shown["predictions"]] == [None] * 3
    assert {row["label"] for row in shown["predictions"]} <= {"circle", "cross", "square"}
    mixed = slipway("predict", str(pictures[0]), str(notes), cwd=home, check=2)
    assert "unreadable" in mixed.stdout and "circle" in mixed.stdout
    out = tmp_path / "all.csv"
    done = slipway("predict", "--batch", str(shapes), "--out", str(out), cwd=home)
    assert "180 images, 0 of them unreadable" in done.stdout
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 180
    right = sum(Path(row["image"]).parent.name == row["label"] for row in rows)
    assert right > 90


def test_a_refusal_has_exit_code_3_and_publishes_nothing(home):
    done = slipway("run", "shapes.yaml", *PLAIN, "--set", "train.epochs=8", "--set", "evaluate.gates.accuracy.min=1.0",
                   "--set", "evaluate.gates.log_loss.max=1.0e-9", "--quiet", cwd=home, check=3)  # fmt: skip
    assert done.stdout == ""
    assert "log_loss is" in done.stderr and "Nothing was pushed" in done.stderr
    versions = json.loads(slipway("versions", "--json", cwd=home).stdout)
    assert [version["version"] for version in versions] == [1]


def test_another_version_and_back(home):
    done = slipway("run", "shapes.yaml", *PLAIN, "--set", "train.epochs=9", "--set", "evaluate.gates.accuracy.min=0.3",
                   "--set", "evaluate.gates.accuracy.max_drop_vs_baseline=1.0", "--json", cwd=home)  # fmt: skip
    assert json.loads(done.stdout)["version"] == 2
    back = slipway("rollback", cwd=home).stdout
    assert "version 1 is served again, as version 3" in back
    versions = json.loads(slipway("versions", "--json", cwd=home).stdout)
    assert [(v["version"], v["served"], v["restores"]) for v in versions] == [
        (1, False, None), (2, False, None), (3, True, 1),
    ]  # fmt: skip
    slipway("rollback", "7", cwd=home, check=2)


def test_reusing_a_search_needs_one_and_takes_what_it_found(home, shapes):
    slipway("init", str(shapes), "--out", "tuned.yaml", cwd=home)
    common = ("run", "tuned.yaml", "--workdir", "tuned", "--set", "train.epochs=1", "--to", "Trainer")
    done = slipway(*common, "--set", "tune.mode=reuse", cwd=home, check=2)
    assert "no earlier run in this work directory has searched" in done.stderr
    search = ("--set", "tune.mode=search", "--set", "tune.trials=1", "--set", "tune.epochs=1", "--json")
    found = {s["id"]: s for s in json.loads(slipway(*common, *search, cwd=home).stdout)["stages"]}
    assert found["Tuner"]["state"] == "MISS"
    assert found["Tuner"]["detail"].startswith("best: ")
    reused = slipway(*common, "--set", "tune.mode=reuse", "--json", cwd=home).stdout
    states = {s["id"]: s["state"] for s in json.loads(reused)["stages"]}
    # The hyperparameters are the same and so is what the Trainer reads: there is nothing to train again.
    assert (states["Tuner"], states["Trainer"]) == ("lookup", "HIT")
