"""Model servers that are none: one in process for the API tests, one over REST for browsers and workers."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from serving.client import ClientError, InvalidRequest, NotFound

LABELS = ("cat", "dog", "owl", "T-shirt/top")


def probabilities_of(content: bytes) -> np.ndarray:
    """Red pictures are cats, green ones dogs, blue ones owls; the strongest channel decides, darkness makes unsure."""
    with Image.open(io.BytesIO(content)) as image:
        mean = np.asarray(image.convert("RGB"), np.float32).mean((0, 1)) / 255
    scores = np.exp(4 * np.append(mean, 0))
    return (scores / scores.sum()).astype(np.float32)


class FakeClient:
    """What the gateway uses of `AsyncClient`, with a small model behind it."""

    def __init__(self, versions: Sequence[int] = (3,), labels: dict[str, int] | None = None) -> None:
        self.versions = list(versions)
        self.version_labels = dict(labels or {})
        self.signatures = {"serving_default", "classify"}
        self.failure: ClientError | None = None
        self.unreadable: set[bytes] = set()
        self.asked: list[tuple[int, int, str]] = []
        self.resolve_calls = 0
        self.closed = False

    async def resolve(self, label: str | None = None) -> int:
        self.resolve_calls += 1
        if self.failure:
            raise self.failure
        if label is not None and label not in self.version_labels:
            raise InvalidRequest(f"Unrecognized servable version label: {label}")
        if not self.versions:
            raise NotFound("Servable not found for request: Latest(pets)")
        return max(self.versions) if label is None else self.version_labels[label]

    async def metadata(self, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        self._check(version)
        return dict.fromkeys(self.signatures)

    async def predict(self, inputs: Any, *, version: int, signature: str, outputs: Any = None) -> dict[str, np.ndarray]:
        self._check(version)
        if signature == "classify":
            return {"classes": np.array([[label.encode() for label in LABELS]], object)}
        assert signature == "explain"
        answers = await self.predict_images(inputs["image_bytes"], version=version, signature=signature)
        heat = np.zeros((len(answers), 4, 4), np.float32)
        heat[:, 1, 2] = 1
        heat[:, 1:3, 1:3] += 0.4
        return {
            "heatmap": np.clip(heat, 0, 1),
            "probabilities": np.stack([one["probabilities"] for one in answers]),
            "class_id": np.array([one["class_id"] for one in answers]),
            "label": np.array([one["label"].encode() for one in answers], object),
        }

    async def predict_images(
        self, images: Sequence[bytes], *, version: int, on_error: str = "raise", signature: str = "serving_default"
    ) -> list[Any]:
        try:
            self._check(version)
        except ClientError as error:
            if on_error == "raise":
                raise
            return [error] * len(images)
        self.asked.append((version, len(images), signature))
        return [self._one(image, version) for image in images]

    async def close(self) -> None:
        self.closed = True

    def _check(self, version: int | None) -> None:
        if self.failure:
            raise self.failure
        if version not in self.versions:
            raise NotFound(f"Servable not found for request: Specific(default, {version})")

    def _one(self, image: bytes, version: int) -> Any:
        if image in self.unreadable:
            return InvalidRequest("Unable to decode the image")
        found = probabilities_of(image)
        best = int(found.argmax())
        return {"label": LABELS[best], "class_id": best, "probabilities": found, "version": version}


async def rest_model(scope: Any, receive: Any, send: Any) -> None:
    """A model server as an ASGI application: the routes of TensorFlow Serving's REST API that the gateway uses."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    status, answer = _rest_answer(scope["path"], body)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def _rest_answer(path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    if path.endswith(":predict"):
        request = json.loads(body)
        return 200, _rest_predict(request)
    if path.endswith("/metadata"):
        spec = {"name": "pets", "signature_name": "", "version": "3"}
        return 200, {"model_spec": spec, "metadata": {"signature_def": {"signature_def": _signature_defs()}}}
    return 404, {"error": f"not expected: {path}"}


def _rest_predict(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("signature_name") == "classify":
        return (
            {"outputs": {"classes": [list(LABELS)], "scores": [[0.25] * 4]}}
            if "inputs" in request
            else {"predictions": [{"classes": list(LABELS), "scores": [0.25] * 4}]}
        )
    is_columnar = "inputs" in request
    given = request["inputs"] if is_columnar else request["instances"]
    given = given["image_bytes"] if isinstance(given, dict) and "image_bytes" in given else given
    rows = []
    for one in given:
        encoded = one["image_bytes"]["b64"] if "image_bytes" in one else one["b64"]
        found = probabilities_of(base64.b64decode(encoded))
        best = int(found.argmax())
        row: dict[str, Any] = {"probabilities": found.tolist(), "class_id": best, "label": LABELS[best]}
        if request.get("signature_name") == "explain":
            heat = np.exp(-((np.mgrid[0:7, 0:7] - 3) ** 2).sum(0) / 4)
            row["heatmap"] = heat.tolist()
        rows.append(row)
    return {"outputs": {key: [row[key] for row in rows] for key in rows[0]}} if is_columnar else {"predictions": rows}


def _signature_defs() -> dict[str, Any]:
    def info(name: str, dtype: str, *sizes: int) -> dict[str, Any]:
        dims = [{"size": str(size), "name": ""} for size in (-1, *sizes)]
        return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": f"{name}:0"}

    outputs = {
        "probabilities": info("p", "DT_FLOAT", 4),
        "class_id": info("c", "DT_INT64"),
        "label": info("l", "DT_STRING"),
    }
    picture = {"image_bytes": info("i", "DT_STRING")}
    method = "tensorflow/serving/predict"
    return {
        "serving_default": {"inputs": picture, "outputs": outputs, "method_name": method},
        "explain": {
            "inputs": picture,
            "outputs": {**outputs, "heatmap": info("h", "DT_FLOAT", 7, 7)},
            "method_name": method,
        },
        "classify": {
            "inputs": {"inputs": info("e", "DT_STRING")},
            "outputs": {"classes": info("k", "DT_STRING", 4), "scores": info("s", "DT_FLOAT", 4)},
            "method_name": "tensorflow/serving/classify",
        },
    }


@contextlib.contextmanager
def served(application: Any, seconds: float = 60.0) -> Iterator[str]:
    """Serve an ASGI application from a thread on a free port; gives its address."""
    import uvicorn

    config = uvicorn.Config(application, host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + seconds
    while not (server.started and server.servers):
        assert time.monotonic() < deadline and thread.is_alive(), "the server did not start"
        thread.join(0.02)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(seconds)
