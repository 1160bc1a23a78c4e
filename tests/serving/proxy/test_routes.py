"""The route files: weights that add up, written only when they change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.proxy import routes
from serving.proxy.settings import ProxySettings, Upstream
from serving.proxy.steering import follower
from serving.traffic.state import TrafficState
from tests.serving.traffic.fakes import Scene

UPSTREAM = Upstream(hosts=("gateway:8080",))


def settings(directory: Path = Path("routes"), **others: object) -> ProxySettings:
    return ProxySettings.model_validate({"model": "pets", "stable": UPSTREAM, "routes_dir": directory, **others})


def splits(configuration: dict) -> list[dict[str, int]]:  # type: ignore[type-arg]
    found = [
        route["route"].get("weighted_clusters")
        for route in configuration["virtual_hosts"][0]["routes"]
        if "route" in route
    ]
    return [{cluster["name"]: cluster["weight"] for cluster in split["clusters"]} for split in found if split]


@given(st.floats(0, 1))
def test_weights_always_add_up_to_the_same(weight: float) -> None:
    for split in splits(routes.http_routes(settings(), weight)):
        assert sum(split.values()) == 10_000
        assert split["canary"] == round(weight * 10_000)
        assert list(split) == ["canary", "stable"], "the canary stands first, so that its users stay when it grows"


def test_grpc_without_a_canary_of_its_own_stays_on_stable() -> None:
    found = splits(routes.grpc_routes(settings(grpc_stable=UPSTREAM), 0.5))

    assert found == [{"grpc_stable": 10_000}] * 2


def test_clients_may_choose_only_if_allowed() -> None:
    def choosing(allowed: bool) -> bool:
        found = routes.http_routes(settings(clients_may_choose=allowed), 0.5)
        return "x-slipway-label" in json.dumps([route["match"] for route in found["virtual_hosts"][0]["routes"]])

    assert choosing(True)
    assert not choosing(False)


def test_files_change_only_with_the_weight(tmp_path: Path) -> None:
    found = settings(tmp_path / "routes", grpc_stable=UPSTREAM, grpc_canary=UPSTREAM)

    assert routes.write_routes(found, 0.1)
    assert not routes.write_routes(found, 0.1)
    assert routes.write_routes(found, 0.2)
    assert sorted(path.name for path in (tmp_path / "routes").iterdir()) == ["grpc_routes.json", "http_routes.json"]


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_the_follower_writes_the_weight_of_the_state(tmp_path: Path, weight: float) -> None:
    (tmp_path / "proxy.yaml").write_text("model: pets\nstable: {hosts: ['gateway:8080']}\nroutes_dir: routes\n")
    state = TrafficState(model="pets", base_path="/pets", stable=2).changed(canary=3, phase="running", weight=weight)

    follower(tmp_path / "proxy.yaml")(state)

    written = json.loads((tmp_path / "routes" / "http_routes.json").read_text())["resources"][0]
    assert splits(written)[0]["canary"] == weight * 10_000


def test_the_canary_steers_the_proxy(tmp_path: Path, state_dir: Path) -> None:
    (tmp_path / "proxy.yaml").write_text("model: pets\nstable: {hosts: ['gateway:8080']}\nroutes_dir: routes\n")
    scene = Scene(state_dir)
    controller = scene.another(listeners=(follower(tmp_path / "proxy.yaml"),))

    def share() -> int:
        written = json.loads((tmp_path / "routes" / "http_routes.json").read_text())["resources"][0]
        return splits(written)[0]["canary"]

    controller.start()
    assert share() == 500
    controller.abort()
    assert share() == 0
