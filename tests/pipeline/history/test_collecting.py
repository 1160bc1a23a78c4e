"""What a garbage collection may remove, on made-up stores, and what is left when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.history import collecting, folders
from pipeline.history.collecting import Plan, collect, plan
from pipeline.history.keeping import Graph, Kept, _keep
from pipeline.metadata import DELETED, LIVE, MARKED
from tests.pipeline.history.synthetic import STAGES, Made, Synthetic, record

DATA = ("ExampleGen", "StatisticsGen", "Transform")


def going(todo: Plan) -> set[int]:
    return {item.artifact.id for item in todo.items}


def all_of(run: Made, *but: str) -> set[int]:
    return {i for stage, ids in run.artifacts.items() if stage not in but for i in ids}


def on(run: Made, stages: tuple[str, ...] = DATA) -> dict[str, Made]:
    return dict.fromkeys(stages, run)


class TestWhatStays:
    def test_of_old_runs_nothing_that_a_standing_version_depends_on(self, synthetic):
        first = synthetic.run("1", version=1)
        second = synthetic.run("2", on(first), version=2)
        third = synthetic.run("3", on(first), blessed=False)
        synthetic.run("4", on(first), blessed=False)
        synthetic.publish(1)
        todo = plan(synthetic.history(), keep=1)
        # Version 2 was pruned, but its model is the newest blessed one; its pusher's own artifact goes.
        assert going(todo) == all_of(third, *DATA) | set(second.artifacts["Pusher"])

    def test_a_version_that_was_pruned_protects_nothing_once_better_ones_are_blessed(self, synthetic):
        first = synthetic.run("1", version=1)
        synthetic.run("2", on(first))
        synthetic.run("3", on(first))
        assert going(plan(synthetic.history(), keep=1)) >= all_of(first, *DATA)

    def test_a_rollback_protects_the_version_that_it_restores(self, synthetic):
        first = synthetic.run("1", version=1)
        for number in (2, 3, 4):
            synthetic.run(str(number), on(first))
        synthetic.publish(9, restores=1)
        assert not going(plan(synthetic.history(), keep=1)) & all_of(first)

    def test_a_damaged_manifest_protects_all_versions_of_its_folder(self, synthetic):
        first = synthetic.run("1", version=1)
        for number in (2, 3, 4):
            synthetic.run(str(number), on(first))
        (synthetic.publish(9, restores=1) / "manifest.json").write_text("{")
        assert not going(plan(synthetic.history(), keep=1)) & all_of(first)

    def test_the_two_newest_blessed_models_stay_with_their_blessings(self, synthetic):
        runs = [synthetic.run(str(number)) for number in range(4)]
        synthetic.run("refused", blessed=False)
        todo = going(plan(synthetic.history(), keep=1))
        assert {*runs[0].artifacts["Evaluator"], *runs[1].artifacts["Evaluator"]} <= todo
        assert not todo & {*runs[2].artifacts["Evaluator"], *runs[3].artifacts["Trainer"]}

    def test_an_execution_stays_or_goes_as_a_whole(self, synthetic):
        first = synthetic.run("1", version=1)
        for number in (2, 3, 4):
            synthetic.run(str(number), on(first))
        synthetic.publish(1)
        assert first.artifacts["Trainer"][1] not in going(plan(synthetic.history(), keep=1))  # the model's log

    def test_the_newest_successful_run_stays_whatever_came_after(self, synthetic):
        good = synthetic.run("1", blessed=False)
        record(synthetic.workdir, "1", started="2026-01-01T00:00:01Z")
        for number in (2, 3):
            synthetic.run(str(number), blessed=False)
            record(synthetic.workdir, str(number), "refused", started=f"2026-01-01T00:00:0{number}Z")
        todo = plan(synthetic.history(), keep=1)
        assert not going(todo) & all_of(good)
        assert going(todo)

    def test_a_run_that_is_not_finished_stays(self, synthetic):
        early = synthetic.run("airflow__2026", stages=list(STAGES)[:4], blessed=False)
        record(synthetic.workdir, "airflow__2026", "running", driver="node by node", started="2026-01-01T00:00:01Z")
        for number in (2, 3, 4):
            synthetic.run(str(number), blessed=False)
        todo = plan(synthetic.history(), keep=1)
        assert not going(todo) & all_of(early)

    def test_a_run_that_only_the_store_knows_and_that_is_at_work_stays(self, synthetic):
        early = synthetic.run("0", stages=list(STAGES)[:4], blessed=False, state="RUNNING")
        for number in (2, 3, 4):
            synthetic.run(str(number), blessed=False)
        assert not going(plan(synthetic.history(), keep=1)) & all_of(early)

    def test_what_a_run_found_in_the_cache_stays_with_it(self, synthetic):
        old = synthetic.run("1", blessed=False)
        for number in (2, 3):
            synthetic.run(str(number), blessed=False)
        synthetic.run("4", on(old, tuple(STAGES)))
        assert not going(plan(synthetic.history(), keep=1)) & all_of(old)

    def test_what_a_run_without_executions_repeats_stays_with_it(self, synthetic):
        old = synthetic.run("1", blessed=False)
        for number in (2, 3):
            synthetic.run(str(number), blessed=False)
        outputs = [str(synthetic.folder(i)) for i in all_of(old)]
        stages = [{"id": "all", "state": "HIT", "outputs": outputs}]
        record(synthetic.workdir, "9", executed=False, stages=stages, started="2099-01-01T00:00:00Z")
        assert not going(plan(synthetic.history(), keep=1)) & all_of(old)

    def test_young_runs_stay_where_an_age_is_asked_for(self, synthetic):
        for number in range(5):
            synthetic.run(str(number), blessed=False)
        assert going(plan(synthetic.history(), keep=1))
        assert not going(plan(synthetic.history(), keep=1, older_than=1))

    def test_folders_that_records_of_another_store_name_are_left_alone(self, synthetic):
        old = synthetic.run("1", blessed=False)
        for number in (2, 3, 4):
            synthetic.run(str(number), blessed=False)
        place = str(synthetic.folder(old.artifacts["Trainer"][0]))
        stages = [{"id": "Trainer", "state": "MISS", "outputs": [place]}]
        record(synthetic.workdir, "elsewhere", "failed", stages=stages, started="2000-01-01T00:00:00Z")
        todo = plan(synthetic.history(), keep=1)
        assert old.artifacts["Trainer"][0] not in going(todo)
        assert [artifact.uri for artifact, _ in todo.skipped] == [place]

    @pytest.mark.parametrize("keep", [0, -3])
    def test_no_run_at_all_can_not_be_asked_for(self, synthetic, keep):
        with pytest.raises(ConfigError, match="expected at least 1"):
            plan(synthetic.history(), keep=keep)

    def test_a_work_directory_without_a_store_has_nothing_to_collect(self, tmp_path):
        from pipeline.history.runs import open_history
        from pipeline.workdir import WorkDir

        with pytest.raises(ConfigError, match="no metadata store"):
            plan(open_history(WorkDir(tmp_path)), keep=1)
        assert list(tmp_path.iterdir()) == []


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_upstream_of_what_stays_goes(data):
    """Any graph: executions read earlier artifacts only and make one to three."""
    graph = Graph({})
    artifacts: list[int] = []
    for execution in range(data.draw(st.integers(1, 12))):
        graph.inputs[execution] = set(data.draw(st.lists(st.sampled_from(artifacts), max_size=4)) if artifacts else [])
        made = range(len(artifacts), len(artifacts) + data.draw(st.integers(1, 3)))
        graph.outputs[execution] = set(made)
        graph.origin |= dict.fromkeys(made, execution)
        artifacts += made
    found = Kept({}, set(), set())
    for roots in data.draw(st.lists(st.lists(st.sampled_from(artifacts), max_size=3), max_size=3)):
        _keep(found, graph, roots, "because")
        assert set(roots) <= found.reasons.keys()
    for artifact in found.reasons:
        execution = graph.origin[artifact]
        assert graph.inputs[execution] | graph.outputs[execution] <= found.reasons.keys()


class TestCarryingOut:
    @pytest.fixture
    def crowded(self, synthetic) -> Synthetic:
        synthetic.run("kept", version=1)
        synthetic.publish(1)
        for number in range(3):
            synthetic.run(str(number), blessed=False)
        record(synthetic.workdir, "last", started="2099-01-01T00:00:00Z", executed=False)
        return synthetic

    def test_folders_go_and_artifacts_are_marked_and_the_rest_is_untouched(self, crowded):
        history = crowded.history()
        todo = plan(history, keep=1)
        stay = [p for i in todo.kept for p in crowded.folder(i).rglob("*")]
        assert going(todo) and todo.size == 100 * len(going(todo))
        assert collect(history, todo) == []
        states = crowded.states()
        assert {i for i, state in states.items() if state == "DELETED"} == going(todo)
        assert not any(crowded.folder(i).exists() for i in going(todo))
        assert all(p.exists() for p in stay)
        assert not (crowded.workdir.artifacts / folders.TRASH).exists()
        again = plan(crowded.history(), keep=1)
        assert not again.items and not again.leftovers

    def test_killed_anywhere_it_leaves_no_half_artifact_alive_and_the_next_one_finishes(self, tmp_path, monkeypatch):
        """Stops at the first, second, … step that changes something, until one collection runs through."""
        for step in range(100):
            made = Synthetic(tmp_path / str(step))
            made.run("kept", version=1)
            made.publish(1)
            made.run("0", stages=list(STAGES)[:2], blessed=False)
            made.run("1", stages=list(STAGES)[:2], blessed=False)
            history = made.history()
            todo = plan(history, keep=1)
            assert going(todo)
            try:
                with monkeypatch.context() as patch:
                    _stop_at(step, patch, history)
                    collect(history, todo)
                finished = True
            except KeyboardInterrupt:
                finished = False
            for artifact, state in made.states().items():
                whole = (made.folder(artifact) / "deep" / "file").exists()
                assert whole or state != "LIVE"
            rest = plan(made.history(), keep=1)
            assert collect(made.history(), rest) == []
            assert {i for i, state in made.states().items() if state == "DELETED"} == going(todo)
            assert not any(made.folder(i).exists() for i in going(todo))
            assert not (made.workdir.artifacts / folders.TRASH).exists()
            if finished:
                assert step > 5
                return
        pytest.fail("the collection never ran through")

    def test_a_process_that_is_really_killed_frees_the_lock_and_loses_nothing(self, crowded):
        script = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from pipeline.history import collecting, folders\n"
            "from pipeline.history.runs import open_history\n"
            "from pipeline.workdir import WorkDir\n"
            "folders.shutil.rmtree = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
            "history = open_history(WorkDir(Path(sys.argv[1])))\n"
            "with history.workdir.lock():\n"
            "    collecting.collect(history, collecting.plan(history, keep=1))\n"
        )
        expected = going(plan(crowded.history(), keep=1))
        done = subprocess.run(
            [sys.executable, "-c", script, str(crowded.workdir.root)], cwd=Path(__file__).parents[3], check=False
        )
        assert done.returncode == -signal.SIGKILL
        assert {i for i, state in crowded.states().items() if state == MARKED} == expected
        with crowded.workdir.lock():
            assert collect(crowded.history(), plan(crowded.history(), keep=1)) == []
        assert {i for i, state in crowded.states().items() if state == DELETED} == expected

    def test_what_stands_nowhere_any_more_is_marked_as_removed(self, crowded):
        import shutil

        (victim, *_) = going(plan(crowded.history(), keep=1))
        shutil.rmtree(crowded.folder(victim))
        collect(crowded.history(), plan(crowded.history(), keep=1))
        assert crowded.states()[victim] == DELETED

    def test_folders_of_executions_that_were_killed_go_too(self, crowded):
        failed = crowded.run("killed", stages=["ExampleGen", "StatisticsGen"], state="FAILED", blessed=False)
        crowded.run("newest", blessed=False)
        half = crowded.workdir.artifacts / "StatisticsGen" / "statistics" / str(failed.executions["StatisticsGen"])
        (half / "part").mkdir(parents=True)
        (half / "part" / "file").write_bytes(b"x" * 7)
        unknown = crowded.workdir.artifacts / "StatisticsGen" / "statistics" / "987654"
        foreign = crowded.workdir.artifacts / "StatisticsGen" / "statistics" / "notes"
        unknown.mkdir(), foreign.mkdir()
        record(crowded.workdir, "last", started="1999-01-01T00:00:00Z", executed=False)
        todo = plan(crowded.history(), keep=1)
        assert [(leftover.path, leftover.size) for leftover in todo.leftovers] == [(half, 7)]
        collect(crowded.history(), todo)
        assert not half.exists() and unknown.exists() and foreign.exists()

    def test_a_folder_that_refuses_leaves_its_artifact_marked(self, crowded, monkeypatch):
        (victim, *_) = sorted(going(plan(crowded.history(), keep=1)))
        rename = os.rename

        def refuse(source, target):
            if Path(source) == crowded.folder(victim):
                raise PermissionError(13, "Permission denied", str(source))
            rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(folders.os, "rename", refuse)
            (problem,) = collect(crowded.history(), plan(crowded.history(), keep=1))
        assert "Permission denied" in problem and "collect again" in problem
        assert crowded.states()[victim] == MARKED
        assert collect(crowded.history(), plan(crowded.history(), keep=1)) == []
        assert crowded.states()[victim] == DELETED


class TestPaths:
    def moved(self, synthetic: Synthetic, where: Path) -> tuple[int, Plan]:
        """Let an artifact that would go lie somewhere else, and plan."""
        old = synthetic.run("old", blessed=False)
        synthetic.run("new", blessed=False)
        victim = old.artifacts["Trainer"][0]
        (stored,) = synthetic.store.get_artifacts_by_id([victim])
        stored.uri = str(where)
        synthetic.store.put_artifacts([stored])
        return victim, plan(synthetic.history(), keep=1)

    @pytest.mark.parametrize("place", ["../outside", "served/1", "artifacts", "artifacts/../outside", "."])
    def test_nothing_outside_of_the_artifacts_is_touched(self, synthetic, place):
        where = Path(f"{synthetic.workdir.root}/{place}")
        victim, todo = self.moved(synthetic, where)
        assert victim not in going(todo)
        assert any("outside" in reason for artifact, reason in todo.skipped if artifact.id == victim)

    @pytest.mark.parametrize("uri", ["gs://bucket/model/7", "", "relative/model/7"])
    def test_other_uris_are_left_alone(self, synthetic, uri):
        old = synthetic.run("old", blessed=False)
        synthetic.run("new", blessed=False)
        (stored,) = synthetic.store.get_artifacts_by_id(old.artifacts["Trainer"][:1])
        stored.uri = uri
        synthetic.store.put_artifacts([stored])
        todo = plan(synthetic.history(), keep=1)
        assert stored.id not in going(todo)

    def test_a_symbolic_link_in_place_of_an_artifact_is_left_alone_with_what_it_leads_to(self, synthetic, tmp_path):
        outside = tmp_path / "precious"
        outside.mkdir()
        (outside / "file").write_text("x")
        link = synthetic.workdir.artifacts / "Trainer" / "model" / "777"
        link.parent.mkdir(parents=True)
        link.symlink_to(outside)
        victim, todo = self.moved(synthetic, link)
        assert any("symbolic link" in reason for artifact, reason in todo.skipped if artifact.id == victim)
        collect(synthetic.history(), todo)
        assert (outside / "file").exists() and link.is_symlink()

    def test_a_symbolic_link_on_the_way_is_not_followed(self, synthetic, tmp_path):
        outside = tmp_path / "precious" / "model" / "777"
        outside.mkdir(parents=True)
        (synthetic.workdir.artifacts / "Elsewhere").symlink_to(tmp_path / "precious")
        victim, todo = self.moved(synthetic, synthetic.workdir.artifacts / "Elsewhere" / "model" / "777")
        assert victim not in going(todo)
        collect(synthetic.history(), todo)
        assert outside.exists()

    def test_a_symbolic_link_inside_of_an_artifact_goes_without_what_it_leads_to(self, synthetic, tmp_path):
        old = synthetic.run("old", blessed=False)
        synthetic.run("new", blessed=False)
        (tmp_path / "precious").write_text("x")
        folder = synthetic.folder(old.artifacts["Trainer"][0])
        (folder / "link").symlink_to(tmp_path / "precious")
        collect(synthetic.history(), plan(synthetic.history(), keep=1))
        assert not folder.exists() and (tmp_path / "precious").exists()

    def test_a_work_directory_that_is_reached_by_a_link_is_collected(self, synthetic, tmp_path):
        from pipeline.history.runs import open_history
        from pipeline.workdir import WorkDir

        synthetic.run("old", blessed=False)
        synthetic.run("new", blessed=False)
        (tmp_path / "alias").symlink_to(synthetic.workdir.root)
        history = open_history(WorkDir(tmp_path / "alias"))
        todo = plan(history, keep=1)
        assert going(todo) and not todo.skipped
        assert collect(history, todo) == []
        assert not any(synthetic.folder(i).exists() for i in going(todo))

    def test_a_folder_around_something_that_stays_is_left_alone(self, synthetic):
        kept = synthetic.run("first", version=1)
        synthetic.publish(1)
        around = synthetic.folder(kept.artifacts["Trainer"][0]).parent
        victim, todo = self.moved(synthetic, around)
        assert any("something that stays" in reason for artifact, reason in todo.skipped if artifact.id == victim)

    def test_a_copied_work_directory_is_left_alone_as_its_artifacts_lie_in_the_original(self, synthetic, tmp_path):
        import shutil

        from pipeline.history.runs import open_history
        from pipeline.workdir import WorkDir

        synthetic.run("old", blessed=False)
        synthetic.run("new", blessed=False)
        shutil.copytree(synthetic.workdir.root, tmp_path / "copy")
        todo = plan(open_history(WorkDir(tmp_path / "copy")), keep=1)
        assert not todo.items and todo.skipped


def test_a_thousand_runs_take_few_questions(synthetic, monkeypatch):
    """Round trips are what a database server makes slow; one per run is allowed for runs without a record."""
    first = synthetic.run("first", version=1, files=False)
    synthetic.runs([f"run-{number:04d}" for number in range(1000)], on(first), blessed=False, files=False)
    calls: list[str] = []
    store = type(synthetic.store)
    call = store._call
    monkeypatch.setattr(store, "_call", lambda self, name, *rest: (calls.append(name), call(self, name, *rest))[1])
    from pipeline.history.details import summaries

    history = synthetic.history()
    assert len(history.runs) == 1001
    assert len(summaries(history, history.runs[:20])) == 20
    assert len(calls) < 60
    calls.clear()
    assert {row.state for row in summaries(history, history.runs)} == {"succeeded"}
    assert len(calls) < 1100
    calls.clear()
    todo = plan(synthetic.history(), keep=5)
    assert len(todo.items) == 5 * 995 + 1  # what the pusher said about a version that no longer stands
    assert len(calls) < 1100
    calls.clear()
    collect(history, todo)
    assert len(calls) < 50
    assert all(state != LIVE for artifact, state in synthetic.states().items() if artifact in going(todo))


def _stop_at(step: int, patch: pytest.MonkeyPatch, history) -> None:
    """Raise before the step that has this number: marking, renaming, removing."""
    left = [step]

    def stopping(function):
        def call(*arguments, **options):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return function(*arguments, **options)

        return call

    patch.setattr(folders.os, "rename", stopping(os.rename))
    patch.setattr(folders.shutil, "rmtree", stopping(folders.shutil.rmtree))
    patch.setattr(type(history.reader), "set_state", stopping(type(history.reader).set_state))
    assert collecting.remove is folders.remove
