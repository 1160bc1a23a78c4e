"""What README and documentation tell a reader to type is typed: every line, page after page, in one small project.

What can't be run here stands in `ELSEWHERE`, with the reason; `test_snippets` holds it to the command line at least.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.config.loading import load
from tests.docs.walking import ROOT, Walk, at, lines_to_type, pieces

PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in (
        "quickstart", "howto/own-data", "howto/gates-and-forms", "howto/production", "howto/shell-and-editor",
        "node-by-node", "airflow", "vertex", "distributed-training", "scaling", "continuous-training", "runs",
    )),
]  # fmt: skip
"""The pages with something to type, in an order in which a reader might take them; `runs` removes artifacts."""

CHANGES = {
    "--set train.epochs=20": "--set train.epochs=1",  # a second training would take a minute
    "/data/runs/my": "runs/my",  # nobody may write there
    " --rehearse": "",  # minutes; tests/pipeline/runners/vertex rehearse
    "runs lineage 7": "runs lineage 1",  # as many versions as here
    "runs/digits/artifacts/Trainer/model/12": "runs/images/artifacts/Trainer/model/MODEL",
    "canary promote": "canary promote --force",  # no users here, without whom the guards say nothing
    "--data path/to/images": "--data path/to/images --rounds 2 --images 60",
}

ELSEWHERE = {
    r"make \w+": "`make` targets are what the continuous integration runs",
    r"\.\.\.": "stands for the stages between; the walk runs them in `test_every_line_of_a_page_works`",
    r"airflow dags .*|AIRFLOW_HOME=.*": "needs Airflow; tests/pipeline/runners/airflow drive both versions",
    r"slipway submit .*": "needs Airflow or a cloud project; tests/pipeline/runners send to clients of theirs",
    r"slipway beam-worker .*": "listens on an address of another machine; tests/pipeline/runners/beam start one",
    r"\.venv/bin/slipway canary watch": "stays in the foreground and is silent; tests/serving/traffic watch",
    r".*slipway drift .*": "needs hundreds of logged requests; tests/pipeline/continuous compare them",
    r"docker .*|gcloud .*": "needs Docker or Google Cloud",
    r"slipway --install-completion":
        "changes the reader's shell; tests/pipeline/cli/test_completing.py does it in a home of its own",
}  # fmt: skip


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Iterator[Walk]:
    with pytest.MonkeyPatch.context() as patch, at(tmp_path_factory.mktemp("walk")):
        folder = Path.cwd()
        patch.setenv("HOME", str(folder / "home"))
        prepared = Walk.prepared(folder, shapes)
        yield prepared
        prepared.stop_all()


def here(line: str) -> bool:
    return not any(re.fullmatch(pattern, line) for pattern in ELSEWHERE)


def test_no_page_with_something_to_type_is_left_out():
    every = {path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if lines_to_type(path)}
    assert every == set(PAGES)


def test_every_exception_is_one():
    lines = [line for page in PAGES for line in lines_to_type(page)]
    unused = [pattern for pattern in ELSEWHERE if not any(re.fullmatch(pattern, line) for line in lines)]
    assert unused == []
    assert sum(map(here, lines)) > 35


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_line_of_a_page_works(walk: Walk, page: Path):
    model = max((walk.folder / "runs/images/artifacts/Trainer/model").iterdir(), key=lambda path: int(path.name))
    changes = {name: value.replace("MODEL", model.name) for name, value in CHANGES.items()}
    for line in lines_to_type(page):
        if line == "...":
            rest_of_the_nodes(walk)
        elif here(line):
            walk.type(line, changes)


def rest_of_the_nodes(walk: Walk) -> None:
    """Run the stages for which a page writes three dots."""
    run_id = walk.variables["ID"]
    (dag,) = (walk.folder / "runs" / "images" / "plans").glob("*/dag.json")
    for node in json.loads(dag.read_text(encoding="utf-8"))["nodes"]:
        walk.type(f"slipway run-node {node['id']} --run-id {run_id} -w runs/my", {})


@pytest.mark.slow
@pytest.mark.e2e
def test_the_client_of_the_readme_gets_an_answer(walk: Walk):
    walk.type("slipway serve", {})
    (snippet,) = pieces(ROOT / "README.md", "python")
    program = snippet.replace(":8501", f":{walk.ports['rest']}").replace("        client.", "        answers = client.")
    found: dict = {}
    exec(compile(program.replace("    client.predict", "    answers = client.predict"), "README.md", "exec"), found)
    assert found["answers"]


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
YAMLS = [(page.relative_to(ROOT).as_posix(), text) for page in DOCUMENTS for text in pieces(page, "yaml")]


@pytest.mark.parametrize(("page", "text"), YAMLS, ids=lambda value: str(value)[:40].replace("\n", " "))
def test_a_snippet_of_yaml_loads(tmp_path: Path, page: str, text: str):
    rest = {"name": "p", "data": {"source": "digits"}, "transform": {"size": [16, 16]}}
    given = YAML(typ="safe").load(text)
    for section, values in rest.items():
        if section not in given:
            text += f"\n{section}: {json.dumps(values)}\n"
    file = tmp_path / "snippet.yaml"
    file.write_text(text, encoding="utf-8")
    config = load(file).config
    assert set(given) <= config.model_fields_set


def test_the_source_of_the_how_to_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch):
    from transform.settings import DataSettings
    from transform.sources import build_source, registry

    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    (snippet,) = pieces(ROOT / "docs" / "howto" / "own-source.md", "python")
    exec(compile(snippet, "own-source.md", "exec"), {"MySource": lambda path: ("mine", path)})
    assert build_source(DataSettings(source="mine", path="/pictures")) == ("mine", "/pictures")


def test_the_metric_of_the_how_to_is_that_of_its_name():
    import numpy as np

    from pipeline.evaluation.counts import count

    (snippet,) = pieces(ROOT / "docs" / "howto" / "gates-and-forms.md", "python")
    found: dict = {}
    exec(compile(snippet, "gates-and-forms.md", "exec"), found)
    labels, guesses = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    assert found["lowest_recall"](count(labels, np.eye(2)[guesses] * 0.8 + 0.1, 1)) == 0.5


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_snippets_of_json_are_json(page: Path):
    for text in pieces(page, "json"):
        assert json.loads(text)
