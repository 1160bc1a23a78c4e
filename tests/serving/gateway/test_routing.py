"""Splitting between versions: who gets which, that they keep it, that shadows delay nobody, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.client import Unavailable
from serving.gateway import secret_files
from serving.gateway.keys import KeyStore
from serving.traffic.outcomes import gather
from serving.traffic.state import TrafficFile, TrafficState
from tests.serving.gateway.conftest import Asker, picture
from tests.serving.gateway.fakes import FakeClient


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "traffic"


def steer(state_dir: Path, **changes: Any) -> TrafficState:
    values = {
        "model": "default",
        "base_path": "/models/default",
        "stable": 3,
        "canary": 4,
        "weight": 0.5,
        "salt": "s",
        "phase": "running",
        "rollout": "r",
        "steps": (0.5,),
        **changes,
    }
    state = TrafficState(**values)
    file = TrafficFile(state_dir)
    with file.locked():
        file.write(state)
    return state


def two_versions() -> FakeClient:
    return FakeClient([3, 4], {"stable": 3, "canary": 4})


def test_keys_and_browsers_stay_on_their_version(gateway: Callable[..., Asker], state_dir: Path) -> None:
    steer(state_dir)
    ask = gateway(two_versions(), traffic={"state_dir": state_dir})
    store = KeyStore(ask.parts.settings.keys_file, secret_files.load_or_make(ask.parts.settings.pepper_file))
    seen = set()
    for number in range(16):
        headers = {"X-API-Key": store.add(f"k{number}", ["predict"])[1]}
        models = [ask("POST", "/predict", content=picture(), headers=headers).json()["model"] for _ in range(3)]
        assert models[0] == models[1] == models[2]
        seen.add((models[0]["variant"], models[0]["version"]))
    assert seen == {("stable", 3), ("canary", 4)}

    variants = set()
    for _ in range(16):
        ask.http.cookies.clear()
        first = ask("POST", "/predict", content=picture())
        assert "HttpOnly" in first.headers["set-cookie"] and "SameSite=Lax" in first.headers["set-cookie"]
        again = [ask("POST", "/predict", content=picture()) for _ in range(2)]
        assert all("set-cookie" not in one.headers for one in again)
        assert {one.json()["model"]["variant"] for one in again} == {first.json()["model"]["variant"]}
        variants.add(first.json()["model"]["variant"])
    assert variants == {"stable", "canary"}


def test_a_forged_cookie_is_a_new_browser(gateway: Callable[..., Asker], state_dir: Path) -> None:
    steer(state_dir)
    ask = gateway(two_versions(), traffic={"state_dir": state_dir})
    answer = ask("POST", "/predict", content=picture(), headers={"Cookie": "slipway_user=eyJ1c2VyIjoieCJ9.AAAA"})
    assert "set-cookie" in answer.headers


def test_without_a_canary_nobody_gets_a_cookie(gateway: Callable[..., Asker], state_dir: Path) -> None:
    ask = gateway(two_versions(), traffic={"state_dir": state_dir})
    before = ask("POST", "/predict", content=picture())
    assert before.json()["model"] == {"name": "default", "version": 4, "variant": "latest"}
    assert "set-cookie" not in before.headers
    steer(state_dir, canary=None, weight=0.0, phase="idle")
    ask.parts.router._reader._next_check = 0.0
    after = ask("POST", "/predict", content=picture())
    assert after.json()["model"] == {"name": "default", "version": 3, "variant": "stable"}
    assert "set-cookie" not in after.headers


def test_what_became_of_requests_is_counted_for_the_controller(gateway: Callable[..., Asker], state_dir: Path) -> None:
    state = steer(state_dir, weight=0.0)
    client = two_versions()
    ask = gateway(client, traffic={"state_dir": state_dir})
    receipts = [ask("POST", "/predict", content=picture(kind)).json()["receipt"] for kind in ("owl", "cat", "owl")]
    assert (
        ask("POST", "/feedback", files={"receipt": (None, receipts[0]), "verdict": (None, "wrong")}).status_code == 201
    )
    client.failure = Unavailable("down")
    ask("POST", "/predict", content=picture())
    ask.parts.router._outcomes.flush()
    stable = gather(state_dir, state).stable
    assert (stable.answers, stable.failures, stable.wrong) == (4, 1, 1)


def test_a_shadow_is_counted_and_delays_nobody(gateway: Callable[..., Asker], state_dir: Path) -> None:
    state = steer(state_dir, weight=0.0, shadow="canary")
    client = two_versions()
    release = asyncio.Event()
    original = client.predict_images

    async def slow_canary(images: Any, *, version: int, **options: Any) -> Any:
        if version == 4:
            await release.wait()
        return await original(images, version=version, **options)

    client.predict_images = slow_canary  # type: ignore[method-assign]
    ask = gateway(client, traffic={"state_dir": state_dir, "max_shadows": 2})
    answers = [ask("POST", "/predict", content=picture()).json() for _ in range(3)]
    assert {answer["model"]["version"] for answer in answers} == {3}, "the answers came while the shadows still wait"
    release.set()
    ask.run(ask.parts.router.close())
    shadow = gather(state_dir, state).shadow
    assert (shadow.answers, shadow.agreed) == (2, 2), "the third was dropped, not queued"
    assert b'slipway_gateway_shadows_total{result="dropped"} 1.0' in ask.parts.metrics.exposition()


def test_a_label_that_is_not_there_yet_is_a_passing_failure(gateway: Callable[..., Asker], state_dir: Path) -> None:
    steer(state_dir, canary=None, weight=0.0, phase="idle")
    ask = gateway(FakeClient([3]), traffic={"state_dir": state_dir})
    answer = ask("POST", "/predict", content=picture())
    assert answer.status_code == 503 and "stable" in answer.json()["error"]["message"]
