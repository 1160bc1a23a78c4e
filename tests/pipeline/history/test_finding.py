"""Finding runs by what a person types, and telling about runs of which a part is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.app import run as slipway
from pipeline.errors import ConfigError
from pipeline.history.details import details, summary
from pipeline.history.lineage import trace_version
from pipeline.history.runs import open_history
from pipeline.workdir import WorkDir
from tests.pipeline.history.synthetic import Synthetic, record


@pytest.fixture
def three(synthetic) -> Synthetic:
    synthetic.run("manual__2026-11-20T10:00:00+00:00", files=False)
    synthetic.run("manual__2026-11-21T10:00:00+00:00", files=False)
    synthetic.run("2026-11-22T144108.620552", files=False)
    return synthetic


class TestFinding:
    @pytest.mark.parametrize("name", ["2026-11-22T144108.620552", "2026", "2"])
    def test_a_beginning_that_only_one_run_has_is_enough(self, three, name):
        assert three.history().find(name).id == "2026-11-22T144108.620552"

    def test_a_beginning_that_several_have_is_refused_with_their_names(self, three):
        with pytest.raises(ConfigError, match=r"2 runs begin with 'manual'.*11-21.*11-20"):
            three.history().find("manual")

    def test_an_id_that_another_id_begins_with_is_found(self, three):
        three.run("2026-11-22", files=False)
        assert three.history().find("2026-11-22").id == "2026-11-22"

    @pytest.mark.parametrize("name", ["144108.620552", "2026-11-22T144108.620553", "2026-11-22 144108"])
    def test_near_misses_are_suggested(self, three, name):
        with pytest.raises(ConfigError, match=r"did you mean 2026-11-22T144108\.620552"):
            three.history().find(name)

    @pytest.mark.parametrize("name", ["", "zzz", "?"])
    def test_what_is_like_no_run_gets_the_newest(self, three, name):
        with pytest.raises(ConfigError, match="there is no run"):
            three.history().find(name)

    def test_latest_is_the_newest_by_time_not_by_name(self, three):
        record(three.workdir, "a", started="2099-01-01T00:00:00Z")
        assert three.history().find("latest").id == "a"


class TestRunsWithoutRecords:
    def test_state_version_and_pipeline_come_from_the_store(self, synthetic):
        synthetic.run("good", version=4)
        synthetic.run("bad", stages=["ExampleGen", "StatisticsGen"], state="FAILED")
        synthetic.run("busy", stages=["ExampleGen"], state="RUNNING")
        history = synthetic.history()
        rows = {run.id: summary(history, run) for run in history.runs}
        assert (rows["good"].state, rows["good"].version, rows["good"].name) == ("succeeded", 4, "made-up")
        assert (rows["bad"].state, rows["busy"].state) == ("failed", "running")

    def test_a_refusal_is_read_from_the_verdicts(self, synthetic):
        made = synthetic.run("refused", blessed=False)
        verdict = {"gate": "Evaluator", "passed": False, "sentence": "accuracy is too low", "checks": []}
        (synthetic.folder(made.artifacts["Evaluator"][1]) / "verdict.json").write_text(json.dumps(verdict))
        summary_file = synthetic.folder(made.artifacts["Evaluator"][0]) / "summary.json"
        slices = [{"model": "candidate", "slice": {}, "metrics": {"log_loss": 2.0, "accuracy": 0.1}}]
        summary_file.write_text(json.dumps({"slices": slices}))
        history = synthetic.history()
        found = details(history, history.find("refused"))
        assert found.summary.state == "refused"
        assert (found.summary.metric, found.summary.value) == ("accuracy", 0.1)
        assert [v["sentence"] for v in found.verdicts] == ["accuracy is too low"]

    def test_a_run_that_had_nothing_to_do_has_the_figures_of_its_own_model_not_of_the_baseline(self, synthetic):
        outputs = {}
        for run_id, accuracy in (("baseline", 0.1), ("model", 0.9)):
            made = synthetic.run(run_id)
            outputs[run_id] = {stage: [str(synthetic.folder(i)) for i in ids] for stage, ids in made.artifacts.items()}
            slices = [{"model": "candidate", "slice": {}, "metrics": {"accuracy": accuracy}}]
            (synthetic.folder(made.artifacts["Evaluator"][0]) / "summary.json").write_text(
                json.dumps({"slices": slices})
            )
        stages = [{"id": stage, "state": "HIT", "outputs": uris} for stage, uris in outputs["model"].items()]
        compared = [*outputs["baseline"]["Trainer"], *outputs["baseline"]["Evaluator"]]
        stages.insert(0, {"id": "Resolver", "state": "HIT", "outputs": compared})
        record(synthetic.workdir, "again", executed=False, stages=stages)
        history = synthetic.history()
        found = details(history, history.find("again"))
        assert found.metrics == {"accuracy": 0.9}
        assert {stage.id for stage in found.stages if stage.execution} == set(outputs["model"])

    def test_damaged_files_of_artifacts_are_passed_over(self, synthetic):
        made = synthetic.run("1")
        (synthetic.folder(made.artifacts["Evaluator"][1]) / "verdict.json").write_text("{")
        (synthetic.folder(made.artifacts["Evaluator"][0]) / "summary.json").write_text("[]")
        history = synthetic.history()
        found = details(history, history.find("1"))
        assert found.metrics == {} and found.verdicts == []

    def test_a_version_that_the_store_does_not_know_is_told_from_its_manifest(self, synthetic):
        synthetic.run("1", version=1)
        synthetic.publish(1)
        synthetic.publish(2)
        found = trace_version(synthetic.history(), "model", "2")
        assert found.artifact is None and found.commit == "f" * 40
        assert any("knows nothing of it" in remark for remark in found.remarks)
        assert trace_version(synthetic.history(), "model", "latest").publication.number == 2


class TestCommands:
    def say(self, capsys, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = slipway(["runs", *arguments])
        return (code, *capsys.readouterr())

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["list"], "holds no runs"),
            (["show", "x"], "holds no runs"),
            (["lineage"], "holds no runs"),
            (["compare", "a", "b"], "holds no runs"),
            (["gc"], "holds no runs"),
        ],
    )
    def test_a_folder_without_runs_is_said_to_be_one_and_stays_as_it_is(self, capsys, tmp_path, arguments, words):
        code, _, err = self.say(capsys, *arguments, "--workdir", str(tmp_path))
        assert code == 2 and words in err
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_list_is_an_empty_list(self, capsys, synthetic):
        code, out, _ = self.say(capsys, "list", "--json", "--workdir", str(synthetic.workdir.root))
        assert code == 0 and json.loads(out) == []

    def test_a_damaged_store_is_a_sentence(self, capsys, tmp_path):
        place = WorkDir(tmp_path / "w")
        place.create()
        place.metadata.write_bytes(b"not a database" * 100)
        code, _, err = self.say(capsys, "list", "--workdir", str(place.root))
        assert code == 2 and "can't be read" in err

    def test_records_alone_will_do(self, capsys, tmp_path):
        place = WorkDir(tmp_path / "w")
        place.create()
        record(place, "only", seconds=3.0)
        code, out, _ = self.say(capsys, "list", "--json", "--workdir", str(place.root))
        assert code == 0 and [row["id"] for row in json.loads(out)] == ["only"]
        code, out, _ = self.say(capsys, "show", "only", "--workdir", str(place.root))
        assert code == 0 and "only" in out
        assert not place.metadata.exists()
        assert open_history(place).reader is None

    def test_options_before_the_command_are_refused_not_ignored(self, capsys, three):
        code, _, err = self.say(capsys, "--workdir", str(three.workdir.root), "show", "latest")
        assert code == 2 and "stand behind show" in err

    def test_neither_tfx_nor_tensorflow_is_imported(self, three):
        script = (
            "import sys\n"
            "from pipeline.cli.app import run\n"
            "for words in (['list'], ['show'], ['gc']):\n"
            "    assert run(['runs', *words, '--json', '--workdir', sys.argv[1]]) == 0\n"
            "assert not {'tfx', 'tensorflow', 'apache_beam'} & sys.modules.keys()\n"
        )
        command = [sys.executable, "-c", script, str(three.workdir.root)]
        done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_the_list_says_how_many_it_left_out(self, capsys, three):
        code, out, _ = self.say(capsys, "--limit", "1", "--workdir", str(three.workdir.root))
        assert code == 0 and "2 older runs" in out

    def test_brackets_in_what_is_shown_are_no_markup(self, capsys, three):
        fields = {"error": "list [bold] of [/nothing]", "started": "2099-01-01T00:00:00Z", "file": "odd"}
        record(three.workdir, "odd[/red]", "failed", **fields)
        for arguments in (["list"], ["show", "odd"]):
            code, out, _ = self.say(capsys, *arguments, "--workdir", str(three.workdir.root))
            assert code == 0 and "odd[/red]" in out and "[/nothing]" in out

    def test_a_collection_from_end_to_end(self, capsys, synthetic):
        for number in range(3):
            synthetic.run(str(number), blessed=False)
        place = str(synthetic.workdir.root)
        code, out, _ = self.say(capsys, "gc", "--keep", "1", "--workdir", place)
        assert code == 0 and "Would be removed" in out and "LIVE" in set(synthetic.states().values())
        code, out, _ = self.say(capsys, "gc", "--keep", "1", "--apply", "--workdir", place)
        assert code == 0 and "were removed" in out
        code, out, _ = self.say(capsys, "gc", "--keep", "1", "--workdir", place)
        assert code == 0 and "nothing to remove" in out
        assert self.say(capsys, "gc", "--keep", "0", "--workdir", place)[0] == 2
