from __future__ import annotations

from typing import Any

import pytest

from serving.client.errors import ClientError, InvalidRequest, Unavailable, error_of
from serving.client.retries import RetryBudget
from serving.server.status import Code


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def longest(low: float, high: float) -> float:
    return high


def budget(**options: Any) -> RetryBudget:
    return RetryBudget(**{"clock": Clock(), "uniform": longest, "per_second": 0.0} | options)


def test_waits_double_up_to_the_cap() -> None:
    made = budget(attempts=9, base_seconds=0.1, cap_seconds=0.5)
    waits = [made.wait_seconds(Unavailable("down"), attempt, 60.0) for attempt in range(1, 6)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_waits_are_spread_from_zero() -> None:
    seen: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        seen.append((low, high))
        return low

    assert budget(uniform=uniform, base_seconds=0.1).wait_seconds(Unavailable("down"), 1, 60.0) == 0.0
    assert seen == [(0.0, 0.1)]


def test_the_last_attempt_is_the_last() -> None:
    made = budget(attempts=3)
    assert made.wait_seconds(Unavailable("down"), 2, 60.0) is not None
    assert made.wait_seconds(Unavailable("down"), 3, 60.0) is None


@pytest.mark.parametrize("code", [code for code in Code if code not in (Code.OK, Code.UNAVAILABLE)])
def test_only_unavailable_is_repeated(code: Code) -> None:
    assert budget().wait_seconds(error_of(code, "no"), 1, 60.0) is None


def test_a_quota_is_asked_again_only_when_the_server_names_the_moment() -> None:
    assert budget().wait_seconds(error_of(Code.RESOURCE_EXHAUSTED, "slow down", 3.0), 1, 60.0) == pytest.approx(3.05)


def test_retry_after_is_waited_for_or_not_at_all() -> None:
    error = Unavailable("down", retry_after_seconds=5.0)
    made = budget()
    assert made.wait_seconds(error, 1, 6.0) == pytest.approx(5.05)
    tokens = made.tokens
    assert made.wait_seconds(error, 1, 5.0) is None
    assert made.tokens == tokens


def test_the_bucket_runs_empty_and_calls_fill_it() -> None:
    made = budget(capacity=2.0, ratio=0.5, attempts=99)

    def retry() -> bool:
        return made.wait_seconds(Unavailable("down"), 1, 60.0) is not None

    assert [retry() for _ in range(4)] == [True, True, False, False]
    made.deposit()
    assert not retry()
    made.deposit()
    assert retry()
    for _ in range(100):
        made.deposit()
    assert made.tokens == 2.0


def test_time_fills_the_bucket_too() -> None:
    clock = Clock()
    made = budget(capacity=1.0, per_second=0.5, clock=clock)
    assert made.wait_seconds(Unavailable("down"), 1, 60.0) is not None
    clock.now += 1.0
    assert made.tokens == pytest.approx(0.5)
    clock.now += 100.0
    assert made.tokens == 1.0
    clock.now -= 50.0
    assert made.tokens == 1.0


def test_a_down_server_gets_a_fixed_share_more_load() -> None:
    made = budget(capacity=5.0, ratio=0.1, attempts=4)
    sent = 0
    for _ in range(1000):
        made.deposit()
        attempt = 1
        while made.wait_seconds(Unavailable("down"), attempt, 60.0) is not None:
            attempt += 1
        sent += attempt
    assert 1000 < sent <= 1000 + 5 + 100


@pytest.mark.parametrize(
    "options", [{"attempts": 0}, {"ratio": -1}, {"capacity": -1}, {"per_second": -1}, {"base_seconds": -1}]
)
def test_settings_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="expected attempts"):
        RetryBudget(**options)


def test_errors_carry_code_and_message() -> None:
    error = error_of(Code.FAILED_PRECONDITION, "no such signature")
    assert isinstance(error, InvalidRequest) and isinstance(error, ClientError)
    assert (error.code, error.message) == (Code.FAILED_PRECONDITION, "no such signature")
    assert str(error) == "FAILED_PRECONDITION: no such signature"
