"""The servers of the benchmark as processes: started, found ready, their CPU time read, ended.

Comes in: the model's directory. Goes out: `Server`s. Called by `scripts/bench_serving.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 300
_TICKS = os.sysconf("SC_CLK_TCK")
CONSTANT = "HTTP alone"
# By name in the results: the package that the model comes from.
FASTAPI = {"FastAPI + model(x)": "tf_keras", "FastAPI + model(x), Keras 3": "keras"}
MLSERVER = ("mlserver==1.6.1", "setuptools<80", "tensorflow==2.16.2")


@dataclass
class Server:
    """A running server.

    Attributes:
        name: Name in the results.
        process: Its process, leader of a group of its own.
        urls: Address of each payload that it takes, by name of the payload.
        ready_url: Address that answers once the server is ready.
        log: Where its output goes.
    """

    name: str
    process: subprocess.Popen[bytes]
    urls: Mapping[str, str]
    ready_url: str
    log: Path = field(default=Path(os.devnull))

    def wait_until_ready(self) -> None:
        """Wait until the server answers.

        Raises:
            SystemExit: It ended, or did not answer in time.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended with {self.process.returncode}; its output is in {self.log}")
            try:
                with urllib.request.urlopen(self.ready_url, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise SystemExit(f"{self.name} was not ready within {_READY_SECONDS} s; its output is in {self.log}")

    def cpu_seconds(self) -> float:
        """CPU time of the server and its worker processes so far."""
        return sum(_cpu_seconds(pid) for pid in _family(self.process.pid))

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_slipway(base: Path, log: Path, more: Sequence[str] = ()) -> Server:
    """Start the embedded server on the versions below `base`, as a user would, with more flags if given."""
    rest, grpc = free_port(), free_port()
    flags = [f"--rest_api_port={rest}", f"--port={grpc}", "--model_name=cnn", f"--model_base_path={base}", *more]
    process = _start([sys.executable, "-W", "ignore", "-m", "serving.server", *flags], log)
    predict = f"http://127.0.0.1:{rest}/v1/models/cnn:predict"
    call = f"http://127.0.0.1:{grpc}/tensorflow.serving.PredictionService/Predict"
    urls = {"REST image": predict, "REST float": predict, "gRPC image": call, "gRPC float": call}
    return Server("slipway", process, urls, f"http://127.0.0.1:{rest}/v1/models/cnn", log)


def start_constant(answer: Path, log: Path) -> Server:
    """Start the HTTP server of the embedded server with a constant in place of a model: what HTTP alone costs."""
    port = free_port()
    script = "benchmarks.serving.constant_server"
    process = _start([sys.executable, "-W", "ignore", "-m", script, str(answer), str(port)], log)
    predict = f"http://127.0.0.1:{port}/v1/models/cnn:predict"
    urls = {"REST image": predict, "REST float": predict}
    return Server(CONSTANT, process, urls, predict, log)


def start_fastapi(name: str, directory: Path, log: Path) -> Server:
    """Start the FastAPI handler that calls `model(x)`; the name is one of `FASTAPI`."""
    port = free_port()
    script = "benchmarks/serving/fastapi_server.py"
    process = _start([sys.executable, "-W", "ignore", script, str(directory), str(port), FASTAPI[name]], log)
    predict = f"http://127.0.0.1:{port}/v1/models/cnn:predict"
    urls = {"REST image": predict, "REST float": predict}
    return Server(name, process, urls, f"http://127.0.0.1:{port}/openapi.json", log)


def start_mlserver(directory: Path, environment: Path, scratch: Path, log: Path) -> Server:
    """Start MLServer from its own environment, which is made if it is not there."""
    if not (environment / "bin" / "mlserver").exists():
        uv = shutil.which("uv")
        if uv is None:
            raise SystemExit("MLServer needs an environment of its own, which uv makes; uv is not on the PATH.")
        subprocess.run([uv, "venv", "--python", sys.executable, str(environment)], check=True)
        subprocess.run([uv, "pip", "install", "--python", str(environment / "bin" / "python"), *MLSERVER], check=True)
    rest, grpc, metrics = free_port(), free_port(), free_port()
    settings = {"http_port": rest, "grpc_port": grpc, "metrics_port": metrics, "host": "127.0.0.1", "debug": False}
    model = {
        "name": "cnn",
        "implementation": "mlserver_runtime.SignatureRuntime",
        "parameters": {"uri": str(directory)},
    }
    (scratch / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0}), "utf-8")
    (scratch / "model-settings.json").write_text(json.dumps(model), "utf-8")
    shutil.copy(ROOT / "benchmarks" / "serving" / "mlserver_runtime.py", scratch)
    process = _start([str(environment / "bin" / "mlserver"), "start", str(scratch)], log, {"PYTHONPATH": str(scratch)})
    address = f"http://127.0.0.1:{rest}/v2/models/cnn"
    return Server("MLServer", process, {"V2 float": f"{address}/infer"}, f"{address}/ready", log)


def ask(url: str, body: bytes) -> bytes:
    """Answer to one request over REST."""
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
        return bytes(answer.read())


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(command: list[str], log: Path, extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), **(extra or {})}
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _family(int(child))
    return found


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
