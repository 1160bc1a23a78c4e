"""The contract of a job store, held by both: nothing is lost, nothing is done twice by two holders."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.jobs.records import Rules
from serving.jobs.sqlite_store import SqliteStore
from serving.jobs.store import KeyReusedError, QueueFullError, StoreError
from tests.serving.jobs.conftest import Blocking, new_job, wait_for

Open = Callable[..., Blocking]


def test_a_job_is_kept_worked_on_and_fetched_across_reopening(open_store: Open) -> None:
    first = open_store()
    job = new_job(b"\x00\xff pixels", webhook=None)
    assert first.submit(job) == (job.id, True)
    view = open_store().get(job.id)
    assert (view.state, view.attempts, view.owner, view.result, view.delivery) == ("waiting", 0, "ann", None, "none")
    leased = open_store().lease()
    assert (leased.id, leased.content, leased.request, leased.attempts) == (job.id, job.content, job.request, 1)
    assert first.get(job.id).state == "running" and first.lease() is None
    assert first.finish(leased, {"answer": "Öl"}, None) is True
    done = open_store().get(job.id)
    assert (done.state, done.result, done.error) == ("done", {"answer": "Öl"}, None)
    assert done.created <= done.finished < done.expires
    assert first.load().jobs == 0 and first.load().content_bytes == 0


def test_jobs_are_taken_in_their_order_or_by_name(open_store: Open) -> None:
    store = open_store()
    jobs = [new_job() for _ in range(3)]
    for job in jobs:
        store.submit(job)
    assert store.lease(jobs[1].id).id == jobs[1].id
    assert store.lease(jobs[1].id) is None, "it is in other hands"
    assert [store.lease().id for _ in range(2)] == [jobs[0].id, jobs[2].id]
    assert store.lease("0" * 32) is None and store.get("0" * 32) is None


def test_the_job_of_a_silent_worker_goes_to_another_and_the_first_changes_nothing_any_more(open_store: Open) -> None:
    store = open_store(lease_seconds=0.05)
    job = new_job()
    store.submit(job)
    lost = store.lease()
    taken = wait_for(store.lease, "the lease ends")
    assert taken.id == job.id and taken.attempts == 2 and taken.token != lost.token
    assert store.finish(lost, {"from": "the dead"}, None) is False
    assert store.retry(lost, 0, {"code": "x"}) is False and store.extend(lost) is False
    assert store.finish(taken, {"from": "the living"}, None) is True
    assert store.get(job.id).result == {"from": "the living"}
    assert store.finish(taken, {"from": "an echo"}, None) is False


def test_a_held_job_stays_with_its_worker(open_store: Open) -> None:
    store, long = open_store(lease_seconds=0.05), open_store(lease_seconds=600)
    store.submit(new_job())
    leased = store.lease()
    assert long.extend(leased) is True
    assert store.lease() is None


def test_a_job_that_ends_its_workers_is_buried_with_a_reason(open_store: Open) -> None:
    store = open_store(lease_seconds=0.01, max_attempts=2)
    job = new_job()
    store.submit(job)
    assert [wait_for(store.lease, "a lease").attempts for _ in range(2)] == [1, 2]
    wait_for(lambda: store.lease() is None and store.get(job.id).state == "dead", "it is buried")
    view = store.get(job.id)
    assert view.attempts == 2 and view.error["code"] == "gave_up" and view.result is None
    assert store.load().jobs == 0


def test_a_failed_job_is_tried_later_and_buried_after_the_last_try(open_store: Open) -> None:
    store = open_store(max_attempts=2)
    job = new_job()
    store.submit(job)
    assert store.retry(store.lease(), 3600, {"code": "away", "message": "m"}) is True
    view = store.get(job.id)
    assert view.state == "waiting" and view.error["code"] == "away" and store.lease() is None
    store.submit(second := new_job())
    assert store.retry(store.lease(), 0, {"code": "a"}) is True
    assert store.retry(wait_for(store.lease, "second try"), 0, {"code": "b"}) is True
    assert store.get(second.id).state == "dead" and store.get(second.id).error == {"code": "b"}


def test_the_queue_is_bounded_in_jobs_and_bytes(open_store: Open) -> None:
    store = open_store(max_pending=2, max_pending_bytes=100)
    store.submit(new_job(bytes(60)))
    with pytest.raises(QueueFullError, match="60"):
        store.submit(new_job(bytes(60)))
    store.submit(new_job(bytes(40)))
    with pytest.raises(QueueFullError, match="2 jobs"):
        store.submit(new_job(b""))
    assert (store.load().jobs, store.load().content_bytes) == (2, 100)
    store.finish(store.lease(), {}, None)
    store.submit(new_job(bytes(60)))


def test_a_repeated_request_makes_no_second_job(open_store: Open) -> None:
    store = open_store(max_pending=1)
    first = new_job(idempotency="k")
    assert store.submit(first) == (first.id, True)
    assert store.submit(new_job(idempotency="k")) == (first.id, False), "also when the queue is full"
    with pytest.raises(KeyReusedError):
        store.submit(new_job(idempotency="k", fingerprint="other"))
    store.finish(store.lease(), {}, None)
    assert store.submit(new_job(idempotency="k")) == (first.id, False), "also when it is done"
    assert store.submit(new_job(idempotency="l"))[1] is True


def test_results_expire_and_free_their_key(open_store: Open) -> None:
    store = open_store(result_seconds=1)
    job = new_job(idempotency="k")
    store.submit(job)
    store.finish(store.lease(), {}, None)
    wait_for(lambda: store.get(job.id) is None, "it expires")
    assert store.submit(new_job(idempotency="k", fingerprint="other"))[1] is True


def test_a_sweep_removes_what_has_expired_and_nothing_else(tmp_path: Path) -> None:
    store = Blocking(SqliteStore(tmp_path / "jobs.sqlite", Rules(result_seconds=0)))
    for _ in range(3):
        store.submit(new_job())
    store.finish(store.lease(), {}, None)
    assert (store.sweep(), store.sweep(), store.load().jobs) == (1, 0, 2)


def test_a_delivery_is_due_once_the_job_is_settled_and_repeated_until_it_is_made(open_store: Open) -> None:
    store = open_store(max_attempts=1)
    good, dead = new_job(webhook="https://a/"), new_job(webhook="https://b/")
    store.submit(good)
    assert store.lease_delivery() is None and store.get(good.id).delivery == "pending"
    store.finish(store.lease(), {"x": 1}, None)
    delivery = store.lease_delivery()
    assert (delivery.url, delivery.attempts, delivery.view.result) == ("https://a/", 1, {"x": 1})
    assert store.lease_delivery() is None, "it is in hand"
    assert store.settle_delivery(delivery, "answered 500", 0.0) is True
    assert store.settle_delivery(delivery, None, None) is False, "the lease is over"
    again = wait_for(store.lease_delivery, "second try")
    assert again.attempts == 2
    store.settle_delivery(again, None, None)
    view = store.get(good.id)
    assert (view.delivery, view.delivery_attempts) == ("delivered", 2) and store.lease_delivery() is None
    store.submit(dead)
    store.retry(store.lease(), 0, {"code": "x"})
    delivery = store.lease_delivery()
    assert delivery.url == "https://b/" and delivery.view.state == "dead"
    store.settle_delivery(delivery, "no", None)
    assert store.get(dead.id).delivery == "failed" and store.get(dead.id).delivery_error == "no"


def test_many_workers_share_the_jobs_without_doing_one_twice(open_store: Open) -> None:
    seen: Counter[str] = Counter()
    lock = threading.Lock()
    filler = open_store()
    wanted = set()
    for _ in range(40):
        job = new_job()
        filler.submit(job)
        wanted.add(job.id)

    def work(store: Blocking) -> None:
        while (leased := store.lease()) is not None:
            with lock:
                seen[leased.id] += 1
            assert store.finish(leased, {}, None)

    stores = [open_store() for _ in range(4)]
    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(seen) == wanted and set(seen.values()) == {1}


def test_a_place_that_cannot_be_written_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = Blocking(SqliteStore(tmp_path / "file" / "jobs.sqlite", Rules()))
    with pytest.raises(StoreError, match="cannot be kept"):
        broken.submit(new_job())
    (tmp_path / "no.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Blocking(SqliteStore(tmp_path / "no.sqlite", Rules())).get("x")


def test_a_full_disk_takes_no_job_and_loses_none(tmp_path: Path) -> None:
    store = Blocking(SqliteStore(tmp_path / "jobs.sqlite", Rules()))
    store.submit(kept := new_job())
    connection: sqlite3.Connection = store.store._opened  # type: ignore[attr-defined]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        store.submit(new_job(bytes(200_000)))
    assert store.load().jobs == 1 and store.lease().id == kept.id


def test_a_redis_that_is_away_is_an_error_of_its_own() -> None:
    from serving.jobs.redis_store import RedisStore

    store = Blocking(RedisStore("redis://127.0.0.1:1/0", Rules()))
    with pytest.raises(StoreError, match="Redis cannot keep jobs"):
        store.submit(new_job())
