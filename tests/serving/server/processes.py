"""Model servers as processes of their own, for tests."""

from __future__ import annotations

import array
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.serving.server.waiting import eventually

ENGINE = os.environ.get("SLIPWAY_TEST_ENGINE", "embedded")
EMBEDDED = ENGINE == "embedded"
_READY_SECONDS = 150.0
_ROOT = Path(__file__).resolve().parents[3]


class Process:
    """One server process, started directly or by the fork server."""

    def __init__(self, process: subprocess.Popen[bytes] | None, control: socket.socket | None) -> None:
        self._process, self._control = process, control
        self._code: int | None = None
        self._text = b""
        if control is None:
            assert process is not None
            self.pid = process.pid
        else:
            self.pid = self._next_number(60)

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def exit_code(self, seconds: float = 60) -> int:
        """Wait until the process has ended; negative if a signal ended it."""
        if self._process is not None:
            return self._process.wait(seconds)
        if self._code is None:
            self._code = self._next_number(seconds)
        return self._code

    def alive(self) -> bool:
        """Whether it runs."""
        if self._process is not None:
            return self._process.poll() is None
        if self._code is None:
            with contextlib.suppress(TimeoutError, socket.timeout, BlockingIOError):
                self._code = self._next_number(0.001)
        return self._code is None

    def kill(self) -> None:
        """End it at once."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.exit_code()
        if self._control is not None:
            self._control.close()

    def _next_number(self, seconds: float) -> int:
        assert self._control is not None
        self._control.settimeout(seconds)
        while b"\n" not in self._text:
            received = self._control.recv(64)
            assert received, "the fork server has died"
            self._text += received
        line, _, self._text = self._text.partition(b"\n")
        return int(line)


class ServerProcesses:
    """Starts processes; keeps one fork server for the embedded engine."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "fork.sock"
        self._log = folder / "fork.log"
        self._fork_server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fork_server is not None:
            self._fork_server.kill()
            self._fork_server.wait()

    def start(self, arguments: Sequence[str], log: Path) -> Process:
        """Start a server whose output goes to a file."""
        with log.open("ab") as stream:
            if not EMBEDDED:
                return Process(subprocess.Popen([ENGINE, *arguments], stdout=stream, stderr=stream), None)
            control = self._connect()
            descriptors = array.array("i", [stream.fileno(), stream.fileno()])
            message = json.dumps(list(arguments)).encode()
            control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            return Process(None, control)

    def _connect(self) -> socket.socket:
        if self._fork_server is None:
            command = [sys.executable, "-W", "ignore", "-m", "tests.serving.server.fork_server", str(self._socket)]
            with self._log.open("wb") as stream:
                self._fork_server = subprocess.Popen(command, cwd=_ROOT, stdout=stream, stderr=stream)

        def connected() -> socket.socket | None:
            assert self._fork_server is not None
            assert self._fork_server.poll() is None, self._log.read_text()
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(str(self._socket))
            except OSError:
                control.close()
                return None
            return control

        return eventually(connected, _READY_SECONDS)


class RunningServer:
    """A server that listens.

    Attributes:
        process: Its process.
        log: File with its output.
        rest_url: `http://127.0.0.1:PORT`.
        grpc_target: `127.0.0.1:PORT`.
    """

    def __init__(self, process: Process, log: Path, rest_port: int, grpc_port: int) -> None:
        self.process, self.log = process, log
        self.rest_url = f"http://127.0.0.1:{rest_port}"
        self.grpc_target = f"127.0.0.1:{grpc_port}"

    def call(self, path: str, body: Any = None, *, method: str | None = None, timeout: float = 60) -> tuple[int, Any]:
        """Send a REST request: HTTP status and decoded answer.

        Args:
            path: Path below the server.
            body: Bytes, or anything that becomes JSON; None for a GET.
            method: HTTP method, if another.
            timeout: Seconds.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.rest_url + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, _decoded(response.read())
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read())

    def states(self, model: str) -> dict[int, str]:
        """State of each version, by number."""
        status, answer = self.call(f"/v1/models/{model}")
        if status != 200:
            return {}
        return {int(version["version"]): version["state"] for version in answer["model_version_status"]}

    def reaches(self, model: str, expected: dict[int, str]) -> None:
        """Wait until the versions that did not end have these states."""

        def alive() -> dict[int, str]:
            return {version: state for version, state in self.states(model).items() if state != "END"}

        eventually(lambda: alive() == expected, _READY_SECONDS, f"{expected}; log:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.signal(signal.SIGTERM)
        return self.process.exit_code()


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


class Launch:
    """Starts servers for one test."""

    def __init__(self, processes: ServerProcesses, folder: Path) -> None:
        self._processes, self._folder = processes, folder
        self._started: list[Process] = []

    def __call__(self, arguments: Sequence[str]) -> RunningServer:
        """Start a server and wait until its REST API answers."""
        for _ in range(3):
            server = self.begin(arguments)
            if self._wait(server):
                return server
        raise AssertionError(f"the server found no free port:\n{server.log.read_text()[-3000:]}")

    def begin(self, arguments: Sequence[str]) -> RunningServer:
        """Start a server without waiting for it."""
        given = [argument for argument in arguments if argument.startswith(("--port=", "--rest_api_port="))]
        ports = dict(argument[2:].split("=") for argument in given)
        grpc_port = int(ports.get("port") or _free_port())
        rest_port = int(ports.get("rest_api_port") or _free_port())
        log = self._folder / f"server-{len(self._started)}.log"
        complete = [f"--port={grpc_port}", f"--rest_api_port={rest_port}", *(a for a in arguments if a not in given)]
        process = self._processes.start(complete, log)
        self._started.append(process)
        return RunningServer(process, log, rest_port, grpc_port)

    def kill_all(self) -> None:
        """End every server that still runs."""
        for process in self._started:
            process.kill()

    @staticmethod
    def _wait(server: RunningServer) -> bool:
        """Whether it came up; False if a port was taken meanwhile."""

        def ready() -> str:
            if not server.process.alive():
                return "ended"
            try:
                server.call("/v1/models/none", timeout=5)
            except (OSError, http.client.HTTPException):
                # Somebody else may have the port by now, and speak another language.
                return ""
            return "listens"

        outcome = eventually(ready, _READY_SECONDS, f"listening; log:\n{server.log.read_text()[-3000:]}")
        text = server.log.read_text()
        assert outcome == "listens" or "cannot listen" in text, text[-3000:]
        return outcome == "listens"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
