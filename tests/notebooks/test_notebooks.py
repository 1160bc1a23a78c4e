"""Every notebook runs from its first cell to its last and shows what it promises; what is committed is such a run."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.walking import NOTEBOOKS, ROOT, clean, executed, text_of

OUTCOMES = {
    "1_from_folder_to_prediction": (
        r"name: digits\n",
        r"ExampleGen +MISS +1,797 images in 10 classes",
        r"succeeded: version 1 is published",
        r"the folder says 3, the model says \d\n",
        r"ExampleGen +HIT",
        r"Trainer +MISS .*train\.epochs 6 -> 7",
        r"version 2: accuracy 0\.\d+, in service",
    ),
    "2_look_at_the_data": (
        r" 2  unreadable\n",
        r"23  copies of another image",
        r" 3  contents under more than one label",
        r"label_name",
        r"refused: .*the data breaks its schema: label_name in train",
        r"Unexpected string values",
    ),
    "3_train_and_tune": (
        r"learning_rate +0\.001 to 0\.01, log",
        r"Tuner +\w+ +best: learning_rate",
        r"succeeded: version \d+ is published",
        r"Dense",
    ),
    "4_judge": (
        r"expected calibration error: 0\.\d+",
        r"\d+ of 179 answers are wrong",
        r"TFMA: ok",
        r"refused: .*accuracy is 0\.\d+ \(required: at least 0\.9",
    ),
    "5_compress_and_certify": (
        r"prune90_tflite_int8",
        r"tflite_float32 is refused: It takes [\d,]+ bytes, allowed are 48,000",
        r"mobile_cpu +\w*tflite_\w+: least CPU time",
        r"mine\.tflite: [\d.]+ kB",
    ),
    "6_serve_canary_roll_back": (
        r"\d+ of 100 right, by the version that is called stable: 1",
        r"version 2 on trial with 30% of the users",
        r"version 2 is not promoted",
        r"version 2 \(canary\)",
        r"version 2 answers everyone; no canary",
        r"version 1 answers everyone; no canary",
        r"'version 1 \(stable\)': \d+",
        r"exit code 0\nexit code 0",
    ),
    "7_to_the_phone": (
        r"labels: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n",
        r"passed +answers: \d+ files give the expected answers",
        r"samples, as promised",
        r"sums: labels\.txt was changed",
    ),
    "8_airflow_and_vertex": (
        r"digits_dag\.py",
        r"succeeded: [1-9]\d* stages from the cache",
        r"schema 2\.\d\.0, \d+ tasks, everything below gs://my-bucket/slipway",
        r"1\d stages in both\nonly for Airflow: Resolver",
    ),
}
"""What a reader must see in each notebook, as patterns of the text that it shows."""

MACHINE = re.compile(r"/(root|home|tmp|Users|private|workspaces?)/")
"""Paths that exist on one machine only."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where the notebooks work: later ones find what earlier ones made, as with a person who goes through them."""
    return tmp_path_factory.mktemp("runs")


def test_there_are_eight_in_order():
    assert [path.stem for path in NOTEBOOKS] == sorted(OUTCOMES)
    assert [path.name[0] for path in NOTEBOOKS] == list("12345678")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, runs):
    fresh, committed = executed(path, runs), nbformat.read(path, as_version=4)
    shown = text_of(fresh)
    for pattern in OUTCOMES[path.stem]:
        assert re.search(pattern, shown), f"{pattern} isn't in what {path.name} shows:\n{shown}"
    assert _kinds(fresh) == _kinds(committed), "the outputs aren't those of these cells; see tests/notebooks/walking.py"
    for place in (runs, ROOT, Path.home()):
        assert str(place) not in shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_was_executed_and_shows_what_it_promises(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = text_of(notebook)
    for pattern in OUTCOMES[path.stem]:
        assert re.search(pattern, shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_small_and_clean(path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert path.stat().st_size < 300_000
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not [output for output in outputs if "application/javascript" in output.get("data", {})]
    assert not MACHINE.search(text_of(notebook)) and str(ROOT) not in text_of(notebook)
    assert nbformat.writes(clean(nbformat.read(path, as_version=4))) == nbformat.writes(notebook)


def test_committed_notebooks_are_small_together():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 1_500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_teaches(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith(f"# {path.name[0]} ")
    assert notebook.cells[-1].cell_type == "markdown"
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    assert words > 300


def _kinds(notebook):
    """Return what kinds of output each code cell shows."""
    return [
        [sorted(output.get("data", [output.output_type])) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
