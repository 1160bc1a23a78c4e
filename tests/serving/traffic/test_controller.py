"""Starting, promoting and giving up a canary, by hand and automatically."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from serving.errors import Refused
from serving.traffic import history
from serving.traffic.controller import watch
from serving.traffic.rollout import ensure
from serving.traffic.state import TrafficError, TrafficState
from tests.serving.traffic.fakes import FakeServer, Scene


def good_step(scene: Scene) -> None:
    """Enough unsuspicious answers of both versions for the present step, and its time."""
    scene.answers("stable", 2, 300)
    scene.answers("canary", 3, 300)
    scene.clock.sleep(31)


def test_a_canary_gets_users_only_once_it_answers(scene: Scene) -> None:
    weights_while_loading = []
    scene.server.load_turns = 5
    scene.server.on_tell = lambda: weights_while_loading.append((scene.state.weight, 3 in scene.server.available))

    state = scene.controller.start()

    assert (state.phase, state.canary, state.weight) == ("running", 3, 0.05)
    assert scene.server.answer("canary") == 3
    assert scene.server.answer("stable") == 2
    assert all(weight == 0 for weight, _ in weights_while_loading)


def test_promotion_moves_both_labels_at_once_and_then_lets_the_old_version_go(scene: Scene) -> None:
    scene.controller.start()
    scene.server.calls.clear()

    state = scene.controller.promote(force=True)

    assert (state.stable, state.canary, state.previous, state.phase) == (3, None, 2, "idle")
    assert scene.server.calls == ["[2, 3] 3 3", "[3] 3 3"]
    assert scene.server.unserved == []


def test_abort_takes_the_users_back_before_the_server_is_told(scene: Scene) -> None:
    scene.controller.start()
    scene.server.calls.clear()
    weights = []
    scene.server.on_tell = lambda: weights.append(scene.state.weight)

    state = scene.controller.abort("looks odd")

    assert (state.stable, state.canary, state.phase) == (2, None, "idle")
    assert scene.server.calls == ["[2, 3] 2 2", "[2] 2 2"]
    assert weights == [0.0, 0.0]
    assert "looks odd" in [reason for entry in history.read(scene.state_dir) for reason in entry.reasons]


def test_promotion_by_hand_is_refused_while_a_guard_is_not_satisfied(scene: Scene) -> None:
    scene.controller.start()

    with pytest.raises(Refused, match="0 answers of the canary") as caught:
        scene.controller.promote()

    assert caught.value.exit_code == 3
    assert scene.state.phase == "running"


def test_promotion_by_hand_succeeds_when_the_guards_are_satisfied(scene: Scene) -> None:
    scene.controller.start()
    good_step(scene)

    assert scene.controller.promote().stable == 3


def test_a_rollout_goes_through_its_steps_by_itself(scene: Scene) -> None:
    scene.controller.start()
    watcher = scene.another(by="watch")
    weights = [scene.state.weight]
    for _ in range(4):
        good_step(scene)
        weights.append(watcher.tick().weight)
    watcher.settle()

    assert weights == [0.05, 0.25, 0.5, 1.0, 1.0]
    assert (scene.state.stable, scene.state.canary, scene.state.phase) == (3, None, "idle")
    actions = [entry.action for entry in history.read(scene.state_dir)]
    assert actions == ["pin", "start", "serve", "advance", "advance", "advance", "promote", "promoted"]


def test_a_step_waits_for_its_samples_and_its_time(scene: Scene) -> None:
    scene.controller.start()
    scene.answers("stable", 2, 300)
    scene.answers("canary", 3, 199)
    scene.clock.sleep(31)
    assert scene.controller.tick().step == 0
    scene.answers("canary", 3, 1)
    assert scene.controller.tick().step == 1
    good_step(scene)
    scene.clock.now -= 20
    assert scene.controller.tick().step == 1


def test_a_canary_that_fails_is_rolled_back_with_reasons(scene: Scene) -> None:
    scene.controller.start()
    scene.answers("stable", 2, 300)
    scene.answers("canary", 3, 40, failures=20)

    scene.controller.tick()
    state = scene.controller.settle()

    assert (state.stable, state.canary, state.weight) == (2, None, 0.0)
    entry = next(entry for entry in history.read(scene.state_dir) if entry.action == "rollback")
    assert "50.00% (20 of 40) of the canary's answers failed, 0.00% (0 of 300) of stable's" in entry.reasons[0]
    assert "request-canary-19" in entry.reasons[0]


def test_answers_of_an_earlier_step_do_not_count_for_the_next(scene: Scene) -> None:
    scene.controller.start()
    good_step(scene)
    assert scene.controller.tick().step == 1
    scene.clock.sleep(31)

    assert scene.controller.tick().step == 1


def test_at_a_weight_of_one_the_earlier_answers_of_stable_are_the_measure(scene: Scene) -> None:
    scene.controller.start(steps=(0.5, 1.0))
    good_step(scene)
    assert scene.controller.tick().weight == 1.0
    scene.answers("canary", 3, 300)
    scene.clock.sleep(31)

    assert scene.controller.tick().phase == "promoting"


def test_a_rollout_by_hand_is_left_alone(scene: Scene) -> None:
    scene.controller.start(automatic=False)
    scene.answers("stable", 2, 300)
    scene.answers("canary", 3, 300, failures=300)

    assert scene.controller.tick().phase == "running"


def test_drift_can_wait_for_a_person(state_dir: Path) -> None:
    scene = Scene(state_dir, on_drift="hold")
    scene.controller.start()
    scene.answers("stable", 2, 300)
    scene.answers("canary", 3, 300, classes=(2,))
    scene.clock.sleep(31)
    scene.controller.tick()

    state = scene.controller.tick()

    assert (state.phase, state.step) == ("running", 0)
    assert [entry.action for entry in history.read(state_dir)].count("hold") == 1


def test_roll_back_brings_the_earlier_version_back(scene: Scene) -> None:
    scene.controller.start()
    scene.controller.promote(force=True)
    scene.server.calls.clear()

    state = scene.controller.roll_back()

    assert (state.stable, state.previous, state.canary) == (2, 3, None)
    assert scene.server.answer("stable") == 2
    assert scene.server.unserved == []


def test_nothing_to_roll_back_to(scene: Scene) -> None:
    with pytest.raises(TrafficError, match="first one that was stable"):
        scene.controller.roll_back()


def test_one_canary_at_a_time(scene: Scene) -> None:
    scene.controller.start()

    with pytest.raises(TrafficError, match="version 3 is on trial already"):
        scene.another().start(1)


@pytest.mark.parametrize(
    ("version", "message"),
    [(2, "version 2 is stable already"), (9, "version 9 is not published; .* holds 1, 2, 3")],
)
def test_a_version_that_is_not_fit_is_refused(scene: Scene, version: int, message: str) -> None:
    with pytest.raises(TrafficError, match=message):
        scene.controller.start(version)

    assert scene.server.calls == ["start"]


def test_a_damaged_version_is_refused(scene: Scene, published: Path) -> None:
    (published / "3" / "saved_model.pb").write_bytes(b"other")

    with pytest.raises(TrafficError, match=r"version 3 is damaged: saved_model\.pb was changed"):
        scene.controller.start(3)


def test_without_a_newer_version_there_is_nothing_to_try(scene: Scene, published: Path) -> None:
    shutil.rmtree(published / "3")

    with pytest.raises(TrafficError, match="no intact version newer than 2"):
        scene.controller.start()


def test_an_older_version_can_be_tried_by_name(scene: Scene) -> None:
    assert scene.controller.start(1).canary == 1


@pytest.mark.parametrize("steps", [(0.5, 0.2), (1.5,), ()])
def test_steps_must_be_growing_shares(scene: Scene, steps: tuple[float, ...]) -> None:
    with pytest.raises(TrafficError, match="the steps cannot be used"):
        scene.controller.start(steps=steps)


def test_a_version_that_does_not_load_never_gets_users(scene: Scene) -> None:
    scene.server.broken[3] = "Could not find variable"

    with pytest.raises(TrafficError, match="cannot load version 3: Could not find variable"):
        scene.controller.start()

    assert (scene.state.phase, scene.state.weight) == ("idle", 0.0)
    assert scene.server.answer("stable") == 2
    assert max(state.weight for state in scene.seen) == 0


def test_a_version_that_takes_too_long_is_given_up(scene: Scene) -> None:
    scene.server.load_turns = 10_000

    with pytest.raises(TrafficError, match="not loaded within 6"):
        scene.controller.start()

    assert scene.state.phase == "idle"


def test_a_start_without_a_server_ends_at_once_and_changes_nothing(scene: Scene) -> None:
    scene.server.down = True
    before, began = (scene.state_dir / "traffic.json").read_bytes(), scene.clock.now

    with pytest.raises(
        TrafficError, match=r"no model server answers at grpc://fake:8500 \(UNAVAILABLE: Conn"
    ) as caught:
        scene.controller.start()

    said = str(caught.value)
    assert "`slipway serve --rollout=manual`" in said and "--server" in said and "nothing was changed" in said
    assert caught.value.exit_code == 2
    assert (scene.state_dir / "traffic.json").read_bytes() == before
    assert scene.clock.now == began


def test_every_server_is_asked_before_a_start(scene: Scene) -> None:
    other = FakeServer(scene.state_dir, address="grpc://other:8500")
    other.down = True
    scene.controller.stepper._servers = [scene.server, other]

    with pytest.raises(TrafficError, match="no model server answers at grpc://other:8500"):
        scene.controller.start()

    assert scene.state.phase == "idle"


def test_a_server_that_goes_down_while_it_loads_keeps_users_on_stable(scene: Scene) -> None:
    scene.server.on_tell = lambda: setattr(scene.server, "down", True)

    with pytest.raises(TrafficError, match="grpc://fake:8500 cannot be reached") as caught:
        scene.controller.start()

    assert "refuses" not in str(caught.value)
    assert "such as `slipway canary abort --server http://127.0.0.1:8501`" in str(caught.value)
    assert scene.state.weight == 0
    scene.server.on_tell = lambda: None
    scene.server.down = False
    assert scene.controller.settle().phase == "idle"


@pytest.mark.parametrize(("phase", "command"), [("aborting", "abort"), ("promoting", "promote")])
def test_a_start_beside_an_unfinished_end_names_the_command_that_finishes_it(
    scene: Scene, phase: str, command: str
) -> None:
    state = scene.controller.start()
    scene.controller.stepper.save(state.changed(phase=phase, weight=0.0))

    with pytest.raises(TrafficError, match=f"`slipway canary {command} --server http://127.0.0.1:8501`"):
        scene.another().start(1)


def test_abort_works_on_users_even_if_the_server_is_down(scene: Scene) -> None:
    scene.controller.start()
    scene.server.down = True

    with pytest.raises(TrafficError, match="Version 2 answers everyone"):
        scene.controller.abort()

    assert (scene.state.phase, scene.state.weight) == ("aborting", 0.0)
    scene.server.down = False
    assert scene.controller.settle().canary is None


def test_a_canary_deleted_from_disk_is_given_up(scene: Scene, published: Path) -> None:
    scene.controller.start()
    shutil.rmtree(published / "3")

    scene.controller.tick()
    state = scene.controller.settle()

    assert state.canary is None
    assert any("was deleted" in reason for entry in history.read(scene.state_dir) for reason in entry.reasons)


def test_a_canary_that_a_server_lost_is_given_up_after_a_while(scene: Scene) -> None:
    scene.controller.start()
    scene.server.available.discard(3)
    scene.server.loading[3] = 10_000
    scene.server.labels.pop("canary")

    assert scene.controller.tick().phase == "running"
    scene.clock.sleep(31)
    assert scene.controller.tick().phase == "aborting"


def test_a_server_that_starts_again_has_the_same_labels(scene: Scene, published: Path) -> None:
    scene.controller.start()
    ensure(published, "pets", scene.state_dir)
    scene.server.start()

    assert (scene.server.answer("stable"), scene.server.answer("canary")) == (2, 3)
    assert scene.controller.tick().weight == 0.05


def test_a_lost_config_file_is_written_again(scene: Scene) -> None:
    scene.controller.start()
    (scene.state_dir / "models.config").unlink()
    scene.controller.tick()

    assert "versions: 3" in (scene.state_dir / "models.config").read_text()


def test_two_starts_at_once_make_one_rollout(scene: Scene) -> None:
    results: list[object] = []

    def start() -> None:
        try:
            results.append(scene.another().start())
        except TrafficError as error:
            results.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (scene.state.canary, scene.state.phase) == (3, "running")
    assert [entry.action for entry in history.read(scene.state_dir)].count("start") == 1


def test_all_servers_must_follow(state_dir: Path) -> None:
    scene = Scene(state_dir)
    slow = FakeServer(state_dir, load_turns=7, address="grpc://slow:8500")
    scene.controller.stepper._servers = [scene.server, slow]

    scene.controller.start()

    assert slow.answer("canary") == 3


def test_a_server_that_polls_the_file_is_waited_for(scene: Scene) -> None:
    scene.server.polls_every = 7
    seen: list[tuple[str, int, int]] = []

    def listen(state: TrafficState) -> None:
        seen.append((state.phase, state.stable, scene.server.labels["stable"]))
        if state.phase == "running":
            assert scene.server.labels["canary"] == 3

    controller = scene.another(listeners=(listen,))
    controller.start()
    controller.promote(force=True)

    # The state calls version 3 stable only when the server does.
    assert ("cleaning", 3, 3) in seen
    assert all(state == server for phase, state, server in seen if phase in ("cleaning", "idle"))
    assert scene.server.unserved == []


def test_the_listener_sees_the_weight_and_may_fail(scene: Scene) -> None:
    weights = []

    def listen(state: object) -> None:
        weights.append(state.weight)  # type: ignore[attr-defined]
        raise OSError("no space left")

    scene.another(listeners=(listen,)).start()

    assert weights[-1] == 0.05


def test_watch_goes_on_after_errors_until_told_to_stop(scene: Scene) -> None:
    scene.controller.start()
    stop, ticks = threading.Event(), []

    class Unlucky:
        stepper = scene.controller.stepper

        def tick(self) -> None:
            ticks.append(1)
            if len(ticks) == 3:
                stop.set()
            raise TrafficError("no luck")

    settings = scene.settings.model_copy(update={"poll_seconds": 0.001})
    watch(settings, stop, controller=Unlucky())  # type: ignore[arg-type]

    assert len(ticks) == 3
