"""A model that is not published yet, served by the real server of this package for as long as it is being checked.

Comes in: the directory of a SavedModel. Goes out: `CandidateServer`, which answers over REST and gRPC. Called by
`serving.infra_probe`.

The server listens on a free port of this machine and on a Unix socket, and ends with its parent. A process that has
imported TensorFlow but made no Session yet may fork it, which saves the time of importing it again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError

_MODEL = "candidate"
_ROOT = Path(__file__).resolve().parent.parent
_ATTEMPTS = 3  # Between choosing a free port and listening on it, somebody else may take it.


class CandidateServer:
    """A running server of one model.

    Args:
        folder: Holds the base path, the socket and the log.
        fork: Whether to fork this process instead of starting a fresh one.
    """

    def __init__(self, folder: Path, *, fork: bool) -> None:
        self._folder, self._fork = folder, fork
        self._pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = True
        self._port = 0
        self._attempts = 0
        self._start()

    def wait(self, seconds: float = 300) -> None:
        """Wait until the server answers.

        Raises:
            ServingError: It ended, because the model did not become available, or the time was up.
        """
        deadline = time.monotonic() + seconds
        while True:
            if not self._alive():
                text = self._log()
                if "cannot listen" not in text or self._attempts == _ATTEMPTS:
                    raise ServingError(f"the server did not start: {_reason(text)}")
                self._start()
            try:
                status, answer = self._call(f"/v1/models/{_MODEL}", None)
            except OSError:
                if time.monotonic() > deadline:
                    raise ServingError(f"the server did not answer within {seconds:g} seconds") from None
                time.sleep(0.02)
                continue
            states = [version["state"] for version in answer.get("model_version_status", [])]
            if status != 200 or states != ["AVAILABLE"]:
                raise ServingError(f"the status call answered {status}: {answer}, expected one version, AVAILABLE")
            return

    def rest_predict(self, signature: str, name: str, items: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Ask over REST, with encoded inputs.

        Raises:
            ServingError: The answer is an error.
        """
        import base64

        instances = [{name: {"b64": base64.b64encode(item).decode()}} for item in items]
        body = json.dumps({"signature_name": signature, "instances": instances}).encode()
        status, answer = self._call(f"/v1/models/{_MODEL}:predict", body)
        if status != 200:
            raise ServingError(f"REST answered {status}: {answer.get('error', answer)}")
        rows = answer["predictions"]
        return {key: np.array([row[key] for row in rows]) for key in rows[0]}

    def grpc_predict(self, signature: str, name: str, items: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Ask over gRPC.

        Raises:
            ServingError: The answer is an error.
        """
        from tensorflow.python.framework import tensor_util
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = _MODEL, signature
        request.inputs[name].CopyFrom(tensor_util.make_tensor_proto(list(items)))
        outputs = self._ask("Predict", request, predict_pb2.PredictResponse).outputs
        return {key: tensor_util.MakeNdarray(tensor) for key, tensor in outputs.items()}

    def grpc_classify(self, signature: str, examples: Sequence[bytes]) -> list[dict[str, float]]:
        """Classify serialized tf.Examples over gRPC: score by class, one mapping an example.

        Raises:
            ServingError: The answer is an error.
        """
        from tensorflow_serving.apis import classification_pb2

        request = classification_pb2.ClassificationRequest()
        request.model_spec.name, request.model_spec.signature_name = _MODEL, signature
        for example in examples:
            request.input.example_list.examples.add().ParseFromString(example)
        result = self._ask("Classify", request, classification_pb2.ClassificationResponse).result
        return [{item.label: item.score for item in answer.classes} for answer in result.classifications]

    def kill(self) -> None:
        """End the server at once."""
        if not self._alive():
            return
        os.kill(self._pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        else:
            os.waitpid(self._pid, 0)
        self._ended = True

    def _start(self) -> None:
        self._attempts += 1
        self._port = _free_port()
        flags = [
            f"--model_name={_MODEL}",
            f"--model_base_path={self._folder / 'base'}",
            "--port=0",
            f"--grpc_socket_path={self._folder / 'grpc'}",
            f"--rest_api_port={self._port}",
            "--file_system_poll_wait_seconds=0",
            "--max_num_load_retries=0",
        ]
        self._ended = False
        with (self._folder / "log").open("wb") as log:
            if self._fork:
                self._pid = _fork_server(flags, log.fileno())
            else:
                command = [sys.executable, "-W", "ignore", "-m", "serving.server", *flags]
                self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                self._pid = self._process.pid

    def _alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        if not self._ended:
            self._ended = os.waitpid(self._pid, os.WNOHANG)[0] != 0
        return not self._ended

    def _log(self) -> str:
        return (self._folder / "log").read_text("utf-8", "replace")

    def _call(self, path: str, body: bytes | None) -> tuple[int, Mapping[str, Any]]:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", body)
        # A proxy of the environment has no business between two processes of one machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def _ask(self, method: str, request: Any, response: Any) -> Any:
        import grpc

        options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"unix:{self._folder / 'grpc'}", options) as channel:
            call = channel.unary_unary(
                f"/tensorflow.serving.PredictionService/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
            try:
                return call(request, timeout=120)
            except grpc.RpcError as error:
                raise ServingError(f"gRPC answered {error.code().name}: {error.details()}") from error


@contextmanager
def serving_candidate(model_dir: str | os.PathLike[str], *, fork: bool) -> Iterator[CandidateServer]:
    """Serve a model until the block is left; returns before the model is loaded."""
    with tempfile.TemporaryDirectory(prefix="slipway-candidate-") as folder:
        (Path(folder) / "base").mkdir()
        (Path(folder) / "base" / "1").symlink_to(os.path.abspath(model_dir))
        server = CandidateServer(Path(folder), fork=fork)
        try:
            yield server
        finally:
            server.kill()


def _fork_server(flags: list[str], log: int) -> int:
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        _end_with(parent)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from serving.server.running import main

        code = main(flags)
    finally:
        os._exit(code)


def _end_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent ends, however it ends."""
    import ctypes

    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _reason(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if " E " in line or line.startswith("error:")]
    return (errors or lines or ["it wrote nothing"])[-1].rpartition(" E ")[2].strip()
