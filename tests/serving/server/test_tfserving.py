"""The real TensorFlow Serving in place of the embedded server."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.errors import ServingError
from serving.server import tfserving
from serving.server.config.flags import parse
from tests.serving.server.waiting import eventually

_ROOT = Path(__file__).resolve().parents[3]


def _program(folder: Path, name: str) -> Path:
    """A program that writes its arguments down and waits for SIGTERM."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport pathlib, signal, sys\n"
        f"pathlib.Path({str(folder / 'new')!r}).write_text('\\n'.join(sys.argv[1:]))\n"
        f"pathlib.Path({str(folder / 'new')!r}).rename({str(folder / 'arguments')!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nsignal.pause()\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def warnings_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever level a library left in this process."""
    caplog.set_level(logging.WARNING, logger="slipway.serving")


@pytest.fixture()
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_binary_gets_the_flags_as_they_were_given(programs: Path, caplog: pytest.LogCaptureFixture) -> None:
    binary = _program(programs, "tensorflow_model_server")
    _program(programs, "docker")
    flags = parse(
        ["--engine=tfserving", "--model_base_path=/m", "--enable_batching", "--per_process_gpu_memory_fraction=0.5"]
    )
    assert tfserving.command_line(flags) == [
        str(binary),
        "--model_base_path=/m",
        "--enable_batching=true",
        "--per_process_gpu_memory_fraction=0.5",
    ]
    assert "listens on every network, not only on 127.0.0.1" in caplog.text


def test_flags_without_a_counterpart_are_named_and_dropped(programs: Path, caplog: pytest.LogCaptureFixture) -> None:
    binary = _program(programs, "tensorflow_model_server")
    flags = parse(["--host=0.0.0.0", "--max_pixels=7", "--request_log_dir=/l", "--model_base_path=/m"])
    assert tfserving.command_line(flags) == [str(binary), "--model_base_path=/m"]
    assert [record.args for record in caplog.records] == [("max_pixels",), ("request_log_dir",)]


def test_docker(programs: Path, tmp_path: Path) -> None:
    docker = _program(programs, "docker")
    config = tmp_path / "etc" / "models.config"
    config.parent.mkdir()
    config.write_text(
        'model_config_list { config { name: "a" base_path: "/models/a" model_platform: "tensorflow" } '
        'config { name: "b" base_path: "s3://bucket/b" model_platform: "tensorflow" } }'
    )
    flags = parse([f"--model_config_file={config}", "--rest_api_port=9001", "--grpc_socket_path=/run/m/s"])
    assert tfserving.command_line(flags) == [
        str(docker),
        "run",
        "--rm",
        "--init",
        f"--user={os.getuid()}:{os.getgid()}",
        "--publish=127.0.0.1:8500:8500",
        "--publish=127.0.0.1:9001:9001",
        "--volume=/models/a:/models/a:ro",
        f"--volume={config.parent}:{config.parent}:ro",
        "--volume=/run/m:/run/m",
        "--entrypoint=/usr/bin/tensorflow_model_server",
        "tensorflow/serving:2.16.1",
        f"--model_config_file={config}",
        "--rest_api_port=9001",
        "--grpc_socket_path=/run/m/s",
    ]
    with pytest.raises(ServingError, match="--model_base_path is 'm', expected an absolute path"):
        tfserving.command_line(parse(["--model_base_path=m"]))


def test_neither_is_there(programs: Path) -> None:
    with pytest.raises(ServingError, match="finds neither tensorflow_model_server nor docker in PATH") as caught:
        tfserving.command_line(parse(["--model_base_path=/m"]))
    assert caught.value.exit_code == 2


def test_the_process_becomes_the_server_and_gets_its_signals(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    _program(folder, "tensorflow_model_server")
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.server", "--engine=tfserving", "--model_base_path=/m", "--port=9"],
        cwd=_ROOT,
        env={**os.environ, "PATH": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )
    arguments = folder / "arguments"
    eventually(arguments.exists)
    assert arguments.read_text() == "--model_base_path=/m\n--port=9"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 7, errors
    assert f"starting {folder / 'tensorflow_model_server'} --model_base_path=/m --port=9" in errors
