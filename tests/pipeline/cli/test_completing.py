"""What Tab offers: asked as the shells ask, in the protocol of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.cli import completing
from pipeline.cli.app import app
from pipeline.records import RunRecord

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "p.yaml").write_text("name: p\ndata: {source: digits}\n", encoding="utf-8")
    (tmp_path / "configs" / "q.yaml").write_text("name: q\ndata: {source: digits}\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text("site_name: no config\n", encoding="utf-8")
    for number, pipeline in enumerate(("p", "q")):
        folder = tmp_path / "runs" / pipeline / "runs"
        folder.mkdir(parents=True)
        RunRecord(f"2026-01-0{number + 1}", pipeline, "p.yaml", "", 1, "log", "f").save(folder)
    for version in ("1", "2", "10"):
        (tmp_path / "runs" / "p" / "served" / version).mkdir(parents=True)
    return tmp_path


def ask(*words: str, shell: str = "zsh") -> list[str]:
    """Return what the command line answers to a shell."""
    line = " ".join(words)
    environment = {"_SLIPWAY_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        environment |= {"COMP_WORDS": line.replace(" ", "\n"), "COMP_CWORD": str(len(words) - 1)}
    else:
        environment |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pipeline"], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_configs_are_offered_and_other_yaml_is_not(here):
    assert completing.configs("") == ["p.yaml", "configs/q.yaml"]
    assert completing.configs("configs/") == ["configs/q.yaml"]
    assert completing.configs(f"{here}/p") == [f"{here}/p.yaml"]
    assert completing.configs("m") == []


def test_settings_are_offered_with_choices_defaults_and_help():
    offers = dict(completing.settings("train."))
    assert {"train.optimizer=adamw", "train.epochs=12", "train.warm_start=true"} <= offers.keys()
    assert offers["train.epochs=12"]
    assert "evaluate.gates.accuracy.min=" in dict(completing.settings("evaluate.gates.acc"))
    assert {"data.source=digits", "model.name=resnet8"} <= dict(completing.settings("")).keys()
    assert completing.settings("train.optimizer=ad") == [
        (f"train.optimizer={name}", offers["train.optimizer=adamw"]) for name in ("adam", "adamw")
    ]


def test_every_setting_that_is_offered_with_a_value_is_accepted(here):
    from pipeline.config.loading import load

    (here / "p.yaml").write_text("name: p\ndata: {source: digits}\ntransform: {size: [16, 16]}\n", encoding="utf-8")
    plain = [
        offer for offer, _ in completing.settings("") if offer.startswith(("train.", "tune.", "push.", "infra."))
        and not offer.endswith(("=", "distribute=workers"))
    ]  # fmt: skip
    assert len(plain) > 30
    for offer in plain:
        load("p.yaml", [offer])


def test_runs_and_versions_of_the_chosen_work_directory_come_newest_first(here):
    every, one = SimpleNamespace(params={}), SimpleNamespace(params={"workdir": Path("runs/p")})
    assert completing.runs(every, "") == [("2026-01-02", "q"), ("2026-01-01", "p")]
    assert completing.runs(one, "2026") == [("2026-01-01", "p")]
    assert completing.versions(every, "") == [("10", "p"), ("2", "p"), ("1", "p")]
    assert completing.versions(every, "1") == [("10", "p"), ("1", "p")]
    assert completing.workdirs("runs/q") == ["runs/q"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_commands_configs_and_ids(here, shell):
    offered = {
        words: "\n".join(ask("slipway", *words, shell=shell))
        for words in (("ro",), ("run", "p"), ("runs", "show", "2026"))
    }
    assert "rollback" in offered[("ro",)]
    assert "p.yaml" in offered[("run", "p")]
    assert "2026-01-02" in offered[("runs", "show", "2026")]


def test_bash_which_breaks_words_at_the_equals_sign_gets_values_alone(here):
    assert ask("slipway", "run", "p.yaml", "--set", "train.optimizer", "=", "ad", shell="bash") == ["adam", "adamw"]
    assert ask("slipway", "run", "p.yaml", "--set", "train.optimizer", "=", shell="bash") == ["adam", "adamw", "sgd"]
    assert ask("slipway", "run", "--set", "=", "train.epo", shell="bash") == ["train.epochs=12"]


def test_a_real_bash_completes(here):
    slipway = Path(sys.executable).with_name("slipway")
    script = (
        f'eval "$({slipway} --show-completion bash)"; COMP_WORDS=(slipway run configs/); COMP_CWORD=2; '
        f'_slipway_completion {slipway}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "--norc", "-c", script], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.stdout.split() == ["configs/q.yaml"], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_installing_writes_what_the_shell_reads(tmp_path, shell):
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    slipway = Path(sys.executable).with_name("slipway")
    subprocess.run([slipway, "--install-completion", shell], env=environment, check=True, capture_output=True)
    written = [path for path in tmp_path.rglob("*slipway*") if path.is_file()]
    assert written and "slipway" in written[0].read_text(encoding="utf-8")


def test_completing_imports_nothing_heavy():
    program = (
        "import sys; from pipeline.cli import completing; from pipeline.cli.app import app; "
        "completing.settings('train.'); completing.forms(); completing.stages(); "
        "print([name for name in ('tensorflow', 'pydantic', 'tfx', 'apache_beam', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_stages_forms_and_targets_are_offered_whatever_their_case():
    assert completing.one_of(completing.stages)("tr") == ["Transform", "Trainer"]
    assert "tflite_int8" in completing.one_of(completing.forms)("tflite_i")
    assert completing.one_of(completing.targets)("") == ["airflow", "kubeflow", "vertex"]
    assert app.info.name == "slipway"
