"""A real Redis on a Unix socket, and stores of both kinds."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.jobs.records import NewJob, Rules
from serving.jobs.store import JobStore

REDIS = shutil.which("redis-server")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    """Ask until the answer is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)
    return found


class RedisServer:
    """A redis-server with an append-only file that is flushed at once."""

    def __init__(self, folder: Path) -> None:
        # The path of a Unix socket may have 107 bytes; folders of tests are longer.
        self._short = tempfile.mkdtemp(prefix="redis")
        self.url = f"unix://{self._short}/s"
        self._folder = folder
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        import redis

        assert REDIS is not None
        options = {
            "port": "0",
            "unixsocket": f"{self._short}/s",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        flat = [part for key, value in options.items() for part in (f"--{key}", value)]
        process = subprocess.Popen([REDIS, *flat], stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)

        def answers() -> bool:
            assert process.poll() is None, "redis-server ended"
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        wait_for(answers, "Redis answers")
        client.close()
        self.process = process
        return process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._short)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if REDIS is None:
        pytest.skip("there is no redis-server; on Debian `apt-get install redis-server`")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


class Blocking:
    """A store whose calls wait for their result."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **options: self.loop.run_until_complete(getattr(self.store, name)(*args, **options))


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Blocking]]:
    """A function that opens one store again and again, each time with other rules."""
    from serving.jobs.redis_store import RedisStore
    from serving.jobs.sqlite_store import SqliteStore

    made: list[Blocking] = []
    prefix = f"test:{{{secrets.token_hex(4)}}}:"
    url = request.getfixturevalue("redis_server").url if request.param == "redis" else ""

    def build(**rules: Any) -> Blocking:
        if url:
            store: JobStore = RedisStore(url, Rules(**rules), prefix)
        else:
            store = SqliteStore(tmp_path / "deep" / "jobs.sqlite", Rules(**rules))
        made.append(Blocking(store))
        return made[-1]

    yield build
    for one in made:
        one.close()
        one.loop.close()


def new_job(content: bytes = b"picture", **changes: Any) -> NewJob:
    values = {"id": secrets.token_hex(16), "owner": "ann", "fingerprint": "f", "request": {"sizes": [len(content)]}}
    return NewJob(**{**values, "content": content, **changes})
