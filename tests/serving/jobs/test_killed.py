"""Nothing that was accepted is lost: gateway, worker and Redis are really killed while jobs are in all states."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.serving.gateway.conftest import picture
from tests.serving.gateway.fakes import rest_model, served
from tests.serving.jobs.conftest import RedisServer, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("cat", "dog", "owl")


class SlowModel:
    """A model server that answers predictions only while it may; counts what it was asked."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith(":predict"):
            self.asked += 1
            with anyio.move_on_after(60):
                while not self.may_answer.is_set():
                    await anyio.sleep(0.02)
        await rest_model(scope, receive, send)


class Machine:
    """Processes of one gateway with workers of their own."""

    def __init__(self, folder: Path, model: str, jobs: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "gateway.yaml"
        self.config.write_text(
            f"data_dir: data\nlisten: {{port: {self.port}}}\nupstream: {{url: '{model}', timeout_seconds: 100, "
            f"labels_file: labels.txt}}\njobs: {{workers: 0, lease_seconds: 1.5, retry_seconds: 0.1, {jobs}}}\n"
        )
        (folder / "labels.txt").write_text("cat\ndog\nowl\nshirt\n")
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        log = (self.config.parent / "log").open("ab")
        process = subprocess.Popen(command, cwd=self.config.parent, env=environment, stdout=log, stderr=log)
        self.running.append(process)
        return process

    def gateway(self) -> subprocess.Popen[bytes]:
        process = self.start("serving.gateway", "--config", str(self.config))

        def answers() -> bool:
            assert process.poll() is None, (self.config.parent / "log").read_text()[-2000:]
            try:
                return httpx.get(f"{self.url}/healthz", timeout=30).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers, "the gateway answers", 150)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("serving.jobs", "worker", "--config", str(self.config))

    def submit(self, kind: str, key: str) -> str:
        files = {"image": ("x.png", picture(kind))}
        answer = httpx.post(f"{self.url}/jobs", files=files, headers={"Idempotency-Key": key}, timeout=60)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def state(self, job_id: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/jobs/{job_id}", timeout=60)
        assert answer.status_code == 200, f"a job was lost: {answer.text}"
        found: dict[str, Any] = answer.json()
        return found

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(params=["sqlite", "redis"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Machine, SlowModel, RedisServer | None]]:
    redis: RedisServer | None = None
    jobs = "queue: sqlite"
    if request.param == "redis":
        redis = request.getfixturevalue("redis_server")
        assert redis is not None
        jobs = f"queue: redis, redis_url: '{redis.url}'"
    model = SlowModel()
    with served(model) as address:
        made = Machine(tmp_path, address, jobs)
        yield made, model, redis
        model.may_answer.set()
        made.close()


def test_jobs_outlive_gateway_worker_and_redis(machine: tuple[Machine, SlowModel, RedisServer | None]) -> None:
    house, model, redis = machine
    gateway = house.gateway()
    jobs = {house.submit(kind, f"before-{kind}"): kind for kind in KINDS}
    kill(gateway)  # the instant after the last 202

    worker = house.worker()
    gateway = house.gateway()
    assert house.submit("cat", "before-cat") in jobs, "the key is remembered across the crash"
    wait_for(lambda: model.asked, "a worker is in the middle of a job")
    if redis is not None:
        redis.kill()
        redis.start()
    kill(worker)

    jobs |= {house.submit(kind, f"after-{kind}"): kind for kind in KINDS}
    model.may_answer.set()
    second = house.worker()

    def all_done() -> bool:
        return all(house.state(job)["state"] == "done" for job in jobs)

    wait_for(all_done, "all jobs are done", 150)
    for job, kind in jobs.items():
        assert house.state(job)["result"]["items"][0]["prediction"]["label"] == kind
    assert max(house.state(job)["attempts"] for job in jobs) >= 2, "one of them was taken over from the dead"

    model.may_answer.clear()
    before = model.asked
    last = house.submit("owl", "last")
    wait_for(lambda: model.asked > before, "the last job is in work")
    second.send_signal(signal.SIGTERM)
    model.may_answer.set()
    assert second.wait(90) == 0, "a worker that is asked to stop finishes its job first"
    assert house.state(last)["state"] == "done" and house.state(last)["attempts"] == 1
