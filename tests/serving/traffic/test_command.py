"""`python -m serving.traffic watch`, and what importing the package costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serving.traffic.__main__ import main
from serving.traffic.state import TrafficFile
from tests.serving.server.waiting import eventually
from tests.serving.traffic.fakes import Scene, parse


class StatusServer(BaseHTTPRequestHandler):
    """Status and metadata of TensorFlow Serving's REST API, for a server that polls the config file.

    As the real one, it overlooks a label when it is asked for the status, and follows it for the metadata.
    """

    state_dir: Path

    def do_GET(self) -> None:
        versions, labels = parse((self.state_dir / "models.config").read_text())
        if self.path.endswith("/metadata"):
            version = labels[self.path.split("/")[-2]]
            answer: Any = {
                "model_spec": {"name": "pets", "signature_name": "", "version": str(version)},
                "metadata": {"signature_def": {"signature_def": {}}},
            }
        else:
            ok = {"error_code": "OK", "error_message": ""}
            states = [{"version": str(each), "state": "AVAILABLE", "status": ok} for each in versions]
            answer = {"model_version_status": states}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_watch_carries_a_rollout_on_and_ends_on_sigterm(scene: Scene, tmp_path: Path) -> None:
    scene.controller.start()
    file = TrafficFile(scene.state_dir)
    state = scene.controller.stepper.given_up(file.read(), ("a command that was killed here",))
    file.write(state)
    handler = type("Handler", (StatusServer,), {"state_dir": scene.state_dir})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = tmp_path / "watch.yaml"
    config.write_text(
        f"state_dir: {scene.state_dir}\nservers: ['http://127.0.0.1:{server.server_address[1]}']\npoll_seconds: 0.05\n"
    )
    command = [sys.executable, "-m", "serving.traffic", "watch", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: file.read().phase == "idle", 120, "the rollback is finished")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()

    assert process.returncode == 0
    assert "rolled-back" in said
    assert file.read().history[-1].by == "watch"


def test_settings_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\n"
        "import serving.traffic.commands, serving.traffic.terminal, serving.traffic.picture, serving.proxy.envoy\n"
        "heavy = {'tensorflow', 'scipy', 'grpc', 'httpx', 'numpy', 'ruamel.yaml', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr


def test_pin_makes_the_newest_version_stable_once(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pin", "--base-path", str(published), "--model", "mnist", "--state-dir", str(tmp_path / "state")]
    assert main(words) == 0
    config = Path(capsys.readouterr().out.strip())
    assert 'key: "stable"' in config.read_text()
    first = TrafficFile(tmp_path / "state").read()
    assert main(words) == 0
    assert TrafficFile(tmp_path / "state").read() == first


def test_pin_without_any_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pin", "--base-path", str(tmp_path), "--model", "mnist", "--state-dir", str(tmp_path / "s")]) == 2
    assert "no intact version" in capsys.readouterr().err
