from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.measure.latency import LatencySettings, time_variants

MILLI = 1_000_000


class FakeClock:
    """Time that only passes when a fake variant is called."""

    def __init__(self) -> None:
        self.cpu = 0
        self.wall = 0
        self.calls: list[str] = []

    def cpu_ns(self) -> int:
        return self.cpu

    def wall_ns(self) -> int:
        return self.wall

    def variant(self, name: str, cpu_ms: float, wall_ms: float | None = None) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.cpu += int(cpu_ms * MILLI)
            self.wall += int((cpu_ms if wall_ms is None else wall_ms) * MILLI)

        return call


def run(costs: dict[str, float], batch: int = 1, wall: dict[str, float] | None = None, **values):
    clock = FakeClock()
    calls = {name: clock.variant(name, cost, (wall or {}).get(name)) for name, cost in costs.items()}
    chosen = LatencySettings(**{"rounds": 20, "rounds_batched": 10, "sample_microseconds": 0, **values})
    found = time_variants(calls, next(iter(costs)), batch, chosen, clock)
    return found, clock


def test_times_ratios_and_throughput() -> None:
    found, _ = run({"saved_model": 3.0, "tflite_int8": 0.25}, batch=1)
    int8 = found["tflite_int8"]
    assert (int8.rounds, int8.calls_per_sample, int8.batch) == (20, 1, 1)
    assert (int8.cpu_ms_p50, int8.cpu_ms_p95, int8.wall_ms_min, int8.wall_ms_p50, int8.wall_ms_p95) == (0.25,) * 5
    assert int8.throughput == pytest.approx(4000)
    assert int8.ratio == pytest.approx(12)
    assert found["saved_model"].ratio == 1


def test_batches_have_their_own_number_of_rounds_and_count_images() -> None:
    found, _ = run({"saved_model": 16.0}, batch=32)
    assert found["saved_model"].rounds == 10
    assert found["saved_model"].throughput == pytest.approx(2000)


def test_a_busy_machine_shows_as_contention() -> None:
    found, _ = run({"calm": 1.0, "busy": 1.0}, wall={"calm": 1.2, "busy": 1.4})
    assert not found["calm"].unreliable and found["busy"].unreliable
    assert found["busy"].contention == pytest.approx(1.4)
    assert found["busy"].ratio == 1


def test_a_short_call_is_repeated_until_the_clock_can_see_it() -> None:
    found, clock = run({"saved_model": 1.0, "quick": 0.003}, sample_microseconds=100)
    assert found["quick"].calls_per_sample == 34
    assert found["quick"].cpu_ms_p50 == pytest.approx(0.003)
    assert clock.calls.count("quick") == 3 + 20 * (1 + 34), "a call that is not timed comes before each sample"
    assert found["saved_model"].calls_per_sample == 1


def test_a_slow_variant_takes_part_in_fewer_rounds_spread_over_the_run() -> None:
    found, clock = run({"saved_model": 6.0, "slow": 600.0}, rounds=100, seconds_per_variant=6.0)
    assert (found["slow"].rounds, found["saved_model"].rounds) == (10, 100)
    timed = clock.calls[6:]
    places = [timed[:place].count("saved_model") for place, name in enumerate(timed) if name == "slow"]
    assert places[0] <= 15 and places[-1] >= 85


def test_a_very_slow_variant_still_gets_the_fewest_rounds() -> None:
    found, clock = run({"saved_model": 1.0, "slow": 5000.0}, seconds_per_variant=1.0, fewest_rounds=3)
    assert found["slow"].rounds == 3
    # One call of warm-up was enough to see that there is no time for more.
    assert clock.calls.count("slow") == 4


def test_a_variant_that_becomes_slow_is_stopped() -> None:
    clock = FakeClock()

    def tiring() -> None:
        clock.calls.append("tiring")
        clock.cpu += MILLI * (1 if len(clock.calls) < 20 else 1000)
        clock.wall = clock.cpu

    chosen = LatencySettings(rounds=500, seconds_per_variant=2.0, fewest_rounds=2, sample_microseconds=0)
    found = time_variants(
        {"saved_model": clock.variant("saved_model", 1.0), "tiring": tiring}, "saved_model", 1, chosen, clock
    )
    assert found["tiring"].rounds < 30
    assert found["saved_model"].rounds == 500


def test_a_call_that_fills_the_caches_is_not_timed() -> None:
    clock = FakeClock()

    def cold_after_others() -> None:
        cold = clock.calls[-1:] != ["quick"]
        clock.variant("quick", 0.9 if cold else 0.2)()

    calls = {"saved_model": clock.variant("saved_model", 2.0), "quick": cold_after_others}
    found = time_variants(calls, "saved_model", 1, LatencySettings(rounds=10, sample_microseconds=0), clock)
    assert found["quick"].cpu_ms_p95 == pytest.approx(0.2)


def test_every_round_has_everyone_once_in_an_order_of_its_own() -> None:
    names = {name: 6.0 for name in "abcd"}
    _, clock = run(names, rounds=30)
    rounds = [tuple(clock.calls[start : start + 4]) for start in range(12, len(clock.calls), 4)]
    assert len(rounds) == 30
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len(set(rounds)) > 5
    assert run(names, rounds=30)[1].calls == clock.calls
    assert run(names, rounds=30, seed=1)[1].calls != clock.calls


def test_the_collector_rests_while_time_is_taken_and_is_back_afterwards() -> None:
    states = []
    clock = FakeClock()
    work = clock.variant("saved_model", 1.0)

    def call() -> None:
        states.append(gc.isenabled())
        work()
        if len(states) > 10:
            raise RuntimeError("enough")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="enough"):
        time_variants({"saved_model": call}, "saved_model", 1, LatencySettings(sample_microseconds=0), clock)
    assert states[:3] == [True] * 3 and not any(states[3:])
    assert gc.isenabled()


def test_who_is_timed_is_announced_before() -> None:
    seen: list[str] = []
    progress: list[tuple[int, int]] = []
    clock = FakeClock()
    calls = {name: clock.variant(name, 6.0) for name in ("saved_model", "other")}
    chosen = LatencySettings(rounds=4, sample_microseconds=0)
    time_variants(calls, "saved_model", 1, chosen, clock, seen.append, lambda *pair: progress.append(pair))
    assert seen[:2] == ["saved_model", "other"]
    assert seen[2:] == clock.calls[6:]
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_clock_that_stands_still_divides_by_nothing() -> None:
    found, _ = run({"saved_model": 0.0, "other": 0.0})
    assert found["other"].ratio == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.001, 500), min_size=1, max_size=6), st.sampled_from([1, 32]))
def test_no_variant_overspends_and_ratios_fit_the_medians(costs: list[float], batch: int) -> None:
    found, _ = run({f"v{place}": cost for place, cost in enumerate(costs)}, batch, seconds_per_variant=0.5)
    for timing in found.values():
        spent = timing.rounds * timing.calls_per_sample * timing.wall_ms_p50
        assert spent <= 500 + timing.wall_ms_p50 or timing.rounds == 5
        assert timing.ratio == pytest.approx(found["v0"].cpu_ms_p50 / timing.cpu_ms_p50)


def test_settings_that_measure_nothing_are_refused() -> None:
    with pytest.raises(ServingError, match="Batch sizes"):
        LatencySettings(batches=())
    with pytest.raises(ServingError, match="Batch sizes"):
        LatencySettings(batches=(1, 1))
    with pytest.raises(ServingError, match="Rounds and threads"):
        LatencySettings(rounds=0)
    with pytest.raises(ServingError, match="above 0 seconds"):
        LatencySettings(seconds_per_variant=0)
    with pytest.raises(ServingError, match="'other' is not measured"):
        time_variants({"saved_model": lambda: None}, "other", 1, LatencySettings())
