from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.convert import child, tftrt_probe
from serving.convert.tftrt_probe import Facts, facts_from, judge, tftrt_status
from serving.convert.tftrt_segmenting import compile_libraries
from serving.errors import ConversionError

ROOT = Path(__file__).resolve().parents[3]
GOOD = Facts("2.16.2", built=True, gpus=1, linked=(8, 6, 1), libraries=True, loaded=(8, 6, 1))


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({}, "ok", ""),
        ({"loaded": (8, 6, 3)}, "ok", ""),
        ({"tensorflow": None}, "not_built", "TensorFlow is not installed"),
        ({"built": False}, "not_built", "2.16.2 was built without TensorRT"),
        ({"gpus": 0}, "no_gpu", "no GPU"),
        ({"libraries": False, "loaded": None}, "no_libnvinfer", "libnvinfer.so.8.6.1 and libnvinfer_plugin.so.8.6.1"),
        ({"loaded": (8, 6, 0)}, "version_mismatch", "are TensorRT 8.6.0; TensorFlow 2.16.2 needs 8.6.1 or a later"),
        ({"loaded": (10, 0, 0)}, "version_mismatch", "are TensorRT 10.0.0"),
    ],
)
def test_every_rung_of_the_ladder(change: dict, status: str, reason: str) -> None:
    found = judge(dataclasses.replace(GOOD, **change))
    assert found[0] == status
    assert reason in found[1] if reason else found[1] == ""
    assert found[1].count(". ") == 0  # one sentence


versions = st.none() | st.tuples(*[st.integers(0, 12)] * 3)


@given(
    st.builds(
        Facts,
        st.none() | st.just("2.16.2"),
        st.none() | st.booleans(),
        st.none() | st.integers(0, 4),
        versions,
        st.none() | st.booleans(),
        versions,
    )
)
def test_ok_needs_everything_and_all_else_has_a_reason(facts: Facts) -> None:
    status, reason = judge(facts)
    assert (status == "ok") == (not reason)
    if status == "ok":
        assert facts.built and facts.gpus and facts.libraries and facts.loaded and facts.linked
        assert facts.loaded >= facts.linked
    assert facts_from(json.loads(json.dumps(dataclasses.asdict(facts)))) == facts


def test_a_probe_that_aborts_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: object) -> dict:
        raise ConversionError("serving.convert.tftrt_probe was ended by SIGABRT")

    monkeypatch.setattr(child, "ask", ask)
    status, reason = tftrt_status()
    assert status == "probe_failed" and "SIGABRT" in reason


@pytest.mark.slow
def test_without_a_gpu_this_process_lives_and_knows_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    status, reason = tftrt_status()
    assert status in ("no_gpu", "not_built")
    assert "GPU" in reason or "without TensorRT" in reason


def look(libraries: Path) -> subprocess.CompletedProcess[str]:
    """The facts as a process sees them that counts one GPU and finds libraries in a directory."""
    script = (
        "import dataclasses, json; from serving import lean_tensorflow; lean_tensorflow.install();"
        "from serving.convert.tftrt_probe import facts; print(json.dumps(dataclasses.asdict(facts(lambda: 1))))"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_libraries_are_found_by_their_exact_version(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    assert compiler, "these tests need a C compiler"
    missing = facts_from(json.loads(look(tmp_path).stdout))
    assert missing.linked is not None
    assert judge(missing)[0] == "no_libnvinfer"
    compile_libraries(compiler, tmp_path, missing.linked)
    assert judge(facts_from(json.loads(look(tmp_path).stdout))) == ("ok", "")
    older = (missing.linked[0], missing.linked[1] - 1, 0)
    (tmp_path / "older").mkdir()
    compile_libraries(compiler, tmp_path / "older", older)
    for file in (tmp_path / "older").iterdir():
        asked_for = file.name.replace(".".join(map(str, older)), ".".join(map(str, missing.linked)))
        file.rename(tmp_path / asked_for)
    assert judge(facts_from(json.loads(look(tmp_path).stdout)))[0] == "version_mismatch"


def test_counting_stops_at_the_first_obstacle() -> None:
    found = tftrt_probe.facts(lambda: 0)
    assert found.tensorflow is not None
    assert (found.linked, found.libraries, found.loaded) == (None, None, None)
