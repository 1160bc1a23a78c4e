"""From two runs of a pipeline to a canary that is promoted and rolled back, by the command line, under load."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
PATIENCE = 180.0


def command(*words: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "pipeline", *words]


def slipway(*words: str, cwd: Path, check: int = 0) -> str:
    done = subprocess.run(command(*words), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == check, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@contextlib.contextmanager
def started(*words: str, cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        process = subprocess.Popen(command(*words), cwd=cwd, env=ENVIRONMENT, stdout=stream, stderr=stream)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if condition():
                return
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        threading.Event().wait(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Load:
    """Users that ask for predictions all the time and write down what they got."""

    url: str
    picture: bytes
    answers: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            number = 0
            while not self._stop.wait(0.02):
                number += 1
                client.cookies.clear()  # each time somebody else, so that the split shows
                try:
                    answer = client.post(f"{self.url}/predict", files={"file": ("a.png", self.picture)})
                    answer.raise_for_status()
                    self.answers.append(answer.json()["model"]["version"])
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    self.failures.append(f"{number}: {error!r}")

    def from_now_on(self, versions: set[int], least: int = 15) -> Callable[[], bool]:
        """Whether `least` users are answered from now on, the last of them by exactly `versions`."""
        begin = len(self.answers)
        return lambda: len(self.answers) - begin >= least and set(self.answers[-least:]) == versions

    @contextlib.contextmanager
    def going_on(self) -> Iterator[Load]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()


def test_a_second_version_is_tried_promoted_and_rolled_back_and_nobody_notices(tmp_path: Path, shapes: Path) -> None:
    quick = ("--set", "train.epochs=4", "--set", "evaluate.gates.accuracy.min=0.3", "--set", "compress.variants=[]")
    free = (*quick, "--set", "evaluate.gates.accuracy.max_drop_vs_baseline=1.0")
    slipway("init", str(shapes), "--out", "shapes.yaml", cwd=tmp_path)
    assert "version 1 is in" in slipway("run", "shapes.yaml", *quick, cwd=tmp_path)

    grpc_port, rest_port, gateway_port = free_port(), free_port(), free_port()
    ports = (f"--port={grpc_port}", f"--rest_api_port={rest_port}")
    server_log, gateway_log = tmp_path / "server.log", tmp_path / "gateway.log"
    models, page = f"http://127.0.0.1:{rest_port}/v1/models/shapes", f"http://127.0.0.1:{gateway_port}"
    asked = ("--server", f"grpc://127.0.0.1:{grpc_port}")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(started("serve", "--rollout=manual", *ports, cwd=tmp_path, log=server_log))
        wait_for(lambda: "AVAILABLE" in httpx.get(models).text, server_log)
        settings = tmp_path / "gateway.yaml"
        settings.write_text("limits: {rate: 1000000/minute}\n", "utf-8")
        gateway = stack.enter_context(
            started(
                "gateway", "--settings", str(settings), "--workdir", "runs/shapes", "--port", str(gateway_port),
                "--upstream", f"http://127.0.0.1:{rest_port}", cwd=tmp_path, log=gateway_log,
            )
        )  # fmt: skip
        wait_for(lambda: httpx.get(f"{page}/readyz").status_code == 200, gateway_log)
        load = stack.enter_context(Load(page, (shapes / "cross" / "cross 1.png").read_bytes()).going_on())
        wait_for(load.from_now_on({1}), gateway_log)

        assert "version 2 is in" in slipway("run", "shapes.yaml", *free, "--set", "train.seed=8", cwd=tmp_path)
        wait_for(load.from_now_on({1}), gateway_log)

        slipway("canary", "start", "--weight", "0.5", "--manual", *asked, cwd=tmp_path)
        wait_for(load.from_now_on({1, 2}), gateway_log)
        standing = json.loads(slipway("canary", "status", "--json", *asked, cwd=tmp_path))
        assert (standing["state"]["stable"], standing["state"]["canary"]) == (1, 2)

        slipway("canary", "promote", "--force", *asked, cwd=tmp_path)
        wait_for(load.from_now_on({2}), gateway_log)
        slipway("canary", "rollback", *asked, cwd=tmp_path)
        wait_for(load.from_now_on({1}), gateway_log)

        assert load.failures == []
        assert set(load.answers) == {1, 2}
        stable = httpx.get(f"{models}/labels/stable/metadata").json()
        assert stable["model_spec"]["version"] == "1"
        seen = httpx.post(f"{page}/predict?explain=true", files={"file": ("a.png", load.picture)}).json()
        assert seen["explanation"]["overlay"].startswith("data:image/png;base64,")
        stop(gateway)
        stop(server)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 0


def test_serving_before_anything_was_published(tmp_path: Path) -> None:
    done = subprocess.run(command("serve"), cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "slipway run" in done.stderr


def test_a_flag_that_does_not_exist(tmp_path: Path) -> None:
    words = ("serve", "--model_base_path=/nowhere", "--rest_api_prot=1")
    done = subprocess.run(command(*words), cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "rest_api_port" in done.stderr
