"""Webhooks: to allowed hosts only, signed, never redirected, and a receiver's failure is no failure of ours."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.errors import Problem
from serving.gateway.settings import Jobs
from serving.jobs.webhooks import Attempt, Webhooks, verify
from tests.serving.gateway.fakes import served

SECRET = b"s" * 32


def hooks(*hosts: str, **options: Any) -> Webhooks:
    return Webhooks(Jobs(webhook_hosts=hosts, **options), SECRET)


class Receiver:
    """Takes deliveries and answers as told."""

    def __init__(self, status: int = 204, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {}
        self.silent = False
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        self.seen.append((scope["path"], headers, body))
        if self.silent:
            await asyncio.sleep(30)
        answer = [(key.encode(), value.encode()) for key, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": answer})
        await send({"type": "http.response.body", "body": b""})


def deliver(webhooks: Webhooks, url: str, document: dict[str, Any] | None = None) -> Attempt:
    async def run() -> Attempt:
        try:
            return await webhooks.deliver(url, document or {"id": "abc", "state": "done"})
        finally:
            await webhooks.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/x",
        "http://hooks.example/",
        "https://hooks.example:443/",
        "https://HOOKS.example./a?b=c",
        "https://other.example:8443/",
    ],
)
def test_listed_hosts_may_be_called(url: str) -> None:
    assert hooks("hooks.example", "other.example:8443").check(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "https://hooks.example.evil.example/",
        "https://hooks.example@evil.example/",
        "https://user:pass@hooks.example/",
        "https://evil.example#@hooks.example/",
        "https://evil.example\\@hooks.example/",
        "https://hooks.example:8443/",
        "https://other.example/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "gopher://hooks.example/",
        "ftp://hooks.example/",
        "//hooks.example/",
        "hooks.example",
        "https://hooks.example:99999/",
        "https://hooks.example:x/",
        "https://hooks.exampl\u0435/",
        "https://hooks.example/\r\nX: y",
        "https://hooks.example/" + "x" * 3000,
        "",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(Problem) as caught:
        hooks("hooks.example", "other.example:8443").check(url)
    assert caught.value.status == 422


def test_nothing_may_be_called_unless_the_operator_lists_it() -> None:
    with pytest.raises(Problem, match="webhook_hosts"):
        hooks().check("https://hooks.example/")


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://hooks.example{text}"):
        try:
            hooks("hooks.example").check(url)
        except Problem as problem:
            assert problem.status == 422


def test_a_delivery_carries_a_signature_that_a_receiver_can_check() -> None:
    receiver = Receiver()
    with served(receiver) as address:
        host = address.removeprefix("http://")
        assert deliver(hooks(host), f"{address}/done?x=1", {"id": "abc", "result": "Öl"}) == Attempt()
    [(path, headers, body)] = receiver.seen
    assert path == "/done" and json.loads(body) == {"id": "abc", "result": "Öl"}
    assert headers["x-slipway-job"] == "abc" and headers["host"] == host
    stamp, signature = headers["x-slipway-timestamp"], headers["x-slipway-signature"]
    assert verify(SECRET, body, stamp, signature)
    assert not verify(b"t" * 32, body, stamp, signature)
    assert not verify(SECRET, body + b" ", stamp, signature)
    assert not verify(SECRET, body, str(int(stamp) + 1), signature)
    assert not verify(SECRET, body, "now", signature) and not verify(SECRET, body, stamp, "é")
    old = int(time.time()) - 10_000
    assert not verify(SECRET, body, str(old), hooks().sign(body, old)), "an old delivery cannot be replayed"


@pytest.mark.parametrize(("status", "is_final"), [(500, False), (404, False), (429, False), (301, False), (410, True)])
def test_an_answer_that_is_no_success_is_an_error(status: int, is_final: bool) -> None:
    other = Receiver()
    with served(other) as elsewhere:
        receiver = Receiver(status, {"location": f"{elsewhere}/secret"})
        with served(receiver) as address:
            attempt = deliver(hooks(address.removeprefix("http://"), elsewhere.removeprefix("http://")), address)
    assert str(status) in str(attempt.error) and attempt.is_final is is_final
    assert not other.seen, "redirects are not followed"


def test_a_receiver_that_is_silent_or_away_is_an_error() -> None:
    receiver = Receiver()
    receiver.silent = True
    with served(receiver, seconds=5) as address:
        host = address.removeprefix("http://")
        attempt = deliver(hooks(host, webhook_seconds=0.3), address)
        assert "no answer" in str(attempt.error) and not attempt.is_final
    attempt = deliver(hooks("127.0.0.1:1"), "http://127.0.0.1:1/")
    assert "Connect" in str(attempt.error) and not attempt.is_final
    attempt = deliver(hooks("nowhere.invalid"), "http://nowhere.invalid/")
    assert "cannot be found" in str(attempt.error)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "::ffff:169.254.169.254"]
)
def test_a_listed_name_that_points_to_forbidden_places_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    webhooks = hooks("hooks.example")

    async def lookup(*_: object, **__: object) -> list[Any]:
        return [(None, None, None, "", (address, 80))]

    async def run() -> Attempt:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
        return await webhooks.deliver("http://hooks.example/", {})

    attempt = asyncio.run(run())
    assert "nothing is sent" in str(attempt.error) and attempt.is_final


def test_a_host_that_was_taken_off_the_list_gets_nothing_any_more() -> None:
    attempt = deliver(hooks("other.example"), "https://hooks.example/")
    assert attempt.is_final and "not allowed" in str(attempt.error)
