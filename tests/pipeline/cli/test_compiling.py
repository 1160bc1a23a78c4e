"""`slipway compile` and `slipway submit`: which target is meant, and what fits to it."""

from __future__ import annotations

import pytest

from pipeline.cli.app import run
from pipeline.cli.compiling import TARGETS, check_target
from pipeline.errors import ConfigError

CONFIG = "name: tiny\ndata: {source: digits}\ntransform: {size: [8, 8]}\n"


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    return "tiny.yaml"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("airflow", "airflow"),
        ("Vertex", "vertex"),
        ("vertex-ai", "vertex"),
        ("VERTEX_AI", "vertex"),
        ("kubeflow", "kubeflow"),
    ],
)
def test_targets_are_understood_in_several_spellings(given, meant):
    assert check_target(given) == meant


@pytest.mark.parametrize("given", ["", "airflw", "dask", "../vertex", "vertex kubeflow"])
def test_an_unknown_target_is_answered_with_those_there_are(given):
    with pytest.raises(ConfigError, match="expected one of airflow, kubeflow, vertex"):
        check_target(given)
    assert len(TARGETS) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compile", "--target", "airflw", "--out", "o"], "did you mean airflow?"),
        (["compile", "--target", "local", "--out", "o"], "slipway run"),
        (["compile", "--target", "airflow", "--out", "o", "--schema", "2.1"], "belongs to --target vertex"),
        (["compile", "--target", "airflow", "--out", "o", "--rehearse"], "holds no containers"),
        (["compile", "--target", "vertex", "--out", "tiny.yaml"], "can't be made"),
        (["submit", "--target", "airflow", "--run-id", "x"], "Airflow names its runs itself"),
        (["submit", "--target", "nowhere"], "expected one of"),
    ],
)
def test_what_does_not_fit_is_refused_with_2(config, capfd, words, sentence):
    assert run([words[0], config, *words[1:]]) == 2
    assert sentence in capfd.readouterr().err


@pytest.mark.parametrize("words", [["compile", "--out", "o"], ["compile", "--target", "vertex"], ["submit"]])
def test_missing_options_are_usage_errors(config, words):
    assert run([words[0], config, *words[1:]]) == 2
