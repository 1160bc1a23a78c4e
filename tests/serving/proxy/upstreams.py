"""Small servers behind the proxy, and Envoy itself, for the tests."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx

from serving.proxy import envoy
from serving.proxy.settings import ProxySettings

PATIENCE_SECONDS = 120.0


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until something holds; the limit is for machines that are busy with other things."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_SECONDS:.0f} s: {what}")


class HttpUpstream:
    """Answers every request with its name; status and pauses can be set while it runs."""

    def __init__(self, name: str) -> None:
        self.name, self.status, self.requests = name, 200, 0
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # Head and body in one packet; two would wait for each other's acknowledgement.

            def do_GET(self) -> None:
                self.answer(200, {"healthy": True}) if self.path == "/healthz" else self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                upstream.requests += 1
                seen = {key.lower(): value for key, value in self.headers.items()}
                content = {"name": upstream.name, "headers": seen, "bytes": len(body)}
                self.answer(upstream.status, content)

            def answer(self, status: int, content: dict[str, Any]) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class GrpcUpstream:
    """Answers every unary call with its name."""

    def __init__(self, name: str) -> None:
        class Everything(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                return grpc.unary_unary_rpc_method_handler(lambda request, context: name.encode())

        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[Everything()])
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None)


class RunningEnvoy:
    """A real Envoy on ports that the kernel chose."""

    def __init__(self, settings: ProxySettings, directory: Path, *, weight: float = 0.0) -> None:
        self.settings = settings
        self.log = directory / "envoy.log"
        self._client = httpx.Client(timeout=60, trust_env=False, verify=False)  # Certificates take 50 ms to read.
        path = envoy.write(settings, directory, weight=weight)
        envoy.validate(path)
        address = directory / "admin.txt"
        command = [envoy.executable(), "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        self._process = subprocess.Popen(
            [*map(str, command), "--admin-address-path", str(address)],
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        try:
            self.admin = (
                f"http://{wait_until(lambda: self._alive() and address.is_file() and address.read_text(), 'Envoy')}"
            )
            wait_until(lambda: self._get("/ready") == "LIVE\n", "Envoy is ready")
            self.ports = wait_until(self._listening, "listeners")
        except BaseException:
            self.stop()
            raise

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.ports['http']}"

    def clusters(self) -> dict[str, Any]:
        """Hosts of each cluster, as the administration shows them."""
        found = json.loads(self._get("/clusters?format=json"))["cluster_statuses"]
        return {cluster["name"]: cluster.get("host_statuses", []) for cluster in found}

    def counter(self, name: str) -> int:
        stats = json.loads(self._get(f"/stats?format=json&filter=^{name}$"))["stats"]
        return next((stat["value"] for stat in stats if stat.get("name") == name), 0)

    def wait_healthy(self) -> None:
        """Wait until health checks let every server in."""

        def all_in() -> bool:
            hosts = [host for hosts in self.clusters().values() for host in hosts]
            return bool(hosts) and not any(host["health_status"].get("failed_active_health_check") for host in hosts)

        wait_until(all_in, "all servers healthy")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _alive(self) -> bool:
        assert self._process.poll() is None, f"Envoy ended: {self.log.read_text()[-3000:]}"
        return True

    def _get(self, path: str) -> str:
        self._alive()
        with contextlib.suppress(httpx.TransportError):
            return self._client.get(f"{self.admin}{path}").text
        return ""

    def _listening(self) -> dict[str, int]:
        found = json.loads(self._get("/listeners?format=json") or "{}").get("listener_statuses", [])
        ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in found}
        return ports if len(ports) == 1 + (self.settings.grpc_stable is not None) else {}


@contextlib.contextmanager
def running(settings: ProxySettings, directory: Path, *, weight: float = 0.0) -> Iterator[RunningEnvoy]:
    """Envoy for the time of a block."""
    proxy = RunningEnvoy(settings, directory, weight=weight)
    try:
        yield proxy
    finally:
        proxy.stop()
