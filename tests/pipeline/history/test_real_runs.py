"""`slipway runs` on a store that TFX filled, and what TFX makes of the store after a garbage collection.

The tests that remove something stand last; pytest runs them in the order of the file.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from pipeline.cli.app import run as slipway
from pipeline.records import HIT, RAN
from tests.pipeline.history.conftest import BETTER, REFUSED, Life

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@pytest.fixture
def ask(life, capsys):
    """Return a function that runs `slipway runs …` and returns its JSON."""

    def call(*arguments: str):
        capsys.readouterr()
        code = slipway(["runs", *arguments, "--workdir", str(life.workdir.root), "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    return call


@pytest.fixture
def said(life, capsys):
    """Return a function that runs `slipway runs …` and returns exit code, output and error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = slipway(["runs", *arguments, "--workdir", str(life.workdir.root)])
        return (code, *capsys.readouterr())

    return call


class TestLooking:
    def test_the_list_has_every_run_with_state_version_and_metric(self, life, ask):
        rows = ask("list")
        assert [row["id"] for row in rows] == [record.run_id for record in reversed(life.runs.values())]
        by_id = {row["id"]: row for row in rows}
        good, refused, again = (by_id[life.runs[name].run_id] for name in ("good", "refused", "again"))
        assert (good["state"], good["version"], good["metric"]) == ("succeeded", 1, "accuracy")
        assert good["value"] is not None and good["seconds"] > 0
        assert (refused["state"], refused["version"]) == ("refused", None)
        assert again["executed"] is False and good["executed"] is True
        assert [row["id"] for row in ask("list", "--limit", "2")] == [row["id"] for row in rows[:2]]

    def test_without_a_command_the_runs_are_listed(self, life, said):
        code, out, _ = said()
        assert code == 0
        assert all(record.run_id in out for record in life.runs.values())

    def test_a_run_shows_stages_artifacts_properties_and_verdicts(self, life, ask, said):
        found = ask("show", life.runs["better"].run_id)
        stages = {stage["id"]: stage for stage in found["stages"]}
        assert stages["Trainer"]["state"] == RAN and stages["Transform"]["state"] == HIT
        assert stages["Trainer"]["config"]["train.seed"] == 2
        assert stages["Trainer"]["reason"] == "train.seed 3 -> 2"
        (model,) = stages["Trainer"]["outputs"]["model"]
        assert model["type"] == "Model" and Path(model["uri"]).is_dir()
        assert {v["gate"] for v in found["verdicts"]} >= {"Evaluator", "InfraValidator", "Pusher"}
        assert found["metrics"]["log_loss"] > 0
        assert found["published"]["model"].endswith("/served/2")
        _, out, _ = said("show", life.runs["better"].run_id)
        assert "train.seed" in out and model["uri"] in out

    def test_a_run_that_had_nothing_to_do_shows_where_its_results_are_from(self, life, ask):
        good, better, again = (ask("show", life.runs[name].run_id) for name in ("good", "better", "again"))
        first, second, taken = ({s["id"]: s["execution"] for s in run["stages"]} for run in (good, better, again))
        assert taken["Trainer"] == second["Trainer"] and taken["ExampleGen"] == first["ExampleGen"]
        assert again["metrics"] == better["metrics"]

    def test_the_beginning_of_an_id_is_enough_and_near_misses_are_suggested(self, life, said):
        wanted = life.runs["good"].run_id
        code, out, _ = said("show", wanted[:-3])
        assert code == 0 and wanted in out
        code, _, err = said("show", wanted[:4])
        assert code == 2 and "runs begin with" in err
        code, _, err = said("show", wanted[:-1] + "x")
        assert code == 2 and f"did you mean {wanted}" in err

    def test_comparing_two_runs_names_what_differs_and_nothing_else(self, life, ask, said):
        a, b = life.runs["good"].run_id, life.runs["better"].run_id
        found = ask("compare", a, b)
        assert [(d["name"], d["a"], d["b"]) for d in found["config"]] == [("train.seed", 1, 2)]
        assert found["code"] == found["libraries"] == found["data"] == []
        same = {stage["name"]: stage["same_outputs"] for stage in found["stages"]}
        assert same["Transform"] is True and same["Trainer"] is False
        metrics = {metric["name"]: metric for metric in found["metrics"]}
        assert metrics["log_loss"]["change"] == pytest.approx(metrics["log_loss"]["b"] - metrics["log_loss"]["a"])
        assert "Pusher" in {d["name"] for d in found["verdicts"]}
        _, out, _ = said("compare", a, b)
        assert "train.seed" in out and "no difference known in: code, data" in out

    def test_a_run_compared_with_itself_differs_in_nothing(self, life, ask):
        found = ask("compare", life.runs["better"].run_id, life.runs["again"].run_id)
        assert found["config"] == found["code"] == found["data"] == found["verdicts"] == []
        assert all(metric["change"] == 0 for metric in found["metrics"])


class TestLineage:
    def test_a_version_leads_back_to_examples_config_and_commit(self, life, ask):
        found = ask("lineage", "2")
        steps = {step["stage"]: step for step in found["steps"]}
        assert set(steps) >= {"Pusher", "Evaluator", "Trainer", "Transform", "SchemaGen", "StatisticsGen", "ExampleGen"}
        assert steps["Trainer"]["run"] == life.runs["better"].run_id
        assert steps["ExampleGen"]["run"] == life.runs["good"].run_id
        assert found["config"]["train"]["seed"] == 2
        assert found["config"]["transform"]["size"] == [16, 16]
        assert found["data"]["splits"]["train"] == 144
        manifest = json.loads((life.workdir.root / "served" / "2" / "manifest.json").read_text(encoding="utf-8"))
        assert found["data"]["fingerprint"] == manifest["data_fingerprint"] == found["version"]["data_fingerprint"]
        assert found["version"]["config_hash"] == manifest["config_hash"]
        assert found["commit"]
        assert any(name.startswith("trainer.") for name in found["code"])
        assert found["libraries"]["tensorflow"]

    def test_inputs_of_a_step_are_outputs_of_earlier_ones(self, ask):
        found = ask("lineage", "2")
        made = {i for step in found["steps"] for ids in step["outputs"].values() for i in ids}
        read = {
            i
            for step in found["steps"]
            for key, ids in step["inputs"].items()
            if key not in ("baseline_model", "base_model")
            for i in ids
        }
        assert read <= made

    def test_latest_is_the_version_in_service_and_the_tree_reaches_the_examples(self, life, said):
        code, out, _ = said("lineage", "latest")
        assert code == 0
        served = max(int(p.name) for p in (life.workdir.root / "served").iterdir() if p.name.isdigit())
        assert f"model version {served}" in out
        tree = out[out.index("PushedModel") :]
        places = [tree.index(name) for name in ("PushedModel", "Model ", "TransformGraph", "Schema ", "Examples ")]
        assert places == sorted(places)
        assert life.runs["good"].run_id in out

    def test_a_folder_will_do_that_of_an_artifact_and_that_of_a_version(self, life, ask):
        model = next(uri for uri in life.runs["better"].stage("Trainer").outputs if "/model/" in uri)
        found = ask("lineage", model)
        assert found["artifact"]["type"] == "Model" and found["version"] is None
        assert {step["stage"] for step in found["steps"]} == {
            "Trainer", "Transform", "SchemaGen", "StatisticsGen", "ExampleGen",
        }  # fmt: skip
        inside = ask("lineage", str(Path(model) / "Format-Serving"))
        assert inside["artifact"] == found["artifact"]
        assert ask("lineage", str(life.workdir.root / "served" / "2"))["version"]["number"] == 2

    def test_a_rollback_leads_back_to_what_it_restores(self, life, ask):
        from serving.publish import rollback

        base = life.workdir.root / "served"
        before = {step["execution"] for step in ask("lineage", "1")["steps"]}
        version = rollback(base, 1)
        found = ask("lineage", str(version.number))
        assert found["version"]["restores"] == 1
        assert {step["execution"] for step in found["steps"]} == before
        assert any("brings back the content" in remark for remark in found["remarks"])

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["lineage", "99"], "there is no version '99'"),
            (["lineage", "seven"], "there is no version 'seven'"),
            (["lineage", "./nowhere/at/all"], "is no artifact that the metadata store"),
            (["lineage", "1", "--of", "edge"], "no published version"),
        ],
    )
    def test_what_is_not_there_is_said_so(self, said, arguments, words):
        code, _, err = said(*arguments)
        assert code == 2 and words in err


class TestCollecting:
    def test_by_default_nothing_is_changed(self, life, said):
        before = sorted(str(p) for p in life.workdir.artifacts.rglob("*"))
        code, out, _ = said("gc", "--keep", "1")
        assert code == 0 and "Nothing was changed" in out and "would be removed" in out
        assert sorted(str(p) for p in life.workdir.artifacts.rglob("*")) == before

    def test_the_plan_spares_versions_baselines_and_recent_runs_and_names_the_refused_model(self, life, ask):
        found = ask("gc", "--keep", "1")
        going = {item["uri"] for item in found["artifacts"]}
        refused = {uri for stage in life.runs["refused"].stages for uri in stage.outputs}
        needed = {
            uri for name in ("good", "better", "again") for stage in life.runs[name].stages for uri in stage.outputs
        }
        assert any("/Trainer/model/" in uri for uri in going)
        assert going <= refused - needed
        assert found["bytes"] == sum(item["bytes"] for item in found["artifacts"]) > 0

    def test_a_work_directory_in_use_is_not_collected(self, life, said):
        with life.workdir.lock():
            code, _, err = said("gc", "--apply")
            assert code == 2 and "using" in err
            assert said("gc")[0] == 0

    def test_collected_folders_are_gone_and_everything_else_still_stands(self, life, ask):
        going = {item["uri"] for item in ask("gc", "--keep", "1")["artifacts"]}
        done = ask("gc", "--keep", "1", "--apply")
        assert done["applied"] and done["problems"] == []
        assert not any(os.path.lexists(uri) for uri in going)
        for name in ("good", "better", "again"):
            assert all(os.path.isdir(uri) for stage in life.runs[name].stages for uri in stage.outputs)
        again = ask("gc", "--keep", "1", "--apply")
        assert again["artifacts"] == [] and again["bytes"] == 0
        store = sqlite3.connect(life.workdir.metadata)
        assert {uri for (uri,) in store.execute("SELECT uri FROM Artifact WHERE state = 4")} == going

    def test_what_was_removed_is_still_told(self, life, ask):
        found = ask("show", life.runs["refused"].run_id)
        model = {stage["id"]: stage for stage in found["stages"]}["Trainer"]["outputs"]["model"][0]
        assert model["state"] == "DELETED"
        assert found["metrics"]["log_loss"] > 0  # from the record: the evaluation is gone

    def test_a_run_whose_artifacts_stand_finds_all_of_them_in_the_cache(self, life):
        record = life.run("kept", *BETTER, no_cache=("Resolver",))
        assert {stage.state for stage in record.stages} <= {HIT, "lookup"}
        assert record.state == "succeeded"

    def test_a_run_whose_artifacts_were_removed_makes_them_anew_and_has_its_baseline(self, life):
        record = life.run("refused again", *REFUSED, to_stage="Evaluator")
        assert record.state == "refused"
        states = {stage.id: stage.state for stage in record.stages}
        assert states["Trainer"] == states["Evaluator"] == RAN
        assert states["Transform"] == states["ExampleGen"] == HIT
        model = next(uri for uri in life.runs["better"].stage("Trainer").outputs if "/model/" in uri)
        assert model in record.stage("Resolver").detail


def test_life_is_what_the_tests_take_it_for(life: Life):
    assert life.runs["good"].version == 1 and life.runs["better"].version == 2
    assert life.runs["refused"].state == "refused"
    assert life.runs["again"].executed is False
