"""Each guard: what it lets pass, what it waits for, what it stops, and the words it finds."""

from __future__ import annotations

import pytest

from serving.traffic.judging import Judgement, judge
from serving.traffic.outcomes import Evidence
from serving.traffic.state import Guards, TrafficState
from serving.traffic.tallies import Tally

NOW = 10_000.0


def state(weight: float = 0.1, step: int = 0, **guards: object) -> TrafficState:
    return TrafficState(
        model="pets",
        base_path="/pets",
        stable=2,
        canary=3,
        weight=weight,
        phase="running",
        steps=(0.1, 1.0),
        step=step,
        step_started=NOW - 100,
        guards=Guards.model_validate({"minimum_samples": 400, **guards}),
    )


def tally(count: int = 1000, *, failures: int = 0, ms: float = 10.0, classes: int = 4, sure: float = 0.0) -> Tally:
    found = Tally()
    for number in range(count):
        found.answer(
            number >= failures,
            200,
            ms * (1 + (number % 50) / 50),
            number % classes,
            0.5 + (number * 7 % 100) / 250 + sure,
            f"id-{number}",
        )
    return found


def judged(stable: Tally, canary: Tally, found: TrafficState | None = None) -> Judgement:
    evidence = Evidence(stable=stable, canary=canary)
    return judge(found or state(), evidence, evidence, NOW)


def verdict(judgement: Judgement, guard: str) -> tuple[str, str]:
    finding = next(each for each in judgement.findings if each.guard == guard)
    return finding.verdict, finding.text


def test_a_canary_like_stable_advances_and_at_the_last_step_is_promoted() -> None:
    assert judged(tally(), tally()).action == "advance"
    assert judged(tally(), tally(), state(1.0, step=1)).action == "promote"


def test_too_few_answers_wait() -> None:
    found = judged(tally(), tally(399))

    assert found.action == "wait"
    assert found.reasons == ("samples: 399 answers of the canary, 1000 of stable; each needs 400",)


def test_a_step_lasts_its_time() -> None:
    found = judged(tally(), tally(), state(minimum_seconds=200))

    assert found.action == "wait"
    assert "has lasted 100 s of 200 s" in found.reasons[0]


def test_errors_stop_it_long_before_the_minimum_of_samples() -> None:
    found = judged(tally(), tally(30, failures=15))

    assert found.action == "rollback"
    assert "50.00% (15 of 30) of the canary's answers failed" in found.reasons[0]
    assert "decisive from 800" in found.reasons[0]  # 0.01 shared by two steps and four guards.
    assert "id-14" in found.reasons[0]


def test_a_suspicion_of_errors_waits() -> None:
    verdict_, text = verdict(judged(tally(), tally(500, failures=6)), "errors")

    assert verdict_ == "wait"
    assert "not certain yet" in text


def test_errors_that_stable_has_as_well_are_not_the_canarys_fault() -> None:
    assert judged(tally(failures=300), tally(failures=300)).action == "advance"


def test_a_small_increase_of_errors_is_tolerated() -> None:
    assert judged(tally(failures=10), tally(failures=13)).action == "advance"


def test_a_slow_tail_stops_it() -> None:
    found = judged(tally(), tally(200, ms=40))

    assert found.action == "rollback"
    assert all(reason.startswith("latency: p9") for reason in found.reasons)
    assert "p95 is" in found.reasons[0] and "the limit" in found.reasons[0]


def test_a_few_slow_answers_wait() -> None:
    canary = tally(480)
    for _ in range(26):
        canary.answer(True, 200, 500.0, 0, 0.7)

    assert verdict(judged(tally(), canary), "latency")[0] == "wait"


def test_tiny_times_may_grow_by_the_floor() -> None:
    assert judged(tally(ms=0.5), tally(ms=2.0)).action == "advance"


def test_other_classes_stop_it() -> None:
    found = judged(tally(), tally(classes=2))

    assert found.action == "rollback"
    assert "stability index of the predicted classes" in found.reasons[0]
    assert "most of it from class" in found.reasons[0]


def test_other_confidences_stop_it() -> None:
    found = judged(tally(sure=0.09), tally(sure=-0.4))

    assert found.action == "rollback"
    assert "the canary's are lower" in found.reasons[0]


@pytest.mark.parametrize(("on_drift", "action"), [("hold", "hold"), ("ignore", "advance")])
def test_drift_can_be_wanted(on_drift: str, action: str) -> None:
    assert judged(tally(), tally(classes=2), state(on_drift=on_drift)).action == action


def test_users_who_call_it_wrong_stop_it() -> None:
    stable, canary = tally(), tally()
    stable.right, stable.wrong, canary.right, canary.wrong = 95, 5, 40, 60

    found = judged(stable, canary)

    assert found.action == "rollback"
    assert "users called 40.00% (40 of 100) of the canary's answers right" in found.reasons[0]


def test_nothing_to_compare_with_waits() -> None:
    found = judged(Tally(), tally())

    assert found.action == "wait"
    assert "nothing that the canary could be compared with" in found.reasons[0]


def test_stable_is_taken_from_the_whole_rollout_where_the_step_has_too_little() -> None:
    step = Evidence(stable=tally(10, failures=10), canary=tally())
    rollout = Evidence(stable=tally(2000), canary=tally(2000))

    assert judge(state(1.0, step=1), step, rollout, NOW).action == "promote"


def test_a_step_without_users_is_judged_by_shadow_answers() -> None:
    evidence = Evidence(stable=tally(), shadow=tally(30, failures=15))

    assert judge(state(0.0), evidence, evidence, NOW).action == "rollback"
