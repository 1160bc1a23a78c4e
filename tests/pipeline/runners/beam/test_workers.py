"""Workers are processes of their own; one that dies, is silent or runs other code ends the run with a sentence."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.beam_options import beam_args
from pipeline.config.config import Config
from pipeline.runners.beam.errors import WorkerError
from pipeline.runners.resources import Meter

pytestmark = [pytest.mark.slow, pytest.mark.orchestration]

ROOT = Path(__file__).resolve().parents[4]


def options(**settings) -> list[str]:
    """Return the arguments for the runner `workers`."""
    whole = {
        "name": "demo",
        "data": {"source": "digits"},
        "transform": {"size": [8, 8]},
        "beam": {"runner": "workers", "workers": 2, **settings},
    }
    return beam_args(Config.model_validate(whole))


def evaluate(expressions: list[str], **settings) -> None:
    """Evaluate Python expressions on workers; as text, so that workers need nothing of this module."""
    with beam.Pipeline(options=PipelineOptions(options(**settings))) as pipeline:
        _ = pipeline | beam.Create(expressions) | beam.Reshuffle() | beam.Map(eval)


def note(path: Path, value: str) -> str:
    """Return an expression that adds a line to a file."""
    return f"open({str(path)!r}, 'a').write(str({value}) + '\\n')"


PID = "__import__('os').getpid()"


def test_work_is_shared_by_processes_that_are_gone_afterwards(tmp_path):
    meter = Meter()
    evaluate([note(tmp_path / "pids", PID)] * 8)
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 8 and len(set(pids)) == 2
    assert os.getpid() not in pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    _, cpu, _ = meter.read()
    assert cpu > 0


def test_nothing_listens_on_the_network_where_all_workers_are_local(tmp_path):
    evaluate([note(tmp_path / "ports", "open('/proc/net/tcp').read() + open('/proc/net/tcp6').read()")])
    inodes = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and link.exists()}
    listening = [
        row.split()
        for row in (tmp_path / "ports").read_text().splitlines()
        if len(row.split()) > 9 and row.split()[3] == "0A"
    ]
    assert not [row for row in listening if f"socket:[{row[9]}]" in inodes]


def test_a_worker_that_is_killed_ends_the_run_in_words(tmp_path):
    with pytest.raises(WorkerError, match=r"worker \d \(process \d+\) was killed \(signal 9\).*Run again") as caught:
        evaluate([f"__import__('os').kill({PID}, {int(signal.SIGKILL)})", "1"])
    assert "Traceback" not in str(caught.value)
    evaluate([note(tmp_path / "pids", PID)] * 2)  # and the next run has workers again
    assert len((tmp_path / "pids").read_text().split()) == 2


def test_what_a_function_raises_is_no_trouble_with_workers():
    with pytest.raises(RuntimeError, match="ZeroDivisionError") as caught:
        evaluate(["1 / 0", "1"])
    assert not isinstance(caught.value, WorkerError)


@pytest.fixture(scope="module")
def pool() -> Iterator[str]:
    """Start a pool of two workers as a person would, and return its address."""
    command = [sys.executable, "-W", "ignore", "-m", "pipeline", "beam-worker", "--port", "0", "--workers", "2"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "2 workers at 127.0.0.1:" in line
    yield line.split(" at ")[1].split(",")[0]
    process.terminate()
    assert process.wait(60) == 0


def test_a_pool_lends_its_workers_and_says_when_it_has_no_more(tmp_path, pool):
    evaluate([note(tmp_path / "parents", "__import__('multiprocessing').parent_process().pid")] * 6, pools=[pool])
    parents = set((tmp_path / "parents").read_text().split())
    assert len(parents) == 1 and str(os.getpid()) not in parents
    with pytest.raises(WorkerError, match=rf"pool {pool} has no worker for this run: all 2 are at work"):
        evaluate(["1"], pools=[pool], workers=3)


def test_a_worker_of_a_pool_that_is_killed_ends_the_run_in_words(pool):
    with pytest.raises(WorkerError, match=rf"worker \d of the pool {pool} was lost: .*signal 9"):
        evaluate([f"__import__('os').kill({PID}, {int(signal.SIGKILL)})", "1"], pools=[pool])


def test_a_pool_with_other_code_is_refused(pool, monkeypatch):
    monkeypatch.setattr("pipeline.runners.beam.workers.code_version", lambda: "another")
    with pytest.raises(WorkerError, match="runs other code than the pipeline"):
        evaluate(["1"], pools=[pool])


def test_a_pool_that_nobody_serves_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(WorkerError, match=rf"pool 127.0.0.1:{port} can't be reached.*slipway beam-worker"):
        evaluate(["1"], pools=[f"127.0.0.1:{port}"])


def test_a_worker_that_never_connects_is_given_up(pool, monkeypatch):
    from pipeline.runners.beam.workers import Worker

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        nowhere = f"127.0.0.1:{deaf.getsockname()[1]}"
        monkeypatch.setattr(Worker, "port_from_worker", lambda self, port: nowhere)
        with pytest.raises(WorkerError, match=rf"has not connected to {nowhere} for 2 s; set beam.driver_host"):
            evaluate(["1"], pools=[pool], worker_timeout_seconds=2)


def test_an_address_of_another_machine_is_no_place_to_listen():
    with pytest.raises(WorkerError, match=r"192\.0\.2\.1.*must be an address of this machine"):
        evaluate(["1"], pools=["127.0.0.1:1"], driver_host="192.0.2.1")
