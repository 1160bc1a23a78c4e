"""Commands in this process: their exit codes and the one sentence that a person gets."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.cli import app
from pipeline.cli.app import run
from pipeline.records import RunRecord, StageRecord
from serving.server.request_log import RequestLog

CONFIG = "name: p\ndata: {source: digits}\ntransform: {size: [8, 8], channels: 1}\n"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["run", "p.yaml", "--set", "train.epoch=3"], "did you mean"),
        (["run", "p.yaml", "--set", "train.epochs=0"], "train.epochs"),
        (["run", "p.yaml", "--from", "traner"], "did you mean Trainer?"),
        (["run", "p.yaml", "--no-cache", "nothing"], "there is no stage 'nothing'. The stages are"),
        (["run", "p.yaml", "--workdir", "p.yaml/x"], "can't be made"),
        (["status"], "there is no run below"),
        (["status", "--workdir", "nowhere"], "holds no runs"),
        (["versions"], "there is no run below"),
        (["rollback", "3"], "there is no run below"),
        (["predict"], "expected image files"),
        (["predict", "a.png", "--batch", "."], "expected image files"),
        (["predict", "--batch", "."], "expected image files"),
        (["predict", "--batch", ".", "--out", "x.txt"], ".csv or .jsonl"),
        (["predict", "a.png"], "there is no run below"),
        (["predict", "a.png", "b.png", "--model", "."], "a.png, b.png: no such file"),
        (["init", "nowhere"], "nowhere"),
        (["serve"], "there is no run below"),
        (["serve", "nowhere"], "nowhere does not exist"),
        (["serve", ".", "--model_base_path=/m"], "expected one of them"),
        (["gateway"], "there is no run below"),
        (["gateway", "--settings", "none.yaml"], "cannot be read"),
        (["canary", "status"], "there is no run below"),
        (["edge", "verify", "nowhere"], "slipway: nowhere"),
        (["deploy", "--out", "d"], "there is no run below"),
        (["warmup", ".", "--model", "m", "--out", "w"], "holds no request of model 'm'"),
        (["config", "show", "none.yaml"], "no such file"),
        (["nonsense"], "nonsense"),
        (["run"], "Missing argument"),
    ],
)
def test_what_a_person_got_wrong_is_said_in_words_with_exit_code_2(here, capsys, arguments, words):
    assert run(arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    assert "Traceback" not in said


def test_the_version_is_that_of_the_package(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"slipway {metadata.version('tfx-slipway')}\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [("run", "interrupted; the next run continues at the first stage that is not done"), ("report", "interrupted")],
)
def test_an_interrupt_says_what_happens_next(monkeypatch, capsys, command, said):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "_execute", interrupt)
    assert run([command]) == 130
    assert capsys.readouterr().err == f"slipway: {said}\n"


def test_config_show_prints_yaml_that_says_where_values_come_from(here, capsys):
    assert run(["config", "show", "p.yaml", "--set", "train.epochs=3"]) == 0
    shown = capsys.readouterr().out
    assert "epochs: 3" in shown and "learning_rate" in shown
    assert run(["config", "show", "p.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["source"] == "digits"
    assert run(["config", "schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


def test_init_writes_a_config_that_loads_and_refuses_to_overwrite_it(here, capsys, shapes):
    assert run(["init", str(shapes), "--out", "mine.yaml"]) == 0
    assert "180 images in 3 classes" in capsys.readouterr().out
    assert run(["config", "show", "mine.yaml"]) == 0
    assert run(["init", str(shapes), "--out", "mine.yaml"]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(["init", str(shapes), "--out", "mine.yaml", "--force"]) == 0


def test_status_shows_stages_verdicts_and_where_the_run_ended(here, capsys):
    record = RunRecord("2026-01-01", "p", "p.yaml", "2026-01-01T00:00:00Z", 2**22 + 1, "log", "f")
    record.stages = [
        StageRecord("ExampleGen", "MISS", "first run", "5 images", 1.5, 1.0, 100.0),
        StageRecord("Trainer"),
    ]
    record.verdicts = [{"gate": "Evaluator", "passed": False, "sentence": "accuracy is 0.1", "checks": []}]
    folder = here / "runs" / "p" / "runs"
    folder.mkdir(parents=True)
    record.save(folder)
    assert run(["status"]) == 0
    shown = capsys.readouterr().out
    for words in ("ExampleGen", "accuracy is 0.1", "refused", "interrupted"):
        assert words in shown
    assert run(["status", "--json", "--workdir", "runs/p"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "interrupted"
    assert run(["versions"]) == 2
    assert "has published a model yet" in " ".join(capsys.readouterr().err.split())


def test_a_bug_keeps_its_stack_trace(here, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("pipeline.config.loading.load", broken)
    with pytest.raises(ZeroDivisionError):
        run(["config", "show", "p.yaml"])


def test_logged_requests_become_warm_up_requests(here, capsys):
    log = RequestLog(here / "logs", 1.0)
    handle = SimpleNamespace(name="m", version=1)
    log.answered(handle, "Predict", "serving_default", {"x": np.zeros((1, 2), np.float32)}, {"y": np.zeros(1)})
    log.close()
    assert run(["warmup", "logs", "--model", "m", "--out", "w"]) == 0
    assert "1 requests of m" in capsys.readouterr().out
    assert (here / "w").stat().st_size > 0


def test_no_process_compiles_grammars_that_it_does_not_need():
    import subprocess
    import sys

    words = "import sys; from pipeline.__main__ import set_up_process; set_up_process(); import jsonschema; "
    done = subprocess.run([sys.executable, "-c", words + "sys.exit('lark' in sys.modules)"], check=False)
    assert done.returncode == 0
