"""The work directory: its lock, its places, and schemas kept by content."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.records import INTERRUPTED, load_record, new_record, records
from pipeline.workdir import WorkDir


def test_one_run_at_a_time_and_the_lock_dies_with_its_process(tmp_path):
    workdir = WorkDir(tmp_path)
    workdir.create()
    script = (
        "import sys; from pathlib import Path; from pipeline.workdir import WorkDir\n"
        "with WorkDir(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"process {holder.pid}"), workdir.lock():
        pass
    holder.kill()
    holder.wait()
    with workdir.lock():
        assert (tmp_path / "lock").read_text(encoding="utf-8").isdigit()


def test_a_schema_is_kept_under_its_content(tmp_path):
    workdir = WorkDir(tmp_path / "work")
    workdir.create()
    schema = tmp_path / "schema.pbtxt"
    schema.write_text("one", encoding="utf-8")
    first = workdir.keep_schema(schema)
    schema.write_text("two", encoding="utf-8")
    second = workdir.keep_schema(schema)
    assert first != second
    assert (first.read_text(encoding="utf-8"), second.read_text(encoding="utf-8")) == ("one", "two")
    with pytest.raises(ConfigError, match=r"no\.pbtxt can't be read"):
        workdir.keep_schema(tmp_path / "no.pbtxt")


def test_a_record_whose_process_is_gone_was_interrupted(tmp_path):
    record = new_record("p", "p.yaml", "log", "f")
    record.save(tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert load_record(path).state == "running"
    record.pid = 2**22 + 1
    record.save(tmp_path)
    assert load_record(path).state == INTERRUPTED
    (tmp_path / "9999.json").write_text("{", encoding="utf-8")
    assert [found.run_id for found in records(tmp_path)] == [record.run_id]


def test_the_default_work_directory_is_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert WorkDir.of("p").root == tmp_path / "runs" / "p"
    assert WorkDir.of("p", Path("elsewhere")).root == tmp_path / "elsewhere"
