"""A REST server in this process: a small model, or whatever a test wants to see on the wire."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

Answer = tuple[int, Any, dict[str, str]]
Behavior = Callable[["Request"], Answer]


class Request:
    def __init__(self, method: str, path: str, headers: Any, body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def content(self) -> Any:
        return json.loads(self.body)


def info(dtype: str, *sizes: int) -> dict[str, Any]:
    shape = {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False}
    return {"dtype": dtype, "tensor_shape": shape, "name": "x:0"}


SIGNATURES = {
    "serving_default": {
        "inputs": {"image_bytes": info("DT_STRING", -1)},
        "outputs": {
            "label": info("DT_STRING", -1),
            "class_id": info("DT_INT64", -1),
            "probabilities": info("DT_FLOAT", -1, 2),
        },
        "method_name": "tensorflow/serving/predict",
    },
    "echo": {
        "inputs": {"x": info("DT_DOUBLE")},
        "outputs": {"y": info("DT_DOUBLE")},
        "method_name": "tensorflow/serving/predict",
    },
    "sparse": {"inputs": {"x": info("DT_VARIANT")}, "outputs": {}, "method_name": ""},
    "__saved_model_init_op": {"inputs": {}, "outputs": {}, "method_name": ""},
}


def metadata(signatures: Any = None) -> Answer:
    shown = {"signature_def": {"signature_def": SIGNATURES if signatures is None else signatures}}
    return 200, {"model_spec": {"name": "pets", "version": "3"}, "metadata": shown}, {}


def model(request: Request) -> Answer:
    """`label` by the first letter of an image; an image that is `bad` is refused."""
    if request.path.endswith("/metadata"):
        return metadata()
    if request.method == "GET":
        status = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return 200, {"model_version_status": [status]}, {}
    content = request.content
    if content.get("signature_name") == "echo":
        return 200, {"outputs": content["inputs"]["x"]}, {}
    images = [base64.b64decode(item["b64"]) for item in content["inputs"]["image_bytes"]]
    if any(image == b"bad" for image in images):
        return 400, {"error": "Unknown image file format"}, {}
    cats = [image.startswith(b"c") for image in images]
    outputs = {
        "label": ["cat" if cat else "dog" for cat in cats],
        "class_id": [0 if cat else 1 for cat in cats],
        "probabilities": [[0.75, 0.25] if cat else [0.25, 0.75] for cat in cats],
    }
    return 200, {"outputs": outputs}, {}


class RestServer:
    """Remembers the requests; answers as `behavior` says, which a test may change."""

    def __init__(self, behavior: Behavior = model) -> None:
        self.behavior = behavior
        self.requests: list[Request] = []
        self.connections = 0
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                owner.connections += 1
                super().setup()

            def do_GET(self) -> None:
                request = Request(
                    self.command, self.path, self.headers, self.rfile.read(int(self.headers.get("content-length", 0)))
                )
                owner.requests.append(request)
                status, content, headers = owner.behavior(request)
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def paths(self, method: str = "POST") -> list[str]:
        return [request.path for request in self.requests if request.method == method]

    def __enter__(self) -> RestServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class RudeServer:
    """Takes connections and does to each what a function says."""

    def __init__(self, treat: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._treat = treat
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._treat(connection)

    def __enter__(self) -> RudeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()
