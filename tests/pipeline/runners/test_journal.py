"""Run ids that schedulers choose, and a record that several processes write."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.records import StageRecord, new_record, records
from pipeline.runners.journal import Journal, check_run_id, file_name
from pipeline.workdir import WorkDir

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200)


@given(printable, printable)
def test_different_ids_get_different_names_that_any_folder_takes(first, second):
    name = file_name(check_run_id(first))
    assert (name == file_name(second)) == (first == second)
    assert len(name) <= 100
    assert Path(name).name == name and not name.startswith((".", "-"))
    assert not set("/\0*?[~").intersection(name.partition("~")[0])


@pytest.mark.parametrize("run_id", ["..", "../../etc/passwd", "-w", ".hidden", "a/b", "~root", "x" * 200])
def test_hostile_ids_stay_in_their_folder(tmp_path, run_id):
    assert (tmp_path / file_name(check_run_id(run_id))).resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("run_id", ["", " ", "two words", "line\nbreak", "\0", "é", "x" * 201, "\x1b[31m"])
def test_ids_that_can_name_no_run_are_refused(run_id):
    with pytest.raises(ConfigError, match="--run-id: received"):
        check_run_id(run_id)


def begun(workdir: WorkDir, run_id: str, stages: list[str]) -> Journal:
    journal = Journal(workdir, run_id)
    record = journal.begin("p", "p.yaml", "fingerprint")
    record.stages = [StageRecord(stage) for stage in stages]
    record.save(workdir.records)
    return journal


@pytest.fixture
def workdir(tmp_path) -> WorkDir:
    workdir = WorkDir(tmp_path / "work")
    workdir.create()
    return workdir


def test_stages_that_end_at_the_same_time_dont_overwrite_each_other(workdir):
    stages = [f"Stage{number}" for number in range(8)]
    journal = begun(workdir, "run", stages)

    def work(name: str) -> None:
        for _ in range(10):
            with journal.update() as record:
                record.stage(name).seconds += 1

    threads = [threading.Thread(target=work, args=(name,)) for name in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [stage.seconds for stage in journal.read().stages] == [10] * 8


def test_a_run_without_a_process_of_its_own_is_not_interrupted(workdir):
    journal = begun(workdir, "zzz", [])
    assert journal.read().state == "running"
    local = new_record("p", "p.yaml", "log", "f")
    local.save(workdir.records)
    assert [record.run_id for record in records(workdir.records)] == [local.run_id, "zzz"]


def test_the_id_of_a_local_run_is_refused(workdir):
    local = new_record("p", "p.yaml", "log", "f")
    local.save(workdir.records)
    with pytest.raises(ConfigError, match="id of a local run"):
        Journal(workdir, local.run_id).begin("p", "p.yaml", "f")


def test_an_unknown_run_is_named(workdir):
    with pytest.raises(ConfigError, match=r"no run 'nobody'.*prepare-run"):
        Journal(workdir, "nobody").read()
