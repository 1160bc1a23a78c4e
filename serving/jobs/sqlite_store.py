"""Jobs in a SQLite file: the embedded queue, shared by the processes of one machine.

The write-ahead log is flushed with each commit, so that what was accepted survives `kill -9` and power cuts. All
statements of one store run on one thread. Called by `service`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from serving.jobs.records import Delivery, JobView, Leased, Load, NewJob, Rules, lost_worker
from serving.jobs.store import KeyReusedError, QueueFullError, StoreError

T = TypeVar("T")

_BUSY_SECONDS = 15.0
# `due` is set while a job waits (when it may start) or runs (when its lease ends); `delivery_due` likewise.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    idempotency TEXT UNIQUE,
    fingerprint TEXT NOT NULL,
    request TEXT NOT NULL,
    content BLOB,
    size INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL,
    token TEXT,
    created REAL NOT NULL,
    finished REAL,
    expires REAL,
    result TEXT,
    error TEXT,
    webhook TEXT,
    delivery TEXT NOT NULL DEFAULT 'none',
    delivery_attempts INTEGER NOT NULL DEFAULT 0,
    delivery_due REAL,
    delivery_token TEXT,
    delivery_error TEXT
);
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_delivery_due ON jobs (delivery_due) WHERE delivery_due IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_expires ON jobs (expires) WHERE expires IS NOT NULL;
"""
_VIEWED = (
    "id, owner, state, attempts, created, finished, expires, result, error, delivery, delivery_attempts, delivery_error"
)


class SqliteStore:
    """A `store.JobStore` in a file.

    Args:
        path: the file; made with its folder if missing.
        rules: limits and times.
    """

    def __init__(self, path: Path, rules: Rules) -> None:
        """Open nothing yet."""
        self._path = path
        self._rules = rules
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._opened: sqlite3.Connection | None = None

    async def submit(self, job: NewJob) -> tuple[str, bool]:
        """See `JobStore`."""
        return await self._run(self._submit, job)

    async def get(self, job_id: str) -> JobView | None:
        """See `JobStore`."""
        return await self._run(self._get, job_id)

    async def lease(self, job_id: str | None = None) -> Leased | None:
        """See `JobStore`."""
        return await self._run(self._lease, job_id)

    async def extend(self, leased: Leased) -> bool:
        """See `JobStore`."""
        until = time.time() + self._rules.lease_seconds
        return await self._run(self._change, "due = ? WHERE id = ? AND token = ?", until, leased.id, leased.token)

    async def finish(self, leased: Leased, result: dict[str, Any] | None, error: dict[str, Any] | None) -> bool:
        """See `JobStore`."""
        return await self._run(self._finish, leased.id, leased.token, result, error)

    async def retry(self, leased: Leased, delay_seconds: float, error: dict[str, Any]) -> bool:
        """See `JobStore`."""
        if leased.attempts >= self._rules.max_attempts:
            return await self.finish(leased, None, error)
        change = "state = 'waiting', token = NULL, due = ?, error = ? WHERE id = ? AND token = ?"
        due = time.time() + delay_seconds
        return await self._run(self._change, change, due, json.dumps(error), leased.id, leased.token)

    async def lease_delivery(self) -> Delivery | None:
        """See `JobStore`."""
        return await self._run(self._lease_delivery)

    async def settle_delivery(self, delivery: Delivery, error: str | None, retry_seconds: float | None) -> bool:
        """See `JobStore`."""
        state = "delivered" if error is None else "failed" if retry_seconds is None else "pending"
        due = None if retry_seconds is None else time.time() + retry_seconds
        change = "delivery = ?, delivery_due = ?, delivery_error = ?, delivery_token = NULL"
        change += " WHERE id = ? AND delivery_token = ?"
        return await self._run(self._change, change, state, due, error, delivery.view.id, delivery.token)

    async def load(self) -> Load:
        """See `JobStore`."""
        return await self._run(self._load)

    async def sweep(self) -> int:
        """See `JobStore`."""
        return await self._run(self._sweep)

    async def close(self) -> None:
        """See `JobStore`."""
        if self._opened is not None:
            await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, functools.partial(work, *arguments))
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"jobs cannot be kept in {self._path}: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            made = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            made.row_factory = sqlite3.Row
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = FULL")
            made.executescript(_SCHEMA)
            self._path.chmod(0o600)
            self._opened = made
        return self._opened

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # A full disk has rolled back by itself already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _submit(self, job: NewJob) -> tuple[str, bool]:
        with self._transaction() as connection:
            self._sweep()  # an expired job must not answer for its key
            if job.idempotency is not None:
                query = "SELECT id, fingerprint FROM jobs WHERE idempotency = ?"
                earlier = connection.execute(query, (job.idempotency,)).fetchone()
                if earlier is not None:
                    if earlier["fingerprint"] != job.fingerprint:
                        raise KeyReusedError("the idempotency key belongs to another request")
                    return earlier["id"], False
            load = self._load()
            if load.jobs >= self._rules.max_pending:
                raise QueueFullError(f"{load.jobs} jobs wait already")
            if load.jobs and load.content_bytes + len(job.content) > self._rules.max_pending_bytes:
                raise QueueFullError(f"{load.content_bytes:,} bytes of pictures wait already")
            now = time.time()
            connection.execute(
                "INSERT INTO jobs (id, owner, idempotency, fingerprint, request, content, size, state, due, created, "
                "webhook, delivery) VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?, ?, ?)",
                (
                    *(job.id, job.owner, job.idempotency, job.fingerprint, json.dumps(job.request), job.content),
                    *(len(job.content), now, now, job.webhook, "pending" if job.webhook else "none"),
                ),
            )
        return job.id, True

    def _get(self, job_id: str) -> JobView | None:
        query = f"SELECT {_VIEWED} FROM jobs WHERE id = ? AND (expires IS NULL OR expires > ?)"
        row = self._connection().execute(query, (job_id, time.time())).fetchone()
        return None if row is None else _view(row)

    def _lease(self, job_id: str | None) -> Leased | None:
        while True:
            with self._transaction() as connection:
                now = time.time()
                query = "SELECT id, attempts, request, content FROM jobs WHERE due <= ? AND id = coalesce(?, id)"
                row = connection.execute(f"{query} ORDER BY due LIMIT 1", (now, job_id)).fetchone()
                if row is None:
                    return None
                if row["attempts"] < self._rules.max_attempts:
                    token = secrets.token_hex(8)
                    connection.execute(
                        "UPDATE jobs SET state = 'running', attempts = attempts + 1, token = ?, due = ? WHERE id = ?",
                        (token, now + self._rules.lease_seconds, row["id"]),
                    )
                    return Leased(
                        row["id"], token, row["attempts"] + 1, json.loads(row["request"]), row["content"] or b""
                    )
                self._settle(connection, row["id"], None, lost_worker(row["attempts"]))

    def _finish(self, job_id: str, token: str, result: dict[str, Any] | None, error: dict[str, Any] | None) -> bool:
        with self._transaction() as connection:
            held = connection.execute("SELECT 1 FROM jobs WHERE id = ? AND token = ?", (job_id, token)).fetchone()
            if held is not None:
                self._settle(connection, job_id, result, error)
            return held is not None

    def _settle(
        self,
        connection: sqlite3.Connection,
        job_id: str,
        result: dict[str, Any] | None,
        error: dict[str, Any] | None,
    ) -> None:
        now = time.time()
        connection.execute(
            "UPDATE jobs SET state = ?, result = ?, error = ?, content = NULL, due = NULL, token = NULL, finished = ?, "
            "expires = ?, delivery_due = CASE WHEN webhook IS NULL THEN NULL ELSE ? END WHERE id = ?",
            (
                "done" if error is None else "dead",
                None if result is None else json.dumps(result),
                None if error is None else json.dumps(error),
                now,
                now + self._rules.result_seconds,
                now,
                job_id,
            ),
        )

    def _change(self, change: str, *values: Any) -> bool:
        with self._transaction() as connection:
            return connection.execute(f"UPDATE jobs SET {change}", values).rowcount > 0

    def _lease_delivery(self) -> Delivery | None:
        with self._transaction() as connection:
            now = time.time()
            query = f"SELECT {_VIEWED}, webhook FROM jobs WHERE delivery_due <= ? ORDER BY delivery_due LIMIT 1"
            row = connection.execute(query, (now,)).fetchone()
            if row is None:
                return None
            token = secrets.token_hex(8)
            connection.execute(
                "UPDATE jobs SET delivery_attempts = delivery_attempts + 1, delivery_token = ?, delivery_due = ? "
                "WHERE id = ?",
                (token, now + self._rules.lease_seconds, row["id"]),
            )
            return Delivery(token, row["webhook"], row["delivery_attempts"] + 1, _view(row))

    def _load(self) -> Load:
        row = self._connection().execute("SELECT count(*), coalesce(sum(size), 0) FROM jobs WHERE due IS NOT NULL")
        return Load(*row.fetchone())

    def _sweep(self) -> int:
        return self._connection().execute("DELETE FROM jobs WHERE expires <= ?", (time.time(),)).rowcount

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _view(row: sqlite3.Row) -> JobView:
    values = {key: row[key] for key in _VIEWED.split(", ")}
    for key in ("result", "error"):
        values[key] = None if values[key] is None else json.loads(values[key])
    return JobView(**values)
