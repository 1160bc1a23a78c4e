"""The status at a terminal: readable at any width, and about the trial that counts."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from serving.traffic import commands
from serving.traffic.commands import CanaryStatus
from serving.traffic.state import TrafficError
from serving.traffic.terminal import status_table
from tests.serving.traffic.fakes import Scene


def printed(status: CanaryStatus, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(status_table(status))
    return stream.getvalue()


def asked(scene: Scene) -> CanaryStatus:
    return commands.status(scene.settings, controller=scene.controller)


@pytest.fixture()
def on_trial(scene: Scene) -> Scene:
    """A canary with answers, shadow answers, feedback, and a step that it has passed."""
    scene.controller.start(shadow=True)
    scene.answers("stable", 2, 300)
    scene.answers("canary", 3, 300)
    scene.clock.sleep(31)
    scene.another(by="watch").tick()
    scene.answers("canary", 3, 60, failures=2)
    scene.outcomes.record_shadow(3, True, 200, 5.0, 1, 0.9, agreed=True)
    for number in range(8):
        scene.outcomes.record_feedback("stable", 2, right=number < 4)
        scene.outcomes.record_feedback("canary", 3, right=number < 6)
    scene.outcomes.flush()
    return scene


@pytest.mark.parametrize("width", [60, 80, 160])
def test_nothing_is_cut_at_any_width(on_trial: Scene, width: int) -> None:
    text = printed(asked(on_trial), width)

    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for measure in ("version", "answers", "failed", "p50 ms", "p95 ms", "p99 ms", "right", "wrong", "accuracy"):
        assert any(line.split("  ")[0].strip() == measure for line in text.splitlines()), measure


def test_each_version_has_a_column_of_its_own(on_trial: Scene) -> None:
    lines = [line.split() for line in printed(asked(on_trial), 80).splitlines()]

    assert ["stable", "canary", "shadow"] in lines
    assert ["version", "2", "3", "3"] in lines
    assert ["answers", "300", "360", "1"] in lines
    assert ["right", "4", "6", "0"] in lines


def test_decisions_are_lines_that_say_from_where_to_where(on_trial: Scene) -> None:
    text = printed(asked(on_trial), 160)

    assert "2023-11-14 22:13 UTC  start by command: version 3 against 2, steps 5%, 25%, 50%, 100%" in text
    assert "serve by command, 0% → 5%: version 3 answers on 1 server(s)" in text
    assert "advance by watch, 5% → 25%: " in text
    assert "pin" not in text  # which came before this trial


def test_a_decision_by_command_says_so_once(on_trial: Scene) -> None:
    on_trial.server.on_tell = lambda: setattr(on_trial.server, "down", True)
    with pytest.raises(TrafficError, match="cannot be reached"):
        on_trial.controller.promote(force=True)

    text = printed(asked(on_trial), 160)

    assert "promote by command: forced; " in text
    assert "by command: by command" not in text


def test_without_a_canary_only_the_outcome_of_the_last_trial_is_shown(on_trial: Scene) -> None:
    on_trial.controller.abort("looks odd")
    on_trial.controller.start(1)
    on_trial.controller.abort("of no use")

    text = printed(asked(on_trial), 80)

    assert "Last trial: version 1 was rolled back at 2023-11-14 22:13 UTC (by command): of no use" in " ".join(
        text.split()
    )
    for other in ("Not decided", "to compare yet", "looks odd", "against", "answers everyone on"):
        assert other not in text


def test_the_outcome_of_a_trial_with_answers_has_its_figures(on_trial: Scene) -> None:
    on_trial.controller.promote(force=True)

    text = printed(asked(on_trial), 160)

    assert "Last trial: version 3 was promoted at 2023-11-14 22:13 UTC (by command): forced" in text
    assert "p95 ms" in text
    assert "Not decided at 95%: right answers: canary 75.00% of 8" in text


def test_what_was_never_compared_is_not_mentioned_after_the_end(scene: Scene) -> None:
    scene.controller.start()
    scene.answers("stable", 2, 10)
    assert "Not decided: users have not called" in printed(asked(scene), 160)

    scene.controller.abort("of no use")

    text = printed(asked(scene), 160)
    assert "answers" in text
    assert "Not decided" not in text and "to compare yet" not in text


def test_before_the_first_trial_there_is_nothing_but_who_answers(scene: Scene) -> None:
    assert printed(asked(scene), 80).splitlines() == [
        "pets: version 2 answers everyone; no canary",
        "grpc://fake:8500: 2 AVAILABLE",
    ]


def test_a_trial_whose_version_was_gone_at_a_restart_has_an_outcome(scene: Scene) -> None:
    state = scene.controller.start()
    gone = {"canary": None, "weight": 0.0, "phase": "idle"}
    scene.controller.stepper.save(state.decided("rolled-back", ("3 is gone",), by="serve", now=0.0, **gone))

    assert "version 3 was rolled back at 1970-01-01 00:00 UTC (by serve): 3 is gone" in printed(asked(scene), 160)
