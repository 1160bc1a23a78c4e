"""`/jobs` over HTTP, and the worker behind it, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.client import InvalidRequest, Unavailable
from serving.gateway import secret_files
from serving.gateway.keys import KeyStore
from serving.gateway.settings import GatewaySettings
from serving.jobs.store import StoreError
from serving.jobs.work import Worker
from tests.serving.gateway.conftest import Asker, picture
from tests.serving.gateway.fakes import FakeClient, served
from tests.serving.jobs.test_webhooks import SECRET, Receiver, verify

QUICK = {"retry_seconds": 0.01, "lease_seconds": 5, "max_attempts": 3}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Asker]]:
    made: list[Asker] = []

    def build(client: Any = None, jobs: dict[str, Any] | None = None, **sections: Any) -> Asker:
        values = {"data_dir": tmp_path / "data", "jobs": {**QUICK, **(jobs or {})}, **sections}
        made.append(Asker(GatewaySettings.model_validate(values), client or FakeClient()))
        return made[-1]

    yield build
    for one in made:
        one.close()


def submit(ask: Asker, *contents: bytes, headers: dict[str, str] | None = None, query: str = "", **fields: str) -> Any:
    files: list[Any] = [("image", (f"{index}.png", content)) for index, content in enumerate(contents)]
    files += [(name, (None, value)) for name, value in fields.items()]
    return ask("POST", f"/jobs{query}", files=files, headers=headers or {})


def work_until(ask: Asker, condition: Callable[[], Any]) -> None:
    """Let a worker run until something is so."""

    async def run() -> None:
        worker = Worker(ask.parts, ask.app.state.jobs)
        task = asyncio.create_task(worker.run())
        while not await condition():
            assert not task.done(), task.exception()
            await asyncio.sleep(0.01)
        worker.stop()
        await task

    ask.run(run())


def settled(ask: Asker, job_id: str) -> dict[str, Any]:
    async def is_settled() -> bool:
        view = await ask.app.state.jobs.store.get(job_id)
        return view.state in ("done", "dead") and view.delivery != "pending"

    work_until(ask, is_settled)
    return ask("GET", f"/jobs/{job_id}").json()


def test_submit_poll_and_fetch(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    accepted = submit(ask, picture("cat"), picture("owl", "GIF"), query="?top_k=2&threshold=0.2")
    assert accepted.status_code == 202, accepted.text
    job_id = accepted.json()["id"]
    assert accepted.json()["url"] == f"/jobs/{job_id}" and accepted.headers["location"] == f"jobs/{job_id}"
    waiting = ask("GET", f"/jobs/{job_id}")
    assert waiting.json()["state"] == "waiting" and waiting.headers["retry-after"] == "1"
    done = settled(ask, job_id)
    assert done["state"] == "done" and done["attempts"] == 1 and done["error"] is None
    assert [item["prediction"]["label"] for item in done["result"]["items"]] == ["cat", "owl"]
    assert len(done["result"]["items"][0]["prediction"]["top"]) == 2 and done["result"]["threshold"] == 0.2
    assert done["result"]["model"] == {"name": "default", "version": 3, "variant": "latest"}
    receipt = done["result"]["items"][0]["receipt"]
    form = {"receipt": (None, receipt), "verdict": (None, "right"), "image": ("x", picture("cat"))}
    assert ask("POST", "/feedback", files=form).status_code == 201, "a job's answer can be judged like any other"


@pytest.mark.parametrize(
    ("contents", "fields", "status", "code"),
    [
        ([], {}, 422, "no_file"),
        ([b"junk"], {}, 415, "no_picture"),
        ([b""], {}, 422, "empty"),
        ([picture()], {"webhook": "http://127.0.0.1/"}, 422, "bad_webhook"),
    ],
    ids=["nothing", "junk", "empty", "webhook"],
)
def test_what_cannot_succeed_is_refused_at_once(
    gateway: Callable[..., Asker], contents: list[bytes], fields: dict[str, str], status: int, code: str
) -> None:
    ask = gateway()
    refused = submit(ask, *contents, **(fields or {"note": "x"}))
    assert refused.status_code == status and refused.json()["error"]["code"] == code
    assert ask.run(ask.app.state.jobs.store.load()).jobs == 0


def test_a_key_that_is_used_again_makes_no_second_job(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    key = {"Idempotency-Key": "order-1"}
    first, second = submit(ask, picture(), headers=key), submit(ask, picture(), headers=key)
    assert first.json()["id"] == second.json()["id"] and second.headers["idempotent-replay"] == "true"
    assert "idempotent-replay" not in first.headers
    assert submit(ask, picture("cat"), headers=key).status_code == 409
    assert submit(ask, picture(), headers=key, query="?top_k=1").status_code == 409
    assert submit(ask, picture(), headers={"Idempotency-Key": "two words"}).status_code == 422
    store = KeyStore(ask.parts.settings.keys_file, secret_files.load_or_make(ask.parts.settings.pepper_file))
    other = submit(ask, picture("cat"), headers={**key, "X-API-Key": store.add("x", ["predict"])[1]})
    assert other.status_code == 202, "keys of different clients do not meet"


def test_a_job_is_shown_to_its_owner_only(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    store = KeyStore(ask.parts.settings.keys_file, secret_files.load_or_make(ask.parts.settings.pepper_file))
    mine, yours = ({"X-API-Key": store.add(name, ["predict"])[1]} for name in ("mine", "yours"))
    admin = {"X-API-Key": store.add("admin", ["predict", "admin"])[1]}
    job = submit(ask, picture(), headers=mine).json()["id"]
    assert ask("GET", f"/jobs/{job}", headers=mine).status_code == 200
    assert ask("GET", f"/jobs/{job}", headers=admin).status_code == 200
    for headers in (yours, {}):
        assert ask("GET", f"/jobs/{job}", headers=headers).status_code == 404
    for strange in ("0" * 32, "x", "%00", "A" * 32, "%2e%2e%2fmodel"):
        assert ask("GET", f"/jobs/{strange}", headers=mine).status_code == 404


def test_a_full_queue_sends_clients_away(gateway: Callable[..., Asker]) -> None:
    ask = gateway(jobs={"max_pending": 1})
    assert submit(ask, picture()).status_code == 202
    full = submit(ask, picture())
    assert (
        full.status_code == 429 and full.json()["error"]["code"] == "queue_full" and full.headers["retry-after"] == "10"
    )


def test_a_store_that_is_away_is_told(gateway: Callable[..., Asker], monkeypatch: pytest.MonkeyPatch) -> None:
    ask = gateway()

    async def away(*_: object) -> None:
        raise StoreError("secret path")

    monkeypatch.setattr(ask.app.state.jobs.store, "submit", away)
    monkeypatch.setattr(ask.app.state.jobs.store, "get", away)
    for answer in (submit(ask, picture()), ask("GET", f"/jobs/{'0' * 32}")):
        assert answer.status_code == 503 and answer.headers["retry-after"] == "5" and "secret" not in answer.text


def test_a_server_that_comes_back_is_waited_for(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    failures = iter([Unavailable("down"), Unavailable("down")])
    original = client.predict_images

    async def twice_down(*args: Any, **options: Any) -> Any:
        failure = next(failures, None)
        return [failure] if failure else await original(*args, **options)

    client.predict_images = twice_down  # type: ignore[method-assign]
    ask = gateway(client)
    done = settled(ask, submit(ask, picture()).json()["id"])
    assert (done["state"], done["attempts"]) == ("done", 3)


def test_a_job_that_never_succeeds_is_dead_and_says_why(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    ask = gateway(client)
    job = submit(ask, picture()).json()["id"]
    client.failure = Unavailable("down")
    dead = settled(ask, job)
    assert (dead["state"], dead["attempts"], dead["error"]["code"]) == ("dead", 3, "model_unavailable")
    assert dead["result"] is None


def test_a_picture_that_only_the_model_refuses_is_no_reason_to_try_again(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    client.unreadable.add(picture("dog"))
    ask = gateway(client)
    done = settled(ask, submit(ask, picture("cat"), picture("dog")).json()["id"])
    assert (done["state"], done["attempts"]) == ("done", 1)
    assert [item["error"] and item["error"]["code"] for item in done["result"]["items"]] == [None, "model_cannot_read"]


def test_a_worker_survives_its_own_mistakes(gateway: Callable[..., Asker], caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient()

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a mistake")

    client.predict_images = broken  # type: ignore[method-assign]
    ask = gateway(client)
    dead = settled(ask, submit(ask, picture()).json()["id"])
    assert (dead["state"], dead["error"]["code"]) == ("dead", "internal") and "a mistake" not in str(dead["error"])
    assert "a mistake" in caplog.text


def test_a_long_job_stays_with_its_worker(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    original = client.predict_images

    async def slow(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(1.0)  # several leases long
        return await original(*args, **options)

    client.predict_images = slow  # type: ignore[method-assign]
    ask = gateway(client, jobs={"lease_seconds": 0.3})
    assert settled(ask, submit(ask, picture()).json()["id"])["attempts"] == 1


def test_the_result_is_delivered_signed_until_it_is_taken(gateway: Callable[..., Asker], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    receiver = Receiver(500)
    with served(receiver) as address:
        host = address.removeprefix("http://")
        ask = gateway(jobs={"webhook_hosts": [host], "webhook_secret_file": secret, "webhook_attempts": 4})
        job = submit(ask, picture("owl"), webhook=f"{address}/done").json()["id"]

        async def was_tried_twice() -> bool:
            if len(receiver.seen) == 2:
                receiver.status = 200
            return len(receiver.seen) > 2

        work_until(ask, was_tried_twice)
        shown = settled(ask, job)
    assert shown["webhook"] == {"state": "delivered", "attempts": 3, "error": None}
    _, headers, body = receiver.seen[-1]
    assert verify(SECRET, body, headers["x-slipway-timestamp"], headers["x-slipway-signature"])
    assert b'"state":"done"' in body and b'"owl"' in body


def test_a_delivery_that_nobody_takes_ends(gateway: Callable[..., Asker]) -> None:
    ask = gateway(jobs={"webhook_hosts": ["127.0.0.1:1"], "webhook_attempts": 2})
    shown = settled(ask, submit(ask, picture(), webhook="http://127.0.0.1:1/").json()["id"])
    assert shown["state"] == "done" and shown["webhook"]["state"] == "failed" and shown["webhook"]["attempts"] == 2


def test_an_invalid_label_upstream_is_waited_out(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    original, calls = client.resolve, []

    async def resolve(label: str | None = None) -> int:
        calls.append(1)
        if len(calls) < 3:
            raise InvalidRequest("Unrecognized servable version label: stable")
        return await original(label)

    client.resolve = resolve  # type: ignore[method-assign]
    ask = gateway(client)
    assert settled(ask, submit(ask, picture()).json()["id"])["state"] == "done"


def test_switched_off_there_are_no_jobs(gateway: Callable[..., Asker]) -> None:
    ask = gateway(jobs={"enabled": False})
    assert submit(ask, picture()).status_code == 404
