from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import accelerators
from pipeline.accelerators import TFTRT_STATES, probe_accelerators


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Replaces the probe by a script with the given lines."""

    def write(*lines: str) -> None:
        script = tmp_path / "probe.py"
        script.write_text("import json, os, sys\n" + "\n".join(lines), encoding="utf-8")
        monkeypatch.setattr(accelerators, "PROBE", script)

    return write


def fact(**facts: object) -> str:
    return f"print({json.dumps(facts)!r}, flush=True)"


def test_facts_are_gathered_from_all_lines(probe) -> None:
    probe(
        fact(tensorflow="2.16.2", cuda_build=True),
        "print('a line of TensorFlow')",
        fact(gpus=["Tesla T4"], linked="8.6.1"),
        fact(tftrt="ok", loaded="8.6.1"),
    )
    found = probe_accelerators()
    assert (found.tensorflow, found.gpus, found.tftrt) == ("2.16.2", ("Tesla T4",), "ok")
    assert (found.linked, found.loaded, found.failure) == ("8.6.1", "8.6.1", "")


def test_an_abort_loses_only_what_came_after_it(probe) -> None:
    probe(fact(tensorflow="2.16.2", gpus=["Tesla T4"], linked="8.6.1"), "os.abort()", fact(tftrt="ok"))
    found = probe_accelerators()
    assert found.gpus == ("Tesla T4",)
    assert found.tftrt == "unknown"
    assert "signal 6" in found.failure


def test_a_probe_that_hangs_is_given_up(probe) -> None:
    probe(fact(tensorflow="2.16.2"), "import time; time.sleep(60)")
    found = probe_accelerators(time_limit=0.5)
    assert "no answer within" in found.failure


def test_an_exception_tells_its_last_line(probe) -> None:
    probe("raise ImportError('libfoo.so: cannot open shared object file')")
    assert probe_accelerators().failure == "ImportError: libfoo.so: cannot open shared object file"


@pytest.mark.slow
def test_the_real_probe_climbs_the_ladder_to_one_of_its_rungs() -> None:
    found = probe_accelerators()
    assert found.failure == ""
    assert found.tensorflow.startswith("2.")
    assert found.tftrt in TFTRT_STATES and found.tftrt != "unknown"
    assert bool(found.gpus) or found.tftrt in ("not_built", "no_gpu")
