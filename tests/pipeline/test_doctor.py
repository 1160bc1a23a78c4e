from __future__ import annotations

import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipeline import doctor
from pipeline.accelerators import Accelerators
from pipeline.doctor import Check


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_check_that_is_not_ok_must_have_a_fix() -> None:
    with pytest.raises(ValueError, match="has no fix"):
        Check("disk", "missing", "0 GB")


def test_python_310_and_nothing_else_will_do() -> None:
    assert doctor.check_python((3, 10, 13)).status == "ok"
    assert doctor.check_python((3, 11, 2)).status == "missing"


def installed(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    pins = ["tfx==1.16.0; extra == 'pipeline'", "tensorflow==2.16.2 ; extra == 'pipeline'", "rich>=13"]
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: pins)


def test_packages_are_held_against_the_versions_that_the_project_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, {"tfx": "1.16.0", "tensorflow": "2.18.0", "keras-tuner": "1.3.5"})
    found = {check.name: check for check in doctor.check_packages()}
    assert set(found) == set(doctor.PACKAGES)
    assert found["TFX"].status == "ok"
    assert found["TensorFlow"].status == "degraded" and "2.16.2" in found["TensorFlow"].detail
    assert found["KerasTuner"].status == "ok"
    assert found["TF-MOT"].status == "missing" and "make setup" in found["TF-MOT"].fix


def test_versions_are_told_where_the_project_itself_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    installed(monkeypatch, {"tfx": "1.15.0"})
    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert doctor.check_packages()[0] == Check("TFX", "ok", "1.15.0", needed=True)


def test_gpu_has_three_truths(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_gpu(Accelerators(gpus=("Tesla T4",))).detail == "Tesla T4"
    driver = doctor.check_gpu(Accelerators(tensorflow="2.16.2"), which=lambda name: "/usr/bin/nvidia-smi")
    assert driver.status == "degraded" and "and-cuda" in driver.fix
    assert doctor.check_gpu(Accelerators(tensorflow="2.16.2"), which=lambda name: None).status == "missing"
    assert "signal 11" in doctor.check_gpu(Accelerators(failure="signal 11")).detail


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (Accelerators(tftrt="not_built", reason="was built without TensorRT"), "missing", "without TensorRT"),
        (Accelerators(tftrt="no_gpu", reason="TensorFlow finds no GPU"), "missing", "no_gpu: TensorFlow finds no GPU"),
        (Accelerators(tftrt="no_libnvinfer", reason="no libnvinfer.so.8.6.1"), "missing", "libnvinfer.so.8.6.1"),
        (Accelerators(tftrt="version_mismatch", reason="needs 8.6.1"), "degraded", "version_mismatch: needs 8.6.1"),
        (Accelerators(reason="was ended by SIGABRT", failure="was ended by SIGABRT"), "degraded", "SIGABRT"),
        (Accelerators(tftrt="ok"), "ok", "can be built"),
    ],
)
def test_tftrt_names_its_rung(found: Accelerators, status: str, words: str) -> None:
    check = doctor.check_tftrt(found)
    assert check.status == status
    assert words in check.detail


def test_docker_is_a_client_and_an_engine(only: Path) -> None:
    assert doctor.check_docker().status == "missing"
    program(only, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    assert doctor.check_docker().status == "degraded"
    program(only, "docker", "echo 28.2.2")
    assert doctor.check_docker() == Check("docker", "ok", "engine 28.2.2")


def test_the_model_server_must_start(only: Path) -> None:
    assert doctor.check_model_server().status == "missing"
    program(only, "tensorflow_model_server", "exit 1")
    assert doctor.check_model_server().status == "degraded"
    program(only, "tensorflow_model_server", "echo 'TensorFlow ModelServer: 2.16.1'; echo more")
    assert doctor.check_model_server().detail == "TensorFlow ModelServer: 2.16.1"


def test_a_program_that_hangs_counts_as_failed() -> None:
    assert doctor._ask([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.2) == (127, "")


def test_data_sets_are_found_or_tell_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from transform.sources import fashion_mnist

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "find_files", lambda: None)
    found = {check.name: check for check in doctor.check_data_sets()}
    assert (found["digits"].status, found["fashion_mnist"].status, found["cifar10"].status) == (
        "ok",
        "missing",
        "missing",
    )
    assert "dataset-fashion-mnist" in found["fashion_mnist"].fix and "data.path" in found["cifar10"].fix

    (tmp_path / "datasets/cifar-10-batches-bin").mkdir(parents=True)
    (tmp_path / "datasets/cifar-10-batches-bin/test_batch.bin").write_bytes(b"")
    monkeypatch.setattr(fashion_mnist, "find_files", lambda: ["/data/fashion/train.gz"])
    found = {check.name: check for check in doctor.check_data_sets()}
    assert found["fashion_mnist"] == Check("fashion_mnist", "ok", "/data/fashion")
    assert found["cifar10"].status == "ok"


def test_digits_are_missing_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert doctor.check_data_sets()[0].status == "missing"


def test_data_sets_are_missing_where_the_sources_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transform.sources", None)
    assert [check.status for check in doctor.check_data_sets()] == ["missing"] * 3


@pytest.mark.parametrize(("gigabytes", "status"), [(9, "ok"), (2, "degraded"), (0.5, "missing")])
def test_disk(monkeypatch: pytest.MonkeyPatch, gigabytes: float, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=gigabytes * 1e9))
    check = doctor.check_disk(Path("/data"))
    assert check.status == status
    assert "/data" in check.detail


def test_memory_is_the_machines_or_its_containers(tmp_path: Path) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal:       16000000 kB\nMemFree: 1 kB\n", encoding="utf-8")
    assert doctor.check_memory(meminfo, limit).detail == "16.4 GB"
    limit.write_text("max\n", encoding="utf-8")
    assert doctor.check_memory(meminfo, limit).status == "ok"
    limit.write_text("2000000000\n", encoding="utf-8")
    check = doctor.check_memory(meminfo, limit)
    assert (check.status, check.detail) == ("degraded", "2.0 GB")
    assert doctor.check_memory(tmp_path / "absent", tmp_path / "absent").detail == "unknown"


@pytest.mark.parametrize(
    ("flags", "count", "status"),
    [
        ("fpu avx avx2 fma", 2, "ok"),
        ("fpu avx", 2, "degraded"),
        ("avx avx2", 1, "degraded"),
        ("fpu", 8, "missing"),
    ],
)
def test_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, count: int, status: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n", encoding="utf-8")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(count)))
    check = doctor.check_cpu(tmp_path / "cpuinfo")
    assert check.status == status
    assert check.detail.startswith(f"{count} with ")


def table(checks: list[Check]) -> str:
    console = Console(file=io.StringIO(), width=100)
    doctor.render(checks, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_shows_every_fix_and_the_verdict() -> None:
    checks = [Check("GPU", "missing", "[none]", "Buy one."), Check("disk", "ok", "9 GB", needed=True)]
    shown = table(checks)
    assert "[none]" in shown and "GPU: Buy one." in shown
    assert "is here" in shown and doctor.exit_code(checks) == 0
    checks.append(Check("TFX", "missing", "not installed", "Run `make setup`.", needed=True))
    assert "cannot work" in table(checks) and doctor.exit_code(checks) == 2
    read = json.loads(doctor.to_json(checks))
    assert read["ready"] is False
    assert read["checks"][0] == {
        "name": "GPU",
        "status": "missing",
        "detail": "[none]",
        "fix": "Buy one.",
        "needed": False,
    }


def test_a_tensorflow_that_is_installed_and_does_not_start_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = Accelerators(failure="ImportError: libcudart")
    monkeypatch.setattr(doctor, "probe_accelerators", lambda: broken)
    checks = doctor.check_all()
    found = next(check for check in checks if check.name == "TensorFlow")
    assert found.status == "missing" and "does not start: ImportError: libcudart" in found.detail
    assert doctor.exit_code(checks) == 2


def test_without_any_of_the_packages_it_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Accelerators:
        raise AssertionError("TensorFlow was asked though it is not installed")

    installed(monkeypatch, {})
    monkeypatch.setattr(doctor, "probe_accelerators", never)
    checks = doctor.check_all()
    assert sum(check.status == "missing" for check in checks) >= len(doctor.PACKAGES)
    assert doctor.exit_code(checks) == 2


def test_it_imports_nothing_heavy() -> None:
    script = "import sys, pipeline.doctor; print(sorted({'tensorflow', 'tfx', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_real_machine_can_run_the_pipeline() -> None:
    checks = doctor.check_all()
    assert doctor.exit_code(checks) == 0, [check for check in checks if check.status == "missing"]
    assert all(check.fix for check in checks if check.status != "ok")


ROOT = Path(doctor.__file__).resolve().parent.parent
