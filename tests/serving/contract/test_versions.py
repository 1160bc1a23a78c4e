"""Versions, labels and configurations as a client of TensorFlow Serving meets them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.serving.contract.asking import Load, added, added_over_grpc, reload
from tests.serving.server.processes import EMBEDDED, Launch
from tests.serving.server.waiting import eventually

pytestmark = pytest.mark.slow
Place = Callable[..., Path]

further = pytest.mark.skipif(not EMBEDDED, reason="here the embedded server goes further than the real one")


def _flags(base: Path, *more: str) -> list[str]:
    return ["--model_name=adder", f"--model_base_path={base}", *more]


def _entry(base: Path, more: str = "", name: str = "adder") -> str:
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }}'


def _list(*entries: str) -> str:
    return f"model_config_list {{ {' '.join(entries)} }}"


def _specific(*versions: int) -> str:
    return f"model_version_policy {{ specific {{ {' '.join(f'versions: {v}' for v in versions)} }} }}"


def _labels(**labels: int) -> str:
    return " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())


def test_the_latest_version_answers_on_both_apis(model_server: Launch, base: Path, place: Place) -> None:
    place(1)
    place(2, "00000012")
    (base / "not-a-version").mkdir()
    server = model_server(_flags(base))
    assert server.states("adder") == {12: "AVAILABLE"}
    assert added(server) == added(server, "/v1/models/adder/versions/12") == 2
    with grpc.insecure_channel(server.grpc_target) as channel:
        assert added_over_grpc(channel) == added_over_grpc(channel, version=12) == 2
        with pytest.raises(grpc.RpcError) as caught:
            added_over_grpc(channel, version=1)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "Servable not found for request: Specific(adder, 1)"
    assert server.call("/v1/models/adder/versions/1:predict", {"instances": []})[0] in (400, 404)
    assert server.call("/v1/models/other") == (404, {"error": "Could not find any versions of model other"})


def test_a_new_version_takes_over_under_load(model_server: Launch, base: Path, place: Place) -> None:
    place(1)
    server = model_server(_flags(base))
    with Load(server) as load:
        for number in (2, 3, 4):
            place(number)
            server.reaches("adder", {number: "AVAILABLE"})
            eventually(lambda number=number: float(number) in load.answers)  # type: ignore[misc]
    assert not load.failures
    assert set(load.answers) == {1.0, 2.0, 3.0, 4.0}


def test_a_version_that_is_taken_away(model_server: Launch, base: Path, place: Place) -> None:
    place(1)
    second = place(2)
    server = model_server(_flags(base))
    with Load(server, clients=2) as load:
        second.rename(base / "gone")
        server.reaches("adder", {1: "AVAILABLE"})
        eventually(lambda: 1.0 in load.answers)
    assert not load.failures
    shutil.rmtree(base / "1")
    server.reaches("adder", {})
    status, answer = server.call("/v1/models/adder:predict", {"instances": [[1, 2]]})
    assert (status, answer["error"]) == (404, "Servable not found for request: Latest(adder)")


@pytest.mark.parametrize("damage", ["graph", "variables", "half", "warmup"])
def test_a_damaged_version_is_reported_and_the_old_one_serves(
    model_server: Launch, base: Path, place: Place, copy_of: Callable[[int], Path], damage: str
) -> None:
    place(1)
    server = model_server(_flags(base, "--max_num_load_retries=0"))
    copy = copy_of(2)
    if damage == "graph":
        (copy / "saved_model.pb").write_bytes(b"\x00garbage")
    elif damage == "variables":
        data = copy / "variables" / "variables.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[:3])
    elif damage == "half":
        shutil.rmtree(copy / "variables")
    else:
        import numpy as np

        from tests.serving.contract.models import add_warmup

        add_warmup(copy, np.zeros([1, 3], np.float32))
    os.utime(copy, (1, 1))
    copy.rename(base / "2")
    eventually(lambda: server.states("adder").get(2) == "END", 100)
    _, answer = server.call("/v1/models/adder/versions/2")
    error = answer["model_version_status"][0]["status"]
    assert error["error_code"] != "OK" and error["error_message"]
    assert server.states("adder")[1] == "AVAILABLE"
    assert added(server) == 1
    place(3)
    server.reaches("adder", {3: "AVAILABLE"})
    assert added(server) == 3


@further
def test_a_damaged_version_on_top_does_not_keep_the_server_from_starting(
    model_server: Launch, base: Path, place: Place
) -> None:
    place(1)
    (place(2) / "saved_model.pb").write_bytes(b"garbage")
    server = model_server(_flags(base, "--max_num_load_retries=0"))
    assert added(server) == 1
    assert server.states("adder") == {1: "AVAILABLE", 2: "END"}


@further
def test_a_version_that_is_being_copied_is_left_alone(
    model_server: Launch, base: Path, place: Place, adders: Path
) -> None:
    place(1)
    server = model_server(_flags(base, "--max_num_load_retries=0"))
    (base / "2").mkdir()
    shutil.copytree(adders / "2" / "variables", base / "2" / "variables")
    place(3, 1_000_000)
    server.reaches("adder", {1_000_000: "AVAILABLE"})
    assert 2 not in server.states("adder"), "without a graph it is no version"


def test_a_failing_version_is_tried_again(model_server: Launch, base: Path, place: Place, copy_of: Place) -> None:
    place(1)
    server = model_server(_flags(base, "--max_num_load_retries=1000", "--load_retry_interval_micros=100000"))
    copy = copy_of(2)
    graph = (copy / "saved_model.pb").read_bytes()
    (copy / "saved_model.pb").write_bytes(b"\x00garbage")
    copy.rename(base / "2")
    eventually(lambda: server.states("adder").get(2) == "LOADING", 100)
    assert added(server) == 1
    (base / "2" / "saved_model.pb").write_bytes(graph)
    server.reaches("adder", {2: "AVAILABLE"})
    assert added(server) == 2


def test_labels_and_reload(model_server: Launch, base: Path, place: Place) -> None:
    place(1)
    place(2)
    server = model_server(_flags(base))
    with grpc.insecure_channel(server.grpc_target) as channel:
        reload(channel, _list(_entry(base, _specific(1, 2))))
        server.reaches("adder", {1: "AVAILABLE", 2: "AVAILABLE"})
        reload(channel, _list(_entry(base, _specific(1, 2) + _labels(stable=1, canary=2))))
        assert added_over_grpc(channel, label="stable") == added(server, "/v1/models/adder/labels/stable") == 1
        assert added_over_grpc(channel, label="canary") == added(server, "/v1/models/adder/labels/canary") == 2
        with pytest.raises(grpc.RpcError) as caught:
            reload(channel, _list(_entry(base, _specific(1, 2) + _labels(stable=7))))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == (
            "Request to assign label to version 7 of model adder, which is not currently available for inference"
        )
        assert added(server, "/v1/models/adder/labels/stable") == 1
        reload(channel, _list(_entry(base, _specific(2) + _labels(stable=2))))
        assert added(server, "/v1/models/adder/labels/stable") == 2
        server.reaches("adder", {2: "AVAILABLE"})
    status, answer = server.call("/v1/models/adder/labels/canary:predict", {"instances": [[1, 2]]})
    assert (status, answer) == (400, {"error": "Unrecognized servable version label: canary"})


def test_models_come_and_go_by_reload(model_server: Launch, base: Path, place: Place, tmp_path: Path) -> None:
    place(1)
    other = tmp_path / "other"
    other.mkdir()
    place(3, below=other)
    server = model_server(_flags(base))
    with grpc.insecure_channel(server.grpc_target) as channel:
        reload(channel, _list(_entry(base), _entry(other, name="second")))
        assert added(server, "/v1/models/second") == 3
        reload(channel, _list(_entry(other, name="second")))
        server.reaches("adder", {})
        for text, words in (
            (_list(_entry(other), _entry(other)), "Illegal to list model adder multiple times in config list"),
            (_list(_entry(Path("relative"))), "to have an absolute path or URI"),
            (_list(_entry(other).replace('"tensorflow"', '"torch"')), "unsupported platform torch"),
            ("custom_model_config { }", "Only ModelConfigList is currently supported"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                reload(channel, text)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in str(caught.value.details())
        assert added(server, "/v1/models/second") == 3


def test_the_model_config_file_is_polled(model_server: Launch, base: Path, place: Place, tmp_path: Path) -> None:
    place(1)
    place(2)
    file = tmp_path / "models.config"
    file.write_text(_list(_entry(base, _specific(1))))
    server = model_server([f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1"])
    assert server.states("adder") == {1: "AVAILABLE"}
    file.write_text("model_config_list { config {")
    fresh = file.with_suffix(".new")
    fresh.write_text(_list(_entry(base, _specific(2))))
    eventually(lambda: "1:2" in server.log.read_text() or not EMBEDDED)
    fresh.rename(file)
    server.reaches("adder", {2: "AVAILABLE"})
    assert added(server) == 2
