"""Runs that are driven node by node, on a SQLite store, as schedulers and their users do it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import sys
import threading

import pytest

from pipeline import stage_keys
from pipeline.cli.app import run
from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.records import FAILED, HIT, PENDING, RAN, REFUSED, RESOLVED, RUNNING, SUCCEEDED, records
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.running import run_pipeline
from pipeline.workdir import WorkDir
from tests.pipeline.runners.nodes.driving import Project, nodes

pytestmark = [pytest.mark.slow, pytest.mark.orchestration]

RUN_ID = "manual__2026-11-22T10:00:00+00:00"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("nodes"))


@pytest.fixture(scope="module")
def plan(project):
    """Return the plan of a run that was driven to its end."""
    plan = project.prepare(RUN_ID)
    project.drive(plan)
    project.finish(plan)
    return plan


@pytest.fixture(scope="module")
def refused(project, plan):
    """Return the plan of a run whose model the Evaluator refused; it isn't finished."""
    other = project.prepare("strict", "evaluate.gates.accuracy.min=0.999")
    project.drive(other)
    return other


@pytest.fixture
def own_process(monkeypatch):
    """Restore what the command changes in its process."""
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


class TestRun:
    def test_all_nodes_one_by_one_make_what_a_local_run_makes(self, project, plan):
        record = project.record(plan)
        assert record.state == SUCCEEDED, record.error
        states = {stage.id: stage.state for stage in record.stages}
        assert states.pop("Resolver") == RESOLVED
        assert set(states.values()) == {RAN}
        assert record.version == 1 and (project.workdir.root / "served" / "1").is_dir()
        assert {verdict["gate"] for verdict in record.verdicts} == {
            "ExampleValidator", "Evaluator", "InfraValidator", "Pusher",
        }  # fmt: skip
        assert record.stage("ExampleGen").detail.startswith("200 images")
        assert next(records(project.workdir.records)).run_id == RUN_ID

    def test_a_local_run_afterwards_finds_everything_in_the_cache(self, project, plan):
        with project.workdir.lock():
            options = RunOptions(no_cache=("Resolver",))  # else it would end before it asks TFX
            record = run_pipeline(load(project.file), project.workdir, project.workdir.logs / "l", options, Observer())
        assert {stage.state for stage in record.stages} == {HIT, RESOLVED}
        assert record.version == 1
        again = project.prepare("after-local")
        assert project.node(again, "ExampleGen").state == HIT

    def test_a_node_that_is_done_stays_done(self, project, plan):
        before = project.executions("Trainer"), project.executions("Resolver"), project.record(plan)
        for name in ("Trainer", "Resolver"):
            project.node(plan, name)
        assert (project.executions("Trainer"), project.executions("Resolver"), project.record(plan)) == before

    def test_a_record_that_missed_the_end_of_a_node_is_put_right(self, project, plan):
        before = project.record(plan)
        damaged = project.record(plan)
        stage = damaged.stage("Evaluator")
        stage.state, stage.outputs, damaged.verdicts = RUNNING, [], []
        damaged.save(project.workdir.records)
        project.node(plan, "Evaluator")
        after = project.record(plan)
        assert after.stage("Evaluator").state == RAN
        assert after.stage("Evaluator").outputs == before.stage("Evaluator").outputs
        assert [verdict["gate"] for verdict in after.verdicts] == ["Evaluator"]
        before.save(project.workdir.records)

    def test_a_refused_model_ends_the_run_as_refused(self, project, refused):
        record = project.finish(refused)
        assert record.state == REFUSED
        assert record.stage("Trainer").state == HIT
        assert project.finish(refused) == record

    def test_what_was_not_run_is_named_when_a_run_is_finished(self, project, plan):
        other = project.prepare("short")
        project.drive(other, until="Transform")
        record = project.finish(other)
        assert record.state == FAILED and "Trainer" in record.error and "Transform" not in record.error
        project.drive(other, start="Trainer")
        assert project.finish(other).state == SUCCEEDED


class TestPlan:
    def test_preparing_twice_is_the_same_as_once(self, project):
        first = project.prepare("twice")
        kept = {path: path.read_bytes() for path in first.folder.iterdir()}
        shutil.rmtree(first.folder)
        second = project.prepare("twice")
        assert {path: path.read_bytes() for path in second.folder.iterdir()} == kept
        assert len(list(project.workdir.records.glob("*~twice.json"))) == 1

    def test_a_run_that_has_begun_keeps_its_definition(self, project, plan):
        with pytest.raises(ConfigError, match=r"begun with another config.*new run id"):
            project.prepare(RUN_ID, "train.epochs=3")
        assert project.prepare(RUN_ID).ir.read_bytes() == plan.ir.read_bytes()

    def test_a_run_of_which_nothing_is_done_takes_the_new_definition(self, project):
        first = project.prepare("fresh")
        second = project.prepare("fresh", "train.epochs=3")
        assert second.config.train.epochs == 3
        assert first.config.train.epochs == 1

    def test_nodes_come_in_an_order_in_which_they_may_run(self, plan):
        seen: set[str] = set()
        for node in json.loads((plan.folder / "dag.json").read_text(encoding="utf-8"))["nodes"]:
            assert set(node["upstream"]) <= seen, node
            seen.add(node["id"])


class TestRefusals:
    def test_an_unknown_node_is_named_with_the_nearest(self, project, plan):
        with pytest.raises(ConfigError, match=r"no node 'Trainr'; did you mean Trainer\?"):
            project.node(plan, "Trainr")
        assert project.node(plan, "example-gen").id == "ExampleGen"

    def test_a_node_before_what_it_needs(self, project):
        early = project.prepare("early")
        with pytest.raises(ConfigError, match=r"SchemaGen \(pending\).*run them first"):
            project.node(early, "Trainer")
        assert project.record(early).stage("Trainer").state == PENDING

    def test_code_that_changed_since_the_run_was_prepared(self, project, monkeypatch):
        other = project.prepare("older", "train.seed=3")
        project.drive(other, until="Transform")
        real = stage_keys.stage_keys

        def changed(config, fingerprint):
            keys = real(config, fingerprint)
            return {**keys, "Trainer": dataclasses.replace(keys["Trainer"], code={"trainer.run": "1"})}

        monkeypatch.setattr(stage_keys, "stage_keys", changed)
        with pytest.raises(ConfigError, match=r"Trainer of run older isn't what was prepared.*code .*new run"):
            project.node(other, "Trainer")

    def test_data_that_changed_since_the_run_was_prepared(self, project, monkeypatch):
        other = project.prepare("data", "data.limit=150")
        monkeypatch.setattr(stage_keys, "data_fingerprint", lambda config, cache: "another")
        with pytest.raises(ConfigError, match="the data's content changed"):
            project.node(other, "ExampleGen")

    def test_a_local_run_and_nodes_keep_out_of_each_others_way(self, project, plan):
        with project.workdir.lock():
            with pytest.raises(ConfigError, match="another run"):
                project.prepare("locked")
            with pytest.raises(ConfigError, match="another run"):
                project.node(plan, "Trainer")
        with (
            project.workdir.share(),
            pytest.raises(ConfigError, match="driven node by node"),
            project.workdir.lock(),
        ):
            pass

    def test_the_second_process_on_a_stage_waits_or_is_refused(self, project, plan):
        with project.workdir.lock_part("stage-Trainer"):
            with pytest.raises(ConfigError, match=r"process \d+ is working on Trainer"):
                project.node(plan, "Trainer")
            holders: list[str] = []
            told = threading.Event()

            def waiting(holder: str) -> None:
                holders.append(holder)
                told.set()

            second = threading.Thread(target=lambda: project.node(plan, "Trainer", waiting=waiting))
            second.start()
            assert told.wait(60)
            assert second.is_alive()
        second.join(60)
        assert not second.is_alive() and holders[0].isdigit()

    def test_a_run_is_not_finished_while_a_stage_is_at_work(self, project):
        other = project.prepare("busy")
        record = project.record(other)
        record.stage("ExampleGen").state = RUNNING
        record.save(project.workdir.records)
        with (
            project.workdir.lock_part("stage-ExampleGen"),
            pytest.raises(ConfigError, match="ExampleGen is still at work"),
        ):
            project.finish(other)
        assert "its process ended before the stage did" in project.finish(other).error


@pytest.mark.usefixtures("own_process")
class TestCommands:
    def test_the_exit_codes_are_those_that_schedulers_read(self, project, plan, capfd):
        words = ["--run-id", "commands", "--workdir", str(project.workdir.root)]
        assert run(["prepare-run", str(project.file), *words]) == 0
        (printed,) = capfd.readouterr().out.splitlines()
        assert printed == str(project.workdir.plans / "commands" / "ir.json")
        assert run(["run-node", "ExampleGen", "--ir", printed, "--run-id", "commands"]) == 0
        assert "ExampleGen" in capfd.readouterr().out
        assert run(["run-node", "Trainer", *words]) == 2
        assert "needs what these nodes make" in capfd.readouterr().err
        assert run(["finish-run", *words]) == 1
        assert "these stages were not run" in capfd.readouterr().err
        assert run(["status", "--workdir", str(project.workdir.root)]) == 0
        assert run(["finish-run", "--run-id", "nobody", *words[2:]]) == 2
        assert "there is no run 'nobody'" in capfd.readouterr().err
        assert run(["finish-run", "--run-id", "nobody"]) == 2

    def test_a_refused_run_ends_with_3_and_its_sentence(self, project, refused, capfd):
        assert run(["finish-run", "--run-id", refused.run_id, "-w", str(project.workdir.root)]) == 3
        assert "accuracy" in capfd.readouterr().err

    def test_a_work_directory_that_moved_away(self, project, plan, tmp_path, capfd):
        copy = tmp_path / "plan"
        shutil.copytree(plan.folder, copy)
        dag = json.loads((copy / "dag.json").read_text(encoding="utf-8"))
        (copy / "dag.json").write_text(json.dumps({**dag, "workdir": str(tmp_path / "gone")}), encoding="utf-8")
        assert run(["run-node", "Trainer", "--ir", str(copy / "ir.json"), "--run-id", RUN_ID]) == 2
        assert "is gone" in capfd.readouterr().err


def test_the_newest_run_is_found_by_time_and_not_by_its_id(project, plan):
    newest = next(records(project.workdir.records))
    later = project.prepare("000-sorts-first", "train.seed=99")
    assert newest.run_id != later.run_id
    assert next(records(WorkDir(project.workdir.root).records)).run_id == "000-sorts-first"
    assert nodes(later)
