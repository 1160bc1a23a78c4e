"""What a stage cost includes its workers, and the process that they were forked from once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.runners import resources


@pytest.fixture
def no_workers_yet(monkeypatch):
    monkeypatch.setattr(resources, "worker_costs", [])
    monkeypatch.setattr(resources, "_imports", {})


def test_workers_count_and_what_they_were_forked_from_counts_once(no_workers_yet):
    spin = "while __import__('time').process_time() < 0.3: pass\nprint('ready', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as origin:
        assert origin.stdout is not None and origin.stdout.readline()
        meter = resources.Meter()
        resources.note_worker(100.0, 10**12, origin.pid)
        resources.note_worker(100.0, 10**6, origin.pid)
        origin.communicate(b"\n")
    _, cpu, peak = meter.read()
    assert 200.2 <= cpu < 210
    assert peak == 10**6
    _, cpu, peak = resources.Meter().read()
    assert cpu < 100 and peak < 10**6, "earlier workers are not those of the next stage"


def test_an_origin_that_is_gone_costs_nothing(no_workers_yet):
    with subprocess.Popen([sys.executable, "-c", ""]) as origin:
        pass
    resources.note_worker(1.0, 1, origin.pid)
    assert resources.worker_costs == [(1.0, 1e-6)]
    assert os.getpid() not in resources._imports
