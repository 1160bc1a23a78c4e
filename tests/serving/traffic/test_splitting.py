"""Sticky, monotone, and of the share that was asked for."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.traffic.splitting import Route, choose, position
from serving.traffic.state import TrafficState

weights = st.floats(0, 1)
keys = st.text(max_size=40)


def at(weight: float, salt: str = "salt", **updates: object) -> TrafficState:
    state = TrafficState(model="pets", base_path="/pets", stable=1, salt=salt)
    return state.changed(canary=2, phase="running", weight=weight, steps=(weight,), **updates)


@given(keys, weights, weights)
@settings(deadline=None)
def test_who_is_on_the_canary_stays_there_when_the_weight_grows(user: str, one: float, other: float) -> None:
    low, high = sorted((one, other))

    if choose(at(low), user).label == "canary":
        assert choose(at(high), user).label == "canary"


@given(keys, st.text(max_size=80))
@settings(deadline=None)
def test_the_ends_are_exact(user: str, salt: str) -> None:
    assert choose(at(0.0, salt), user) == Route("stable")
    assert choose(at(1.0, salt), user) == Route("canary")
    assert 0 <= position(user, salt) < 1


def test_the_share_is_the_weight() -> None:
    users = 20_000
    for weight in (0.01, 0.05, 0.5):
        state = at(weight)
        found = sum(choose(state, f"user-{number}").label == "canary" for number in range(users))
        assert abs(found - users * weight) < 5 * math.sqrt(users * weight * (1 - weight))


def test_another_rollout_meets_other_users_first() -> None:
    first, second = (
        {user for user in range(2000) if choose(state, str(user)).label == "canary"}
        for state in (at(0.1, "a"), at(0.1, "b"))
    )

    # Independent draws of a tenth share a tenth of each other.
    assert len(first & second) < 0.25 * len(first)


def test_without_a_canary_everyone_is_on_stable() -> None:
    state = TrafficState(model="pets", base_path="/pets", stable=1)

    assert choose(state, "user") == Route("stable")


def test_a_lone_surrogate_in_a_key_is_no_error() -> None:
    assert choose(at(0.5), "\ud800").label in ("stable", "canary")


def test_shadow_goes_with_stable_answers_only_and_has_its_share() -> None:
    state = at(0.5, shadow="canary", shadow_share=0.2)
    routes = [choose(state, f"user-{number}") for number in range(5000)]
    stable = [route for route in routes if route.label == "stable"]
    shadowed = [route for route in stable if route.shadow]

    assert not any(route.shadow for route in routes if route.label == "canary")
    assert abs(len(shadowed) / len(stable) - 0.2) < 0.05


def test_no_shadow_before_the_canary_answers() -> None:
    state = TrafficState(model="pets", base_path="/pets", stable=1).changed(canary=2, phase="starting", shadow="canary")

    assert choose(state, "user") == Route("stable")
