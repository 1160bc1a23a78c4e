"""A canary on a real model server, under load: nobody notices."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.client import Client, ClientError
from serving.publish import publish
from serving.traffic import commands
from serving.traffic.model_servers import ClientServer, ServerError
from serving.traffic.outcomes import Outcomes
from serving.traffic.settings import TrafficSettings
from serving.traffic.splitting import choose
from serving.traffic.state import Guards, StateReader
from tests.serving.saved_models import encode_png, picture
from tests.serving.server.processes import Launch

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
MODEL = "pets"


@pytest.fixture()
def base(tmp_path: Path, classifier_dir: Path) -> Path:
    """Base path with version 1 of a real classifier."""
    publish(classifier_dir, tmp_path / "served" / MODEL, name=MODEL)
    return tmp_path / "served" / MODEL


def publish_another(base: Path, classifier_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(classifier_dir, tmp_path / "another"))
    (copy / "assets.extra" / "note.txt").write_text("another version\n")
    publish(copy, base, name=MODEL)


class Load:
    """Users who ask all the time, as a gateway would let them."""

    def __init__(self, rest_url: str, state_dir: Path) -> None:
        self.failures: list[str] = []
        self.answered: Counter[str] = Counter()
        self._stop = threading.Event()
        self._url, self._state_dir = rest_url, state_dir
        self._outcomes = Outcomes(state_dir, flush_seconds=0.1)
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(2)]

    def _ask(self, number: int) -> None:
        reader = StateReader(self._state_dir)
        png, turn = encode_png(picture(number)), 0
        with Client(self._url, MODEL, timeout_seconds=60) as client:
            while not self._stop.is_set():
                turn += 1
                state = reader.current()
                assert state is not None
                label = choose(state, f"user-{number}-{turn % 50}").label
                began = time.perf_counter()
                try:
                    client.predict({"image_bytes": [png]}, label=label)
                except ClientError as error:
                    self.failures.append(f"{label}: {error}")
                    continue
                version = state.canary if label == "canary" else state.stable
                self._outcomes.record(label, version, True, 200, 1000 * (time.perf_counter() - began), 0, 0.5)
                self.answered[label] += 1

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
            self._outcomes.close()


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_started_promoted_and_rolled_back_under_load(
    model_server: Launch, base: Path, classifier_dir: Path, tmp_path: Path, transport: str
) -> None:
    state_dir = tmp_path / "state"
    flags = [f"--model_name={MODEL}", f"--model_base_path={base}", "--rollout=manual", f"--state_dir={state_dir}"]
    server = model_server(flags)
    publish_another(base, classifier_dir, tmp_path)
    settings = TrafficSettings(
        state_dir=state_dir,
        servers=(f"grpc://{server.grpc_target}" if transport == "grpc" else server.rest_url,),
        steps=(0.5, 1.0),
        automatic=False,
        poll_seconds=0.1,
        call_timeout_seconds=60,
        guards=Guards(minimum_samples=20, minimum_seconds=0, max_latency_ratio=1000),
    )
    assert server.states(MODEL) == {1: "AVAILABLE"}

    with Load(server.rest_url, state_dir).running() as load:
        started = commands.start(settings)
        assert started.servers[0].versions[2].available
        deadline = time.monotonic() + 120
        while load.answered["canary"] < 30 or load.answered["stable"] < 30:
            assert time.monotonic() < deadline, load.answered
            time.sleep(0.05)
        promoted = commands.promote(settings, force=True)
        assert promoted.state.stable == 2
        server.reaches(MODEL, {2: "AVAILABLE"})
        back = commands.roll_back(settings)
        assert back.state.stable == 1
        server.reaches(MODEL, {1: "AVAILABLE"})
        commands.start(settings, 2)
        commands.abort(settings)

    assert load.failures == []
    assert server.stop() == 0

    again = model_server(flags)
    assert again.states(MODEL) == {1: "AVAILABLE"}


def test_what_a_server_says_that_is_not_there(base: Path) -> None:
    server = ClientServer("http://127.0.0.1:9", MODEL, 2.0)

    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9 cannot be reached: UNAVAILABLE"):
        server.standings()
    server.tell("a server that polls is told nothing")
    server.close()
