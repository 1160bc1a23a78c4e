"""How long an image takes in every form: all in one process, in turns, by the process's own CPU time.

Comes in: one callable per variant and batch size. Goes out: `Timing` per variant. Called by
`serving.measure.worker`.

On a machine that does other work too, wall time says how busy the machine is, not how fast a model is. So:
every round calls every variant once, in an order that is shuffled anew; CPU time of the process counts, with one
thread; variants are compared within one run only; and wall time divided by CPU time says how much to trust it.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from serving.errors import ServingError

UNRELIABLE = 1.3  # Wall over CPU time, medians: above it the process waited for the CPU a third of the time.
_WARM_UP = 3
# A shorter call is preceded by one that is not timed: the variant before it has filled the caches with its own weights,
# which costs tenths of a millisecond, and no server or phone runs nine models in turns.
_REWARM_BELOW_NS = 5_000_000


@dataclass(frozen=True)
class LatencySettings:
    """How to measure.

    Attributes:
        batches: Batch sizes.
        rounds: Rounds at batch size 1.
        rounds_batched: Rounds at each larger batch size, whose calls are longer and vary less.
        seconds_per_variant: Wall time that one variant may take at one batch size. A slower one takes part in
            fewer rounds, spread evenly over the run.
        fewest_rounds: Never fewer than this, however slow.
        sample_microseconds: A shorter call is repeated until a sample is that long, above the clock's own cost.
        threads: Threads that each runtime may use; 1 is what makes CPU time comparable.
        seed: Of the order within the rounds.
    """

    batches: tuple[int, ...] = (1, 32)
    rounds: int = 200
    rounds_batched: int = 50
    seconds_per_variant: float = 8.0
    fewest_rounds: int = 5
    sample_microseconds: float = 500.0
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that measure nothing."""
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) != len(self.batches):
            raise ServingError(f"Batch sizes are {self.batches}; expected different sizes of 1 or more.")
        if min(self.rounds, self.rounds_batched, self.fewest_rounds, self.threads) < 1:
            raise ServingError("Rounds and threads must be 1 or more.")
        if not (self.seconds_per_variant > 0 and self.sample_microseconds >= 0):
            raise ServingError("The time of a variant must be above 0 seconds, that of a sample 0 or more.")


class Clock(Protocol):
    """Where time comes from; tests bring their own."""

    def cpu_ns(self) -> int:
        """CPU time of all threads of this process, nanoseconds."""
        ...

    def wall_ns(self) -> int:
        """Monotonic time, nanoseconds."""
        ...


class ProcessClock:
    """The clocks of the operating system."""

    def cpu_ns(self) -> int:
        """CPU time of all threads of this process, nanoseconds."""
        return time.process_time_ns()

    def wall_ns(self) -> int:
        """Monotonic time, nanoseconds."""
        return time.perf_counter_ns()


@dataclass(frozen=True)
class Timing:
    """One variant at one batch size; times are milliseconds per call, a call is one batch.

    Attributes:
        batch: Images per call.
        rounds: Samples that were taken.
        calls_per_sample: Calls that make up a sample, whose mean it is.
        cpu_ms_p50: Median CPU time.
        cpu_ms_p95: 95th percentile.
        wall_ms_min: Smallest wall time.
        wall_ms_p50: Median wall time.
        wall_ms_p95: 95th percentile.
        throughput: Images per second of CPU time.
        contention: Median wall over median CPU time.
        ratio: CPU time of the reference over that of this variant, medians of the same run; above 1 is faster.
    """

    batch: int
    rounds: int
    calls_per_sample: int
    cpu_ms_p50: float
    cpu_ms_p95: float
    wall_ms_min: float
    wall_ms_p50: float
    wall_ms_p95: float
    throughput: float
    contention: float
    ratio: float

    @property
    def unreliable(self) -> bool:
        """Whether the machine was too busy for the wall times to mean anything."""
        return self.contention > UNRELIABLE


@dataclass
class _Lane:
    """What is known about one variant while it is measured."""

    call: Callable[[], object]
    calls_per_sample: int = 1
    turns: int = 1
    rewarm: bool = False
    spent_ns: int = 0
    cpu_ns: list[float] = field(default_factory=list)
    wall_ns: list[float] = field(default_factory=list)


def time_variants(
    calls: Mapping[str, Callable[[], object]],
    reference: str,
    batch: int,
    settings: LatencySettings,
    clock: Clock | None = None,
    on_variant: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Timing]:
    """Measure all variants at one batch size.

    Args:
        calls: Per variant, a function that classifies one batch.
        reference: The variant that ratios refer to.
        batch: Images per call.
        settings: How long and how often.
        clock: Where time comes from.
        on_variant: Called with the variant before each of its samples, outside of what is timed.
        on_progress: Called with (rounds done, rounds in all).

    Returns:
        Timing per variant.

    Raises:
        ServingError: The reference is not among the variants.
    """
    if reference not in calls:
        raise ServingError(f"The reference {reference!r} is not measured; expected one of {', '.join(calls)}.")
    clock = clock or ProcessClock()
    note = on_variant or (lambda _name: None)
    rounds = settings.rounds if batch == 1 else settings.rounds_batched
    lanes = {name: _Lane(call) for name, call in calls.items()}
    for name, lane in lanes.items():
        note(name)
        _calibrate(lane, rounds, settings, clock)
    shuffle = random.Random(settings.seed).shuffle
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            order = [name for name, lane in lanes.items() if _takes_part(lane, turn, rounds, settings)]
            shuffle(order)
            for name in order:
                note(name)
                _sample(lanes[name], clock)
            if on_progress is not None:
                on_progress(turn + 1, rounds)
    finally:
        if collecting:
            gc.enable()
    base = _median(lanes[reference].cpu_ns)
    return {name: _timing(lane, batch, base) for name, lane in lanes.items()}


def _calibrate(lane: _Lane, rounds: int, settings: LatencySettings, clock: Clock) -> None:
    """Warm up, then choose how many calls make a sample and in how many rounds the variant takes part."""
    limit = settings.seconds_per_variant * 1e9
    spent, fastest = 0, math.inf
    for _ in range(_WARM_UP):
        before = clock.wall_ns()
        lane.call()
        took = clock.wall_ns() - before
        spent, fastest = spent + took, min(fastest, took)
        if spent > limit:
            break
    lane.calls_per_sample = max(1, math.ceil(settings.sample_microseconds * 1e3 / max(fastest, 1)))
    lane.rewarm = fastest < _REWARM_BELOW_NS
    affordable = int(limit / max(fastest * (lane.calls_per_sample + lane.rewarm), 1))
    lane.turns = min(rounds, max(settings.fewest_rounds, affordable))


def _takes_part(lane: _Lane, turn: int, rounds: int, settings: LatencySettings) -> bool:
    # Spread evenly: a slow variant that only ran at the start would be compared with another hour of the machine.
    due = (turn + 1) * lane.turns // rounds > turn * lane.turns // rounds
    exhausted = lane.spent_ns > settings.seconds_per_variant * 1e9 and len(lane.cpu_ns) >= settings.fewest_rounds
    return due and not exhausted


def _sample(lane: _Lane, clock: Clock) -> None:
    calls, call = lane.calls_per_sample, lane.call
    if lane.rewarm:
        before = clock.wall_ns()
        call()
        lane.spent_ns += clock.wall_ns() - before
    wall, cpu = clock.wall_ns(), clock.cpu_ns()
    for _ in range(calls):
        call()
    cpu_took, wall_took = clock.cpu_ns() - cpu, clock.wall_ns() - wall
    lane.spent_ns += wall_took
    lane.cpu_ns.append(cpu_took / calls)
    lane.wall_ns.append(wall_took / calls)


def _timing(lane: _Lane, batch: int, reference_ns: float) -> Timing:
    # A clock that does not move must not divide by zero.
    cpu, wall = max(_median(lane.cpu_ns), 1.0), max(_median(lane.wall_ns), 1.0)
    return Timing(
        batch=batch,
        rounds=len(lane.cpu_ns),
        calls_per_sample=lane.calls_per_sample,
        cpu_ms_p50=cpu / 1e6,
        cpu_ms_p95=_percentile(lane.cpu_ns, 95) / 1e6,
        wall_ms_min=min(lane.wall_ns) / 1e6,
        wall_ms_p50=wall / 1e6,
        wall_ms_p95=_percentile(lane.wall_ns, 95) / 1e6,
        throughput=batch * 1e9 / cpu,
        contention=wall / cpu,
        ratio=max(reference_ns, 1.0) / cpu,
    )


def _median(values: list[float]) -> float:
    return _percentile(values, 50)


def _percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share))
