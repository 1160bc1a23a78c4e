"""The generated configuration in a real Envoy, in front of small servers."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from serving.proxy import envoy
from serving.proxy.routes import GRPC_ROUTES, HTTP_ROUTES, route_file, write_routes
from serving.proxy.settings import Limits, Outliers, ProxyError, ProxySettings, Upstream
from tests.serving.proxy.upstreams import GrpcUpstream, HttpUpstream, RunningEnvoy, running, wait_until

LABEL = "x-slipway-label"
PATH = "/v1/models/pets:predict"


class Scene:
    """Two stable servers, two of the canary, one of each over gRPC, and the proxy."""

    def __init__(self, directory: Path) -> None:
        self.stable = [HttpUpstream("stable-0"), HttpUpstream("stable-1")]
        self.canary = [HttpUpstream("canary-0"), HttpUpstream("canary-1")]
        self.grpc = [GrpcUpstream("grpc-stable"), GrpcUpstream("grpc-canary")]
        self.settings = ProxySettings(
            model="pets",
            stable=Upstream(hosts=tuple(each.host for each in self.stable)),
            canary=Upstream(hosts=tuple(each.host for each in self.canary)),
            grpc_stable=Upstream(hosts=(self.grpc[0].host,), health_path=""),
            grpc_canary=Upstream(hosts=(self.grpc[1].host,), health_path=""),
            routes_dir=directory / "routes",
            address="127.0.0.1",
            http_port=0,
            grpc_port=0,
            admin_port=0,
            clients_may_choose=True,
            limits=Limits(request_bytes=1000, requests_per_second=100_000, burst=100_000),
            outliers=Outliers(consecutive_failures=3, ejection_seconds=300),
            health_seconds=0.5,
            access_log=str(directory / "access.log"),
        )
        self.proxy: RunningEnvoy
        self.client: httpx.Client

    def answer(self, user: str = "", **headers: str) -> httpx.Response:
        sent = {**({"x-user-id": user} if user else {}), **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.client.post(PATH, content=b"{}", headers=sent)

    def labels(self, users: int) -> list[str]:
        return [self.answer(f"user-{number}").headers[LABEL] for number in range(users)]

    def set_weight(self, weight: float) -> None:
        """Change the weight and wait until the proxy has taken the routes up."""
        name = f"http.http.rds.{HTTP_ROUTES}.update_success"
        before = self.proxy.counter(name)
        if write_routes(self.settings, weight):
            wait_until(lambda: self.proxy.counter(name) > before, "the proxy has the new routes")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("envoy")
    scene = Scene(directory)
    try:
        with (
            running(scene.settings, directory) as proxy,
            httpx.Client(base_url=proxy.url(), timeout=60, trust_env=False, verify=False) as client,
        ):
            scene.proxy, scene.client = proxy, client
            proxy.wait_healthy()
            yield scene
    finally:
        for each in (*scene.stable, *scene.canary, *scene.grpc):
            each.close()


def test_weight_zero_sends_everyone_to_stable(scene: Scene) -> None:
    scene.set_weight(0.0)

    assert set(scene.labels(30)) == {"stable"}


def test_weight_one_sends_everyone_to_the_canary(scene: Scene) -> None:
    scene.set_weight(1.0)

    assert set(scene.labels(30)) == {"canary"}


def test_the_split_has_the_weight(scene: Scene) -> None:
    scene.set_weight(0.25)
    users = 250

    counts = Counter(scene.labels(users))

    # Five standard deviations: once in two million runs by chance, and the hash makes every run the same anyway.
    assert abs(counts["canary"] - 0.25 * users) < 5 * math.sqrt(users * 0.25 * 0.75)


def test_a_user_stays_where_he_is_and_the_canary_only_gains_users(scene: Scene) -> None:
    scene.set_weight(0.2)
    first, again = scene.labels(60), scene.labels(60)
    scene.set_weight(0.6)
    later = scene.labels(60)

    assert first == again
    assert all(after == "canary" for before, after in zip(first, later, strict=True) if before == "canary")
    assert later.count("canary") > first.count("canary")


def test_a_user_without_a_name_is_known_by_a_cookie(scene: Scene) -> None:
    scene.set_weight(0.5)
    labels = []
    for _ in range(12):
        scene.client.cookies.clear()
        first = scene.answer()
        cookie = first.cookies["slipway-user"]
        scene.client.cookies.clear()
        repeated = {scene.answer(cookie=f"slipway-user={cookie}").headers[LABEL] for _ in range(5)}
        assert repeated == {first.headers[LABEL]}
        labels.append(first.headers[LABEL])
    scene.client.cookies.clear()

    assert set(labels) == {"stable", "canary"}, "twelve strangers all got the same: 1 in 2048 by chance"


def test_a_tester_may_choose_and_the_server_is_told(scene: Scene) -> None:
    scene.set_weight(0.0)

    answer = scene.answer("user-1", x_slipway_label="canary")

    assert answer.json()["name"].startswith("canary")
    assert answer.json()["headers"][LABEL] == "canary"
    assert answer.headers[LABEL] == "canary"


def test_weights_change_without_a_failed_request(scene: Scene) -> None:
    scene.set_weight(0.0)
    stop, statuses = threading.Event(), Counter[int]()

    def ask() -> None:
        with httpx.Client(base_url=scene.proxy.url(), timeout=60, trust_env=False, verify=False) as client:
            while not stop.is_set():
                statuses[client.post(PATH, content=b"{}", headers={"x-user-id": "someone"}).status_code] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for weight in (0.1, 0.5, 1.0, 0.0):
            scene.set_weight(weight)
    finally:
        stop.set()
        thread.join()

    assert set(statuses) == {200}


def test_grpc_is_split_too(scene: Scene) -> None:
    scene.set_weight(0.5)
    with grpc.insecure_channel(f"127.0.0.1:{scene.proxy.ports['grpc']}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        names = Counter(
            call(b"x", metadata=(("x-user-id", f"user-{number}"),), timeout=60, wait_for_ready=True)
            for number in range(60)
        )

    assert min(names[b"grpc-stable"], names[b"grpc-canary"]) > 10


def test_a_body_that_is_too_large_is_refused_with_413(scene: Scene) -> None:
    before = [each.requests for each in scene.stable]

    answer = scene.client.post(PATH, content=b"x" * 1001, headers={"x-user-id": "user-1"})

    assert answer.status_code == 413
    assert [each.requests for each in scene.stable] == before
    assert scene.client.post(PATH, content=b"x" * 900).status_code == 200


def test_headers_with_underscores_are_refused(scene: Scene) -> None:
    # A server that reads x_slipway_label as x-slipway-label could be told anything.
    assert scene.client.get("/", headers={"x_slipway_label": "canary"}).status_code == 400


def test_the_proxy_tells_its_own_health(scene: Scene) -> None:
    answer = scene.client.get("/-/healthy")

    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_a_busy_server_is_passed_over_by_a_retry(scene: Scene) -> None:
    scene.set_weight(1.0)
    scene.canary[0].status = 503
    try:
        statuses = {scene.answer(f"user-{number}").status_code for number in range(20)}
    finally:
        scene.canary[0].status = 200

    assert statuses == {200}
    assert scene.proxy.counter("cluster.canary.upstream_rq_retry_success") > 0


def test_a_failing_server_is_ejected(scene: Scene) -> None:
    scene.set_weight(0.0)
    scene.stable[1].status = 500
    try:

        def ejected() -> bool:
            scene.answer("user-1")
            return any(host["health_status"].get("failed_outlier_check") for host in scene.proxy.clusters()["stable"])

        wait_until(ejected, "the server is out")
        answers = [scene.answer(f"user-{number}") for number in range(20)]
    finally:
        scene.stable[1].status = 200

    assert {answer.json()["name"] for answer in answers} == {"stable-0"}
    assert {answer.status_code for answer in answers} == {200}


def test_the_access_log_is_json(scene: Scene) -> None:
    scene.answer("user-1", x_request_id="4f3c2b1a-aaaa-4bbb-8ccc-1234567890ab")
    log = Path(scene.settings.access_log)

    def found() -> dict[str, object] | None:
        lines = [json.loads(line) for line in log.read_text().splitlines()[:-1]] if log.is_file() else []
        return lines[-1] if lines else None

    entry = wait_until(found, "a line of the log")

    assert {"method", "path", "status", "label", "milliseconds"} <= set(entry)


def test_running_routes_are_left_alone_by_a_new_bootstrap(scene: Scene, tmp_path: Path) -> None:
    scene.set_weight(0.5)
    before = route_file(scene.settings, HTTP_ROUTES).read_text()

    envoy.write(scene.settings, tmp_path)

    assert route_file(scene.settings, HTTP_ROUTES).read_text() == before
    assert route_file(scene.settings, GRPC_ROUTES).is_file()


def test_what_envoy_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text("static_resources: {listeners: [{nonsense: 1}]}\n")

    with pytest.raises(ProxyError, match="nonsense"):
        envoy.validate(path)
