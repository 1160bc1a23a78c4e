"""`make soak`: the model server under mixed load with faults, for minutes; every answer and every refusal is checked.

Users that behave ask for known pictures and compare the answers. Others send damaged pictures, oversized and broken
bodies, unknown models, half a request, a few bytes at a time, or hang up. Meanwhile new versions take over, and the
request log runs full. Writes one row to `benchmarks/results/serving_soak.csv`; ends with exit code 3 if an answer was
wrong, a refusal had another status than it should, or the memory grew by more than 5 percent after the warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import csv
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.serving import servers
from serving.client import AsyncClient, ClientError
from serving.measure.machine import describe

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "serving_soak.csv"
_LOG_BYTES = 1 << 20  # Size beyond which no file of the server can grow: the disk of the request log is full.
_GROWTH = 1.05
_TOLERANCE = 1e-4
_SWAP_SECONDS = 20.0


@dataclass
class Account:
    """What happened."""

    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)

    def note(self, kind: str, *, ok: bool, seen: object = "") -> None:
        """Count an event; one that should not be is shown at once."""
        if ok:
            self.right[kind] += 1
            return
        self.wrong[kind] += 1
        if self.wrong[kind] <= 3:
            print(f"WRONG {kind}: {seen}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Target:
    """The server and what it should answer."""

    rest: str
    grpc: str
    pictures: list[bytes]
    expected: np.ndarray

    def body(self, number: int) -> bytes:
        """A request for one picture."""
        return json.dumps({"instances": [{"b64": base64.b64encode(self.pictures[number]).decode()}]}).encode()


async def well_behaved(address: str, target: Target, account: Account) -> None:
    """Ask for one to four pictures, and compare."""
    async with AsyncClient(address, "cnn", timeout_seconds=30) as client:
        while True:
            numbers = random.sample(range(len(target.pictures)), random.randint(1, 4))
            try:
                answer = await client.predict({"image_bytes": [target.pictures[number] for number in numbers]})
                off = float(np.abs(answer["probabilities"] - target.expected[numbers]).max())
                account.note(f"answer {address.split(':')[0]}", ok=off <= _TOLERANCE, seen=f"off by {off}")
            except ClientError as error:
                account.note(f"answer {address.split(':')[0]}", ok=False, seen=repr(error))
            await asyncio.sleep(0.005)


async def _exchange(target: Target, data: bytes, *, reads: bool = True) -> bytes:
    parts = urlsplit(target.rest)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        return await asyncio.wait_for(reader.read(1 << 16), 60) if reads else b""
    finally:
        writer.close()


def _post(path: str, body: bytes, length: int | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


_PREDICT = "/v1/models/cnn:predict"


def _faults(target: Target) -> dict[str, tuple[bytes, int]]:
    """Request and status of each kind of mistake."""
    damaged = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
    return {
        "damaged picture": (_post(_PREDICT, json.dumps({"instances": [{"b64": damaged}]}).encode()), 400),
        "broken JSON": (_post(_PREDICT, b'{"instances": ['), 400),
        "unknown model": (_post("/v1/models/nobody:predict", target.body(0)), 404),
        "unknown signature": (_post(_PREDICT, b'{"signature_name": "no", "instances": [1]}'), 400),
        "oversized body": (_post(_PREDICT, b"", 1 << 31), 413),
        "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    }


async def mistaken(target: Target, account: Account) -> None:
    """Make mistakes, and check how they are refused."""
    faults = _faults(target)
    while True:
        kind = random.choice(list(faults))
        data, status = faults[kind]
        try:
            answer = await _exchange(target, data)
            account.note(kind, ok=answer.startswith(f"HTTP/1.1 {status} ".encode()), seen=answer[:80])
        except (OSError, asyncio.TimeoutError) as error:
            account.note(kind, ok=False, seen=repr(error))
        await asyncio.sleep(0.05)


async def vanishing(target: Target, account: Account) -> None:
    """Hang up in the middle of a request, or after it without reading the answer."""
    whole = _post(_PREDICT, target.body(1))
    while True:
        cut = random.choice([10, len(whole) // 2, len(whole)])
        with contextlib.suppress(OSError):
            await _exchange(target, whole[:cut], reads=False)
            account.note("hung up", ok=True)
        await asyncio.sleep(0.05)


async def slow(target: Target, account: Account) -> None:
    """Send a request in small pieces over some seconds; it is answered all the same."""
    parts = urlsplit(target.rest)
    data = _post(_PREDICT, target.body(2))
    size = -(-len(data) // 30)
    while True:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            for begin in range(0, len(data), size):
                writer.write(data[begin : begin + size])
                await writer.drain()
                await asyncio.sleep(0.2)
            seen = await asyncio.wait_for(reader.read(1 << 16), 60)
            account.note("slow client", ok=seen.startswith(b"HTTP/1.1 200 "), seen=seen[:80])
        except OSError as error:
            account.note("slow client", ok=False, seen=repr(error))
        finally:
            writer.close()


async def half_open(target: Target, account: Account) -> None:
    """Keep connections on which nothing ever comes."""
    parts = urlsplit(target.rest)
    kept: list[asyncio.StreamWriter] = []
    while True:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"POST /v1/models/cnn:pre")
        kept.append(writer)
        account.note("half open", ok=True)
        if len(kept) > 100:
            kept.pop(0).close()
        await asyncio.sleep(0.5)


async def swapping(base: Path, target: Target, account: Account) -> None:
    """Publish the next version again and again, and remove the one before it once the next one answers."""
    async with AsyncClient(target.rest, "cnn", timeout_seconds=30) as client:
        number = 1
        while True:
            await asyncio.sleep(_SWAP_SECONDS)
            await asyncio.to_thread(shutil.copytree, base / str(number), base / ".next")
            number += 1
            (base / ".next").rename(base / str(number))
            while await client.resolve() != number:
                await asyncio.sleep(0.2)
            await asyncio.to_thread(shutil.rmtree, base / str(number - 1))
            account.note("swap", ok=True)


async def watch_memory(pid: int, account: Account) -> None:
    """Note the resident memory of the server in MB, every two seconds."""
    while True:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        account.memory.append((time.monotonic(), pages * resource.getpagesize() / 1e6))
        await asyncio.sleep(2)


async def soak(target: Target, base: Path, pid: int, seconds: float) -> Account:
    """Let all users loose for a time, on the versions below `base`."""
    account = Account()
    users: list[Callable[[], Awaitable[None]]] = [
        *[lambda: well_behaved(target.rest, target, account)] * 8,
        *[lambda: well_behaved(target.grpc, target, account)] * 4,
        *[lambda: mistaken(target, account)] * 3,
        lambda: vanishing(target, account),
        *[lambda: slow(target, account)] * 4,
        lambda: half_open(target, account),
        lambda: swapping(base, target, account),
        lambda: watch_memory(pid, account),
    ]
    tasks = [asyncio.ensure_future(user()) for user in users]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, _ = await asyncio.wait(tasks, timeout=min(30, seconds), return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        memory = account.memory[-1][1] if account.memory else 0
        left = max(end - time.monotonic(), 0)
        print(f"{left:5.0f} s left, {account.right.total():,} right, {account.wrong.total()} wrong, {memory:.0f} MB")
    left_over = set(tasks)
    while left_over:
        # Again and again: in Python 3.10 `wait_for` may swallow a cancellation that comes with its result.
        for task in left_over:
            task.cancel()
        _, left_over = await asyncio.wait(left_over, timeout=1)
    return account


def growth(memory: list[tuple[float, float]], warmup_seconds: float) -> tuple[float, float]:
    """Median memory in the minute after the warm-up and in the last minute, MB."""
    begin, end = memory[0][0] + warmup_seconds, memory[-1][0]
    window = min(60.0, max((end - begin) / 3, 1))
    first = [value for when, value in memory if begin <= when <= begin + window]
    last = [value for when, value in memory if when >= end - window]
    return statistics.median(first), statistics.median(last)


def start(scratch: Path) -> tuple[servers.Server, Target]:
    """Start the server with a request log whose disk is full soon, and learn the right answers from the model."""
    directory = scratch / "cnn" / "1"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.serving.model", str(directory)], cwd=ROOT, check=True
    )
    pictures = [path.read_bytes() for path in sorted((directory / "assets.extra" / "pictures").glob("*.png"))]
    from serving.saved_model import SessionModel

    with SessionModel.load(directory) as model:
        expected = model.run("serving_default", {"image_bytes": np.array(pictures, object)})["probabilities"]
    log = ["--request_log_dir", str(scratch / "log"), "--request_log_sampling_rate", "1"]
    flags = [f"{name}={value}" for name, value in zip(log[::2], log[1::2], strict=True)]
    # The parent's limits are inherited; its own small files stay below.
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LOG_BYTES, resource.RLIM_INFINITY))
    server = servers.start_slipway(directory.parent, scratch / "server.log", flags)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    server.wait_until_ready()
    rest, grpc = (f"{urlsplit(server.urls[name]).netloc}" for name in ("REST image", "gRPC image"))
    return server, Target(f"http://{rest}", f"grpc://{grpc}", pictures, expected)


def main() -> int:
    """Run the soak; returns the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(prog="make soak", description="The model server under load with faults.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--warmup", type=float, default=240.0, help="seconds before memory counts (default 240)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slipway-soak-") as folder:
        server, target = start(Path(folder))
        try:
            account = asyncio.run(soak(target, Path(folder) / "cnn", server.process.pid, options.minutes * 60))
            alive = server.process.poll() is None
        finally:
            server.stop()
        logged = sum(path.stat().st_size for path in (Path(folder) / "log").rglob("*") if path.is_file())
    first, last = growth(account.memory, options.warmup)
    row = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **{key: value for key, value in describe(1).items() if key in ("cpu", "cores", "load_average")},
        "minutes": options.minutes, "right": account.right.total(), "wrong": account.wrong.total(),
        "kinds": "; ".join(f"{kind} {count}" for kind, count in sorted(account.right.items())),
        "memory_mb_first": round(first, 1), "memory_mb_last": round(last, 1), "growth": round(last / first, 4),
        "memory_mb": " ".join(f"{value:.0f}" for _, value in account.memory[::15]),
        "log_bytes": logged, "exit_code": server.process.returncode,
    }  # fmt: skip
    with RESULTS.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)
    print(json.dumps(row, indent=1))
    return 0 if alive and not account.wrong and last <= first * _GROWTH else 3


if __name__ == "__main__":
    sys.exit(main())
