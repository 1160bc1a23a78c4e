"""Which versions are wanted, and the steps to get there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.config.models import VersionPolicy
from serving.server.lifecycle.policy import State, Step, next_step, wanted

_numbers = st.sets(st.integers(0, 20), max_size=8)


@pytest.mark.parametrize(
    ("policy", "present", "failing", "expected"),
    [
        (VersionPolicy(), {1, 2, 3}, set(), {3}),
        (VersionPolicy(count=2), {1, 2, 3}, set(), {2, 3}),
        (VersionPolicy(count=5), {1, 2}, set(), {1, 2}),
        (VersionPolicy(), set(), set(), set()),
        (VersionPolicy(), {1, 2, 3}, {3}, {2, 3}),
        (VersionPolicy(), {1, 2, 3}, {3, 2}, {1, 2, 3}),
        (VersionPolicy(count=2), {1, 2, 3, 4}, {4}, {2, 3, 4}),
        (VersionPolicy("all"), {1, 2}, {2}, {1, 2}),
        (VersionPolicy("specific", versions=frozenset({2, 9})), {1, 2}, set(), {2}),
        (VersionPolicy("specific", versions=frozenset({9})), {1, 2}, set(), set()),
    ],
)
def test_wanted(policy: VersionPolicy, present: set[int], failing: set[int], expected: set[int]) -> None:
    assert wanted(policy, present, failing) == expected


@settings(max_examples=50)
@given(_numbers, _numbers, st.integers(1, 4))
def test_latest_keeps_a_good_version_wherever_there_is_one(present: set[int], failing: set[int], count: int) -> None:
    want = wanted(VersionPolicy(count=count), present, failing)
    assert want <= present
    good = present - failing
    assert len(want & good) == min(count, len(good))
    assert max(present, default=None) == max(want, default=None), "the newest is always tried"


@pytest.mark.parametrize(
    ("states", "want", "step"),
    [
        ({}, set(), None),
        ({1: "START"}, {1}, Step("load", 1)),
        ({1: "START", 2: "START"}, {1, 2}, Step("load", 2)),
        ({1: "AVAILABLE", 2: "LOADING"}, {2}, None),
        ({1: "AVAILABLE", 2: "AVAILABLE"}, {2}, Step("unload", 1)),
        ({1: "AVAILABLE", 2: "START"}, {2}, Step("load", 2)),
        ({1: "AVAILABLE"}, set(), Step("unload", 1)),
        ({1: "AVAILABLE", 2: "AVAILABLE", 3: "START"}, {2, 3}, Step("unload", 1)),
        ({1: "UNLOADING"}, set(), None),
    ],
)
def test_next_step(states: dict[int, State], want: set[int], step: Step | None) -> None:
    assert next_step(states, want) == step


@settings(max_examples=40)
@given(st.lists(_numbers, min_size=1, max_size=6), st.data())
def test_availability_is_preserved_whatever_comes(wants: list[set[int]], data: st.DataObject) -> None:
    states: dict[int, State] = {}
    for want in wants:
        for version in want:
            states.setdefault(version, "START")
        for version in [v for v, state in states.items() if state in ("START", "LOADING") and v not in want]:
            del states[version]
        for _ in range(100):
            before = any(state == "AVAILABLE" for state in states.values())
            finish = data.draw(st.booleans())
            if not _advance(states, want, finish):
                break
            after = any(state == "AVAILABLE" for state in states.values())
            assert after or not before or not want, (states, want)
        else:
            raise AssertionError("no end of steps")
        if want:
            assert {v for v, state in states.items() if state == "AVAILABLE"} == want


def _advance(states: dict[int, State], want: set[int], finish: bool) -> bool:
    """Take one step, or let one that is under way end; whether anything happened."""

    def end() -> bool:
        moves: dict[State, Callable[[int], None]] = {
            "LOADING": lambda version: states.__setitem__(version, "AVAILABLE"),
            "UNLOADING": lambda version: states.__delitem__(version),
        }
        for version, state in list(states.items()):
            if state in moves:
                moves[state](version)
                return True
        return False

    if finish and end():
        return True
    step = next_step(states, want)
    if step is None:
        return end()
    states[step.version] = "LOADING" if step.kind == "load" else "UNLOADING"
    return True
