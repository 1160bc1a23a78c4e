"""Load on a server: wrk for REST, h2load for gRPC, so that the client costs little and never limits.

Comes in: an address, bodies, a number of clients and a time. Goes out: requests, errors and latencies. Called by
`scripts/bench_serving.py`. Both are programs of Debian: packages `wrk` and `nghttp2-client`.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

_SCRIPT = """
local requests, next = {}, 0
function init(arguments)
  for number, file in ipairs(arguments) do
    local stream = io.open(file, "rb")
    requests[number] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, stream:read("*a"))
    stream:close()
  end
end
function request()
  next = next % #requests + 1
  return requests[next]
end
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format('RESULT {"requests": %d, "micros": %d, "errors": %d, "p50": %f, "p95": %f, "p99": %f}',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Outcome:
    """What a load gave.

    Attributes:
        requests: Requests that were answered.
        errors: Requests that failed.
        seconds: Wall time.
        p50, p95, p99: Latencies in milliseconds.
    """

    requests: int
    errors: int
    seconds: float
    p50: float
    p95: float
    p99: float


def require_programs() -> None:
    """Say what is missing.

    Raises:
        SystemExit: wrk or h2load is not installed.
    """
    packages = {"wrk": "wrk", "h2load": "nghttp2-client"}
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    if missing:
        raise SystemExit(
            f"the serving benchmark needs {' and '.join(missing)}: apt-get install {' '.join(missing)}. "
            "A client written in Python would cost more than the server."
        )


def write_bodies(directory: Path, pictures: Sequence[bytes], pixels: np.ndarray) -> dict[str, list[Path]]:
    """Write the bodies of the requests.

    Args:
        directory: Where they go.
        pictures: Encoded pictures.
        pixels: The same number of pictures as float32 [N, H, W, C].

    Returns:
        Files by name of the payload.
    """
    files: dict[str, list[Path]] = {}
    for number, (picture, image) in enumerate(zip(pictures, pixels, strict=True)):
        floats = image[None]
        bodies = {
            "REST image": json.dumps({"instances": [{"b64": base64.b64encode(picture).decode()}]}).encode(),
            "REST float": _json({"signature_name": "predict_floats", "instances": floats}),
            "V2 float": _json({"inputs": [_v2(floats)]}),
            "gRPC image": _grpc("serving_default", "image_bytes", np.array([picture], dtype=object)),
            "gRPC float": _grpc("predict_floats", "image", floats),
        }
        for payload, body in bodies.items():
            file = directory / f"{payload.replace(' ', '-')}-{number:02}"
            file.write_bytes(body)
            files.setdefault(payload, []).append(file)
    return files


def _json(body: dict[str, object]) -> bytes:
    """JSON with as many digits as a float32 has, as Slipway's client writes it."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _v2(floats: np.ndarray) -> dict[str, object]:
    return {"name": "image", "shape": list(floats.shape), "datatype": "FP32", "data": floats.ravel()}


def _grpc(signature: str, name: str, array: np.ndarray) -> bytes:
    """A PredictRequest with the frame header of gRPC."""
    from tensorflow.python.framework import tensor_util
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "cnn"
    request.model_spec.signature_name = signature
    request.inputs[name].CopyFrom(tensor_util.make_tensor_proto(array))
    message = request.SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message


def run(payload: str, url: str, bodies: Sequence[Path], clients: int, seconds: float, scratch: Path) -> Outcome:
    """Load a server.

    Args:
        payload: Name of the payload; those that begin with gRPC go over HTTP/2.
        url: Address of the call.
        bodies: Files of bodies, sent in turn (gRPC: the first only).
        clients: Requests under way at a time, each on its own connection.
        seconds: How long.
        scratch: Directory for files of the clients.

    Raises:
        SystemExit: The client failed.
    """
    return (_h2load if payload.startswith("gRPC") else _wrk)(url, bodies, clients, seconds, scratch)


def _wrk(url: str, bodies: Sequence[Path], clients: int, seconds: float, scratch: Path) -> Outcome:
    script = scratch / "post.lua"
    script.write_text(_SCRIPT, "utf-8")
    command = ["wrk", "-t1", f"-c{clients}", f"-d{round(seconds)}s", "--timeout", "60s", "-s", str(script), url, "--"]
    output = _output([*command, *map(str, bodies)])
    match = re.search(r"RESULT (\{.*\})", output)
    if match is None:
        raise SystemExit(f"wrk gave no result:\n{output}")
    found = json.loads(match[1])
    p50, p95, p99 = (found[key] / 1000 for key in ("p50", "p95", "p99"))
    return Outcome(found["requests"] - found["errors"], found["errors"], found["micros"] / 1e6, p50, p95, p99)


def _h2load(url: str, bodies: Sequence[Path], clients: int, seconds: float, scratch: Path) -> Outcome:
    log = scratch / "h2load.log"
    log.unlink(missing_ok=True)
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command = ["h2load", "-t1", f"-c{clients}", "-m1", f"-D{round(seconds)}", "-d", str(bodies[0]), f"--log-file={log}"]
    output = _output([*command, *headers, url])
    rows = [line.split("\t") for line in log.read_text("utf-8").splitlines()]
    good = [int(row[2]) / 1000 for row in rows if row[1] == "200"]
    match = re.search(r"requests: (\d+) total.*?(\d+) failed", output)
    if match is None or not good:
        raise SystemExit(f"h2load gave no result:\n{output}")
    p50, p95, p99 = (float(value) for value in np.percentile(good, [50, 95, 99]))
    return Outcome(len(good), len(rows) - len(good), float(round(seconds)), p50, p95, p99)


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
