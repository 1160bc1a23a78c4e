"""The manager: from base paths and configs to versions that answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import ModelLoadError, RunError
from serving.publish import publish
from serving.server.config.models import single_model
from serving.server.config.settings import LifecycleSettings
from serving.server.lifecycle import source
from serving.server.lifecycle.manager import ModelManager
from serving.server.model_spec import ModelSpec
from serving.server.status import Code, StatusError
from tests.serving.server.lifecycle.fakes import FakeLoader, add_version, remove_version
from tests.serving.server.waiting import eventually

_BAD = ModelLoadError("the graph is damaged")


@pytest.fixture()
def base(tmp_path: Path) -> Path:
    path = tmp_path / "m"
    path.mkdir()
    return path


@pytest.fixture()
def loader() -> FakeLoader:
    return FakeLoader()


Make = Callable[..., ModelManager]


@pytest.fixture()
def make(loader: FakeLoader, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Maker of managers that poll without a pause and take new directories for finished."""
    monkeypatch.setattr(source, "SETTLE_SECONDS", 0)
    made: list[ModelManager] = []

    def maker(**settings: Any) -> ModelManager:
        values = {"poll_seconds": 0.02, "retry_seconds": 0.0, "max_retries": 1, **settings}
        made.append(ModelManager(LifecycleSettings(**values), loader))
        return made[-1]

    yield maker
    for manager in made:
        assert manager.stop(), "something was never given back"


@pytest.fixture()
def started(make: Make, base: Path) -> Callable[..., ModelManager]:
    """Starts a manager of the model `m` and waits for its first version."""

    def start(**settings: Any) -> ModelManager:
        manager = make(**settings)
        manager.start(single_model("m", str(base)))
        assert manager.wait_until_available(["m"], timeout_seconds=60) == ""
        return manager

    return start


def _states(manager: ModelManager, name: str = "m") -> dict[int, str]:
    try:
        return {state.version: state.state for state in manager.states(ModelSpec(name))}
    except StatusError:
        return {}


def _reaches(manager: ModelManager, expected: dict[int, str], name: str = "m") -> None:
    eventually(lambda: _states(manager, name) == expected, what=f"{expected}, found {_states(manager, name)}")


def _latest(manager: ModelManager, **spec: Any) -> int:
    with manager.acquire(ModelSpec("m", **spec)) as handle:
        return handle.version


def _config(*models: str) -> Any:
    text = "".join(f"config {{ {model} }}" for model in models)
    return text_format.Parse(f"model_config_list {{ {text} }}", model_server_config_pb2.ModelServerConfig())


def _model(base: Path, more: str = "", name: str = "m") -> str:
    return f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more}'


def _specific(*versions: int) -> str:
    return f"model_version_policy {{ specific {{ {' '.join(f'versions: {v}' for v in versions)} }} }}"


def _refused(call: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(StatusError) as caught:
        call()
    return caught.value.code, caught.value.message


def test_the_newest_version_is_served(started: Make, base: Path, loader: FakeLoader) -> None:
    for number in (1, "00000012", 3):
        add_version(base, number)
    manager = started()
    assert _latest(manager) == 12
    assert _latest(manager, version=12) == 12
    assert loader.calls == [("m", 12)]
    assert [state.state for state in manager.states(ModelSpec("m", version=12))] == ["AVAILABLE"]


def test_words_for_what_is_not_there(started: Make, base: Path) -> None:
    add_version(base, 1)
    manager = started()
    spec = ModelSpec
    expected = {
        spec("x"): (Code.NOT_FOUND, "Servable not found for request: Latest(x)"),
        spec("m", 7): (Code.NOT_FOUND, "Servable not found for request: Specific(m, 7)"),
        spec("m", 0): (Code.NOT_FOUND, "Servable not found for request: Specific(m, 0)"),
        spec("m", label="L"): (Code.INVALID_ARGUMENT, "Unrecognized servable version label: L"),
        spec("x", label="L"): (Code.INVALID_ARGUMENT, "Unrecognized servable version label: L"),
        spec(""): (Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    }
    assert {asked: _refused(lambda asked=asked: manager.acquire(asked)) for asked in expected} == expected  # type: ignore[misc]
    assert _refused(lambda: manager.states(spec("x"))) == (Code.NOT_FOUND, "Could not find any versions of model x")
    assert _refused(lambda: manager.states(spec("m", 7))) == (Code.NOT_FOUND, "Could not find version 7 of model m")
    assert _refused(lambda: manager.states(spec("x", 7))) == (Code.NOT_FOUND, "Could not find version 7 of model x")
    assert len(manager.states(spec("m", label="any"))) == 1, "a label is passed over, as in TensorFlow Serving"


def test_a_new_version_takes_over_only_when_it_is_available(started: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    manager = started()
    gate = loader.hold(2)
    add_version(base, 2)
    _reaches(manager, {1: "AVAILABLE", 2: "LOADING"})
    assert _latest(manager) == 1
    held = manager.acquire(ModelSpec("m"))
    gate.set()
    _reaches(manager, {1: "UNLOADING", 2: "AVAILABLE"})
    assert _latest(manager) == 2
    assert _refused(lambda: manager.acquire(ModelSpec("m", 1)))[0] is Code.NOT_FOUND
    held.servable.run("", {})
    assert not loader.servables["m", 1].closed, "somebody still uses it"
    held.release()
    _reaches(manager, {1: "END", 2: "AVAILABLE"})
    assert loader.servables["m", 1].closed


def test_no_request_fails_while_versions_are_swapped(started: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    manager = started()
    stop = threading.Event()
    seen: list[list[int]] = []
    failures: list[BaseException] = []

    def ask() -> None:
        mine: list[int] = []
        try:
            while not stop.is_set():
                with manager.acquire(ModelSpec("m")) as handle:
                    mine.append(int(handle.servable.run("", {})["version"][0]))
        except BaseException as error:
            failures.append(error)
        seen.append(mine)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 12):
        add_version(base, number)
        eventually(lambda number=number: _states(manager).get(number - 1) == "END")  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(mine == sorted(mine) for mine in seen), "nobody ever went back to an older version"
    assert {version for mine in seen for version in mine} >= {1, 11}


def test_a_version_that_goes_away_is_replaced_by_the_one_below(started: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    add_version(base, 2)
    manager = started()
    gate = loader.hold(1)
    remove_version(base, 2)
    _reaches(manager, {1: "LOADING", 2: "AVAILABLE"})
    assert _latest(manager) == 2, "the old one serves until the other is available"
    gate.set()
    _reaches(manager, {1: "AVAILABLE", 2: "END"})


def test_all_versions_vanish(started: Make, base: Path) -> None:
    add_version(base, 1)
    manager = started()
    remove_version(base, 1)
    _reaches(manager, {1: "END"})
    assert _refused(lambda: manager.acquire(ModelSpec("m")))[0] is Code.NOT_FOUND
    add_version(base, 1)
    _reaches(manager, {1: "AVAILABLE"})


def test_a_base_path_that_is_away_for_a_moment_changes_nothing(started: Make, base: Path) -> None:
    add_version(base, 1)
    manager = started()
    away = base.with_name("away")
    base.rename(away)
    manager.apply(_config(_model(base)))
    assert _latest(manager) == 1
    add_version(away, 2)
    away.rename(base)
    _reaches(manager, {1: "END", 2: "AVAILABLE"})


def test_a_failing_version_is_tried_again_and_reported_while_the_old_one_serves(
    started: Make, base: Path, loader: FakeLoader
) -> None:
    add_version(base, 1)
    manager = started(max_retries=2)
    loader.fail(2, _BAD, StatusError(Code.INVALID_ARGUMENT, "warm-up"), RunError("no variable", 9))
    add_version(base, 2)
    _reaches(manager, {1: "AVAILABLE", 2: "END"})
    assert loader.attempts(2) == 3
    state = manager.states(ModelSpec("m", 2))[0]
    assert (state.code, state.message) == (Code.FAILED_PRECONDITION, "no variable")
    assert _latest(manager) == 1
    (base / "2" / "saved_model.pb").write_bytes(b"another graph")
    _reaches(manager, {1: "END", 2: "AVAILABLE"})
    assert manager.states(ModelSpec("m", 2))[0].message == ""


def test_between_two_attempts_the_error_is_shown(started: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    manager = started(max_retries=1, retry_seconds=3600)
    loader.fail(2, _BAD)
    add_version(base, 2)
    state = eventually(
        lambda: next((s for s in manager.states(ModelSpec("m")) if s.version == 2 and s.code is not Code.OK), None)
    )
    assert (state.state, state.code, state.message) == (
        "LOADING",
        Code.FAILED_PRECONDITION,
        "the graph is damaged",
    )
    (base / "2" / "saved_model.pb").write_bytes(b"another graph")
    _reaches(manager, {1: "END", 2: "AVAILABLE"})


def test_a_damaged_newest_version_does_not_keep_the_good_one_below_from_starting(
    started: Make, base: Path, loader: FakeLoader
) -> None:
    add_version(base, 1)
    add_version(base, 2)
    loader.fail(2, _BAD, _BAD)
    manager = started()
    assert _latest(manager) == 1
    _reaches(manager, {1: "AVAILABLE", 2: "END"})


def test_no_version_loads(make: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    loader.fail(1, _BAD, _BAD)
    manager = make()
    manager.start(single_model("m", str(base)))
    assert manager.wait_until_available(["m"], timeout_seconds=60) == (
        "1 model(s) did not become available: {{{name: m version: 1} due to error: FAILED_PRECONDITION: the graph is "
        "damaged}, }"
    )
    assert loader.attempts(1) == 2


def test_an_error_nobody_foresaw_is_reported(make: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    loader.fail(1, KeyError("x"), MemoryError())
    manager = make()
    manager.start(single_model("m", str(base)))
    assert "RESOURCE_EXHAUSTED: out of memory" in manager.wait_until_available(["m"], timeout_seconds=60)


def test_a_version_that_is_not_what_its_manifest_says_is_not_loaded(
    started: Make, base: Path, loader: FakeLoader, plain_model: Path
) -> None:
    first = publish(plain_model, base, name="m")
    manager = started()
    (plain_model / "saved_model.pb").write_bytes(b"second")
    hidden = base.with_name("hidden")
    second = publish(plain_model, hidden, name="m")
    number = first.number + second.number
    broken = hidden / str(number)
    second.path.rename(broken)
    (broken / "saved_model.pb").write_bytes(b"secone")
    broken.rename(base / str(number))
    _reaches(manager, {first.number: "AVAILABLE", number: "END"})
    state = manager.states(ModelSpec("m", number))[0]
    assert state.code is Code.DATA_LOSS and "saved_model.pb was changed" in state.message
    assert ("m", number) not in loader.calls


def test_a_directory_without_a_graph_is_never_taken_up(started: Make, base: Path) -> None:
    add_version(base, 1)
    (base / "2").mkdir()
    manager = started()
    add_version(base, 3)
    _reaches(manager, {1: "END", 3: "AVAILABLE"})


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("model_version_policy { all {} }", {1, 2, 3}),
        ("model_version_policy { latest { num_versions: 2 } }", {2, 3}),
        (_specific(1, 3), {1, 3}),
        (_specific(2, 9), {2}),
    ],
)
def test_policies(make: Make, base: Path, policy: str, expected: set[int]) -> None:
    for number in (1, 2, 3):
        add_version(base, number)
    manager = make()
    manager.start(_config(_model(base, policy)))
    _reaches(manager, dict.fromkeys(sorted(expected, reverse=True), "AVAILABLE"))
    assert _latest(manager) == max(expected)


def test_reload_adds_changes_and_removes(started: Make, base: Path, tmp_path: Path) -> None:
    add_version(base, 1)
    add_version(base, 2)
    other = tmp_path / "other"
    add_version(other, 5)
    manager = started()
    manager.reload(_config(_model(base, _specific(1)), _model(other, name="n")))
    assert _states(manager, "n") == {5: "AVAILABLE"}, "a new model is waited for"
    _reaches(manager, {1: "AVAILABLE", 2: "END"})
    manager.reload(_config(_model(other, name="n")))
    _reaches(manager, {1: "END", 2: "END"})
    assert _refused(lambda: manager.acquire(ModelSpec("m")))[0] is Code.NOT_FOUND
    manager.reload(_config(_model(base), _model(other, name="n")))
    _reaches(manager, {1: "END", 2: "AVAILABLE"})


def test_reload_with_another_base_path_keeps_serving(started: Make, base: Path, tmp_path: Path) -> None:
    add_version(base, 1)
    manager = started()
    other = tmp_path / "other"
    add_version(other, 2)
    manager.reload(_config(_model(other)))
    eventually(lambda: _latest(manager) == 2)
    _reaches(manager, {1: "END", 2: "AVAILABLE"})


def test_a_reload_that_is_refused_changes_nothing(started: Make, base: Path, tmp_path: Path) -> None:
    add_version(base, 1)
    add_version(base, 2)
    manager = started()
    bad = {
        _model(tmp_path / "gone", name="n"): f"Could not find base path {tmp_path / 'gone'} for servable n",
        _model(base, name="n") + 'version_labels { key: "a" value: 1 }': "Request to assign label to version 1 of "
        "model n, which is not currently available for inference",
        'name: "n" base_path: "relative" model_platform: "tensorflow"': "Expected model n to have an absolute path",
    }
    for model, words in bad.items():
        code, message = _refused(lambda model=model: manager.reload(_config(_model(base, _specific(1)), model)))  # type: ignore[misc]
        assert words in message
        assert code is (Code.FAILED_PRECONDITION if "label" in words else Code.INVALID_ARGUMENT)
    code, message = _refused(lambda: manager.reload(model_server_config_pb2.ModelServerConfig()))
    assert code is Code.INVALID_ARGUMENT and "Only ModelConfigList is currently supported" in message
    assert _states(manager) == {2: "AVAILABLE"}


def test_reload_with_a_model_that_does_not_load(started: Make, base: Path, tmp_path: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    manager = started()
    other = tmp_path / "other"
    add_version(other, 9)
    loader.fail(9, _BAD, _BAD)
    code, message = _refused(lambda: manager.reload(_config(_model(base), _model(other, name="n"))))
    assert code is Code.UNKNOWN
    assert message.startswith("1 model(s) did not become available: {{{name: n version: 9} due to error: FAILED_PREC")
    assert _latest(manager) == 1


def test_reload_does_not_wait_for_versions_that_nobody_published(started: Make, base: Path, tmp_path: Path) -> None:
    add_version(base, 1)
    manager = started()
    empty = tmp_path / "empty"
    empty.mkdir()
    manager.reload(_config(_model(base), _model(empty, name="n")))
    assert _states(manager, "n") == {}
    add_version(empty, 1)
    _reaches(manager, {1: "AVAILABLE"}, "n")


_BOTH = "model_version_policy { all {} }"


def _label(**labels: int) -> str:
    return " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())


def test_labels_move_between_available_versions(started: Make, base: Path) -> None:
    add_version(base, 1)
    add_version(base, 2)
    manager = started()
    manager.reload(_config(_model(base, _BOTH)))
    _reaches(manager, {1: "AVAILABLE", 2: "AVAILABLE"})
    manager.reload(_config(_model(base, _BOTH + _label(stable=1, canary=2))))
    assert (_latest(manager, label="stable"), _latest(manager, label="canary")) == (1, 2)
    manager.reload(_config(_model(base, _BOTH + _label(stable=2))))
    assert _latest(manager, label="stable") == 2
    assert _refused(lambda: manager.acquire(ModelSpec("m", label="canary")))[0] is Code.INVALID_ARGUMENT
    remove_version(base, 2)
    _reaches(manager, {1: "AVAILABLE", 2: "END"})
    code, message = _refused(lambda: manager.acquire(ModelSpec("m", label="stable")))
    assert (code, message) == (Code.NOT_FOUND, "Servable not found for request: Specific(m, 2)")


def test_labels_of_versions_that_are_not_there_yet(make: Make, base: Path) -> None:
    add_version(base, 1)
    config = _config(_model(base, _label(stable=1)))
    code, message = _refused(lambda: make().start(config))
    assert code is Code.FAILED_PRECONDITION
    assert message == (
        "Request to assign label to version 1 of model m, which is not currently available for inference"
    )
    manager = make(labels_for_unavailable=True)
    manager.start(config)
    manager.wait_until_available(["m"], timeout_seconds=60)
    assert _latest(manager, label="stable") == 1
    code, _ = _refused(lambda: manager.reload(_config(_model(base, _label(stable=2)))))
    assert code is Code.FAILED_PRECONDITION, "a label that is in use moves to available versions only"
    assert _latest(manager, label="stable") == 1


def test_one_look_only(started: Make, base: Path) -> None:
    add_version(base, 1)
    manager = started(poll_seconds=0)
    add_version(base, 2)
    manager.reload(_config(_model(base)))
    _reaches(manager, {1: "END", 2: "AVAILABLE"})


def test_loads_run_side_by_side_as_far_as_allowed(started: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    manager = started(load_threads=2)
    gates = [loader.hold(number) for number in (2, 3, 4)]
    for number in (2, 3, 4):
        add_version(base, number)
    manager.reload(_config(_model(base, _BOTH)))
    eventually(lambda: list(_states(manager).values()).count("LOADING") == 2)
    assert _states(manager)[2] == "START", "the highest come first"
    for gate in gates:
        gate.set()
    _reaches(manager, {1: "AVAILABLE", 2: "AVAILABLE", 3: "AVAILABLE", 4: "AVAILABLE"})


def test_a_version_that_vanishes_while_it_loads_is_dropped(started: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    manager = started()
    gate = loader.hold(2)
    add_version(base, 2)
    eventually(lambda: loader.attempts(2))
    remove_version(base, 2)
    eventually(lambda: 2 not in manager._steps.models["m"].found)
    gate.set()
    _reaches(manager, {1: "AVAILABLE", 2: "END"})
    assert loader.servables["m", 2].closed
    assert _latest(manager) == 1


def test_an_empty_config_serves_nothing_until_another_comes(make: Make, base: Path) -> None:
    add_version(base, 1)
    manager = make()
    assert manager.start(model_server_config_pb2.ModelServerConfig()) == set()
    manager.reload(_config(_model(base)))
    assert _latest(manager) == 1


def test_stopping_waits_for_requests(make: Make, base: Path, loader: FakeLoader) -> None:
    add_version(base, 1)
    manager = make()
    manager.start(single_model("m", str(base)))
    manager.wait_until_available(["m"], timeout_seconds=60)
    handle = manager.acquire(ModelSpec("m"))
    assert not manager.stop(timeout_seconds=0.05)
    assert not loader.servables["m", 1].closed
    assert _refused(lambda: manager.acquire(ModelSpec("m")))[0] is Code.NOT_FOUND
    handle.release()
    assert manager.stop()
    assert loader.servables["m", 1].closed


def test_waiting_has_a_limit(make: Make, base: Path) -> None:
    manager = make()
    manager.start(single_model("m", str(base)))
    with pytest.raises(TimeoutError, match=r"m not available after 0\.05 seconds"):
        manager.wait_until_available(["m"], timeout_seconds=0.05)
