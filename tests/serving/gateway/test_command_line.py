"""Settings files and the command line, as operators use them; the real process at the end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from serving.gateway import config_file
from serving.gateway.__main__ import _listening, main
from serving.gateway.errors import GatewayError
from serving.gateway.settings import GatewaySettings, Listen
from tests.serving.gateway.conftest import picture
from tests.serving.gateway.fakes import rest_model, served

ROOT = Path(__file__).resolve().parents[3]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_point_at_this_machine() -> None:
    settings = config_file.load(None)
    assert settings == GatewaySettings()
    assert (settings.listen.host, settings.listen.port) == ("127.0.0.1", 8080)
    assert settings.upstream.url == "http://127.0.0.1:8501" and settings.listen.is_loopback


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = "data_dir: state\nupstream: {labels_file: labels.txt}\naccess: {jwt: {jwks_file: /etc/jwks, audience: x}}\n"
    settings = config_file.load(write(tmp_path, text))
    assert settings.data_dir == tmp_path / "state" and settings.upstream.labels_file == tmp_path / "labels.txt"
    assert settings.access.jwt is not None and settings.access.jwt.jwks_file == Path("/etc/jwks")
    assert config_file.load(write(tmp_path, "")) == GatewaySettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen: {prot: 1}", r":1: unknown key 'listen.prot'; did you mean 'port'\?"),
        ("page:\n  title: x\nlimit: {}", r":3: unknown key 'limit'; did you mean 'limits'\?"),
        ("access:\n  jwt:\n    jwks: a\n    jwks_file: b\n    audience: c", r":3: unknown key 'access.jwt.jwks'"),
        ("zzzz: 1", r"unknown key 'zzzz'; expected one of listen, upstream"),
        ("listen:\n  host: x\n  port: 70000", r":3: listen.port: .*65535 \(received 70000\)"),
        ("upstream: {url: ftp://x}", r"expected an address such as http"),
        ("limits: {rate: fast}", r"limits.rate: .*received 'fast'"),
        ("answers: {threshold: 2}", r"answers.threshold"),
        ("images: {max_bytes: 99999999, max_batch_bytes: 2000}", r"a batch of one picture must fit"),
        ("- a", "expected sections"),
        ("a: [", "is no YAML"),
        ("listen: {port: 1}\nlisten: {port: 2}", "is no YAML"),
        ("listen: [1]", "listen"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GatewayError, match=message):
        config_file.load(write(tmp_path, text))


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(GatewayError) as caught:
        config_file.load(write(tmp_path, "listen: {port: -1}\npages: {}\n"))
    assert len(str(caught.value).splitlines()) == 2
    for odd in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(GatewayError, match="cannot be read"):
            config_file.load(odd)


def test_keys_are_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(write(tmp_path, "data_dir: data"))]
    assert main([*config, "keys", "add", "a phone", "--role", "admin", "--days", "7"]) == 0
    made = capsys.readouterr()
    key_id = re.fullmatch(r"slk_([0-9a-f]{12})_[\w-]{43}\n", made.out)[1]  # type: ignore[index]
    assert main([*config, "keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert key_id in listed and "valid" in listed and "admin" in listed and made.out.strip() not in listed
    assert main([*config, "keys", "revoke", key_id]) == 0
    assert main([*config, "keys", "list"]) == 0
    assert "revoked" in capsys.readouterr().out
    assert main([*config, "keys", "revoke", "nobody"]) == 2
    assert "no key has the id" in capsys.readouterr().err


def test_wrong_settings_end_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(write(tmp_path, "lisen: {}"))]) == 2
    assert "did you mean 'listen'" in capsys.readouterr().err
    assert main(["--config", str(write(tmp_path, "upstream: {labels_file: none.txt}\ndata_dir: d"))]) == 2
    assert "labels_file" in capsys.readouterr().err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_ends_with_exit_code_2_and_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["--config", str(write(tmp_path, f"data_dir: d\nlisten: {{port: {port}}}"))]) == 2
    said = capsys.readouterr().err
    assert f"--port={port}: cannot listen on 127.0.0.1:{port}: Address already in use. Choose another port" in said
    assert "stop the process that holds it" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("host", "shown"),
    [("no.such.host.invalid", "no.such.host.invalid:8080"), ("2001:db8::1", "[2001:db8::1]:8080"), ("a..b", "a..b")],
)
def test_a_host_that_is_not_this_machine_ends_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, shown: str
) -> None:
    assert main(["--config", str(write(tmp_path, f"data_dir: d\nlisten: {{host: '{host}', port: 8080}}"))]) == 2
    said = capsys.readouterr().err
    assert f"--host={host}: cannot listen on {shown}" in said and "Traceback" not in said
    assert "Give an address of this machine" in said


def test_every_address_of_localhost_is_listened_at() -> None:
    taken = _listening(Listen(host="localhost", port=0))
    try:
        assert {each.getsockname()[0] for each in taken} & {"127.0.0.1", "::1"}
    finally:
        for each in taken:
            each.close()


def test_a_gateway_that_fails_to_start_is_no_refusal_of_a_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.gateway.__main__.signal.signal", lambda *_: None)
    monkeypatch.setattr("uvicorn.Server.startup", _exit_as_uvicorn_does)
    assert main(["--config", str(write(tmp_path, "data_dir: d\nlisten: {port: 0}"))]) == 1


async def _exit_as_uvicorn_does(*_: object) -> None:
    raise SystemExit(3)


@pytest.mark.slow
def test_the_process_serves_stops_on_a_signal_and_imports_no_tensorflow(tmp_path: Path) -> None:
    with served(rest_model) as model:
        port = free_port()
        text = f"data_dir: data\nlisten: {{port: {port}}}\nupstream: {{url: '{model}', model: pets}}\n"
        config = write(tmp_path, text)
        code = (
            "import sys\nfrom serving.gateway.__main__ import main\ndone = main(sys.argv[1:])\n"
            "heavy = {'tensorflow', 'tensorflow_serving', 'tf_keras', 'tfx'} & set(sys.modules)\n"
            "assert not heavy, heavy\nsys.exit(done)"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-c", code, "--config", str(config)],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
                try:
                    answer = httpx.post(f"http://127.0.0.1:{port}/predict?explain=true", content=picture(), timeout=30)
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            assert answer.status_code == 200 and answer.json()["label"] == "owl", answer.text
            assert answer.json()["explanation"]["available"] is True and "server" not in answer.headers
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "Error" not in errors and (tmp_path / "data/audit.jsonl").read_text().count("\n") == 1
