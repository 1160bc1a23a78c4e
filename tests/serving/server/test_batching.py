"""The batcher: who waits for whom, who is refused, and that everybody gets exactly what is theirs."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from serving.server.batching import Batcher, BatchingOptions
from serving.server.status import Code, StatusError
from tests.serving.server.batchers import occupy, result, x
from tests.serving.server.engines import BAD, Engine, FakeHandle, signature
from tests.serving.server.waiting import eventually

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

FULL = "The batch scheduling queue to which this task was submitted is full"


def test_a_lonely_request_runs_at_once_and_alone(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    assert result(batcher().submit(FakeHandle(engine), "serving_default", x(1, 2))) == [2, 4]
    assert engine.runs == [("serving_default", engine.runs[0][1], None)]


def test_what_gathers_while_the_workers_are_busy_runs_together(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1, max_batch_size=8)
    with engine.held():
        futures = [occupy(one, handle)]
        futures += [one.submit(handle, "serving_default", x(n, n + 0.5)) for n in range(6)]
        assert one.waiting_rows() == {("pets", "serving_default"): 12}
    assert [result(future) for future in futures[1:]] == [[2 * n, 2 * n + 1] for n in range(6)]
    assert engine.rows() == [1, 8, 4]
    assert one.waiting_rows() == {}


def test_a_second_batch_beside_the_first_is_worth_it(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=2)
    with engine.held():
        first = occupy(one, handle)
        handle.servable.running.clear()
        lonely = one.submit(handle, "serving_default", x(3))  # waits for some milliseconds, then runs all the same
        assert handle.servable.running.wait(60)
    assert [result(future) for future in (first, lonely)] == [[2000], [6]]
    assert engine.rows() == [1, 1]


def test_two_workers_share_what_keeps_one_core_busy(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    engine.one_core_rows["serving_default"] = 8
    handle, one = FakeHandle(engine), batcher(workers=2)
    both_run = threading.Barrier(2, timeout=60)

    def answer(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        both_run.wait()
        return {"y": inputs["x"]}

    async def main() -> list[dict[str, np.ndarray]]:
        await one.run(handle, "serving_default", x(1))
        engine.answer = answer
        return await asyncio.gather(*[one.run(handle, "serving_default", x(n)) for n in range(16)])

    assert [outputs["y"].tolist() for outputs in asyncio.run(main())] == [[[n]] for n in range(16)]
    assert engine.rows() == [1, 8, 8]


def test_requests_of_one_turn_of_the_loop_run_together() -> None:
    engine = Engine()

    async def main() -> list[dict[str, np.ndarray]]:
        one = Batcher(BatchingOptions(workers=2))
        await one.run(FakeHandle(engine), "serving_default", x(9))
        calls = [one.run(FakeHandle(engine), "serving_default", x(n)) for n in range(5)]
        answers = await asyncio.gather(*calls)
        await one.drain()
        return answers

    answers = asyncio.run(main())
    assert [answer["y"].tolist() for answer in answers] == [[[2.0 * n]] for n in range(5)]
    assert engine.rows() == [1, 5]


class Watched(Engine):
    """An engine that notes in which threads it ran; a run takes `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.answer = self._noted
        self._seconds = seconds

    def _noted(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.threads.append(threading.get_ident())
        time.sleep(self._seconds)
        return {"y": 2 * inputs["x"]}


def test_the_loop_itself_runs_brief_requests_of_a_client_that_is_alone(batcher: Callable[..., Batcher]) -> None:
    one, engine, bad = batcher(), Watched(), "a bad row"
    handle = FakeHandle(engine)

    async def main() -> None:
        # On a busy machine even a brief request may take long for a while.
        for number in range(10_000):
            answer = await one.run(handle, "serving_default", x(number))
            assert answer["y"].tolist() == [[2.0 * number]]
            if engine.threads[-1] == threading.get_ident():
                break
        assert 0 < number < 9_999 and threading.get_ident() not in engine.threads[:-1]
        with pytest.raises(StatusError, match=bad):
            await one.run(handle, "serving_default", x(BAD))
        await asyncio.gather(*[one.run(handle, "serving_default", x(n)) for n in range(2)])
        assert engine.threads[-1] != threading.get_ident()
        await one.drain()

    asyncio.run(main())


def test_requests_of_threads_are_left_to_the_workers(batcher: Callable[..., Batcher]) -> None:
    one, engine = batcher(), Watched()
    for number in range(200):
        assert result(one.submit(FakeHandle(engine), "serving_default", x(number))) == [2.0 * number]
    assert threading.get_ident() not in engine.threads


def test_requests_that_take_longer_leave_the_loop_free(batcher: Callable[..., Batcher]) -> None:
    one, engine = batcher(), Watched(0.003)

    async def main() -> None:
        for number in range(20):
            await one.run(FakeHandle(engine), "serving_default", x(number))
        assert threading.get_ident() not in engine.threads

    asyncio.run(main())


def test_the_same_batcher_serves_several_loops(batcher: Callable[..., Batcher]) -> None:
    one, handle = batcher(workers=1), FakeHandle(Engine())

    async def abandoned() -> None:
        task = asyncio.ensure_future(one.run(handle, "serving_default", x(1)))
        await asyncio.sleep(0)
        task.cancel()

    async def answered(value: float) -> list[list[float]]:
        outputs = await one.run(handle, "serving_default", x(value), None, time.monotonic() + 60)
        return outputs["y"].tolist()

    for n in range(3):
        asyncio.run(abandoned())
        assert asyncio.run(answered(n)) == [[2.0 * n]]


@pytest.mark.parametrize(
    "other",
    [
        {"signature": "second"},
        {"inputs": x(1, width=2)},
        {"inputs": {"x": np.ones((1, 1), np.float64)}},
        {"outputs": ["y"]},
        {"handle": FakeHandle(Engine())},
    ],
    ids=["signature", "shape", "dtype", "outputs", "model"],
)
def test_requests_of_different_kinds_do_not_mix(batcher: Callable[..., Batcher], other: dict[str, Any]) -> None:
    engine = Engine(signature(), signature("second"))
    handle, one = FakeHandle(engine), batcher(workers=1)
    call = {"handle": handle, "signature": "serving_default", "inputs": x(1), "outputs": None}
    with engine.held():
        occupied = occupy(one, handle)
        futures = [one.submit(**call), one.submit(**{**call, **other}), one.submit(**call)]
    assert [result(future) for future in [occupied, *futures]] == [[2000], [2], [2], [2]]
    assert sorted(engine.rows() + other.get("handle", FakeHandle(Engine())).servable.rows())[-1] == 2
    for name, inputs, outputs in engine.runs[1:]:
        assert len(inputs["x"]) == 2 or (name, outputs, inputs["x"].shape, inputs["x"].dtype) != (
            "serving_default", None, (1, 1), np.float32,
        )  # fmt: skip


def test_requests_of_one_kind_are_answered_in_their_order(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1, max_batch_size=3)
    order: list[int] = []
    with engine.held():
        occupied = occupy(one, handle)
        futures = [one.submit(handle, "serving_default", x(n)) for n in range(10)]
        for number, future in enumerate(futures):
            future.add_done_callback(lambda _, number=number: order.append(number))
    result(occupied)
    assert [result(future) for future in futures] == [[2 * n] for n in range(10)]
    one.close().result(60)
    assert order == list(range(10))
    assert engine.rows() == [1, 3, 3, 3, 1]


def test_kinds_take_turns(batcher: Callable[..., Batcher]) -> None:
    engine = Engine(signature(), signature("second"))
    handle, one = FakeHandle(engine), batcher(workers=1, max_batch_size=1)
    with engine.held():
        futures = [occupy(one, handle)]
        futures += [one.submit(handle, "serving_default", x(n)) for n in range(3)]
        futures += [one.submit(handle, "second", x(9))]
    for future in futures:
        future.result(60)
    assert [name for name, *_ in engine.runs][:4] == ["serving_default", "serving_default", "second", "serving_default"]


def test_a_full_queue_is_unavailable_and_recovers(batcher: Callable[..., Batcher]) -> None:
    engine = Engine(signature(), signature("second"))
    handle, one = FakeHandle(engine), batcher(workers=1, max_batch_size=2, max_enqueued_batches=2)

    async def refused() -> None:
        with pytest.raises(StatusError):
            one.run(handle, "serving_default", x(5))

    with engine.held():
        futures = [occupy(one, handle)]
        futures += [one.submit(handle, "serving_default", x(n, n)) for n in range(2)]
        with pytest.raises(StatusError) as caught:
            one.submit(handle, "serving_default", x(5))
        # Another shape is another queue of the same signature, and must not get round the bound.
        with pytest.raises(StatusError):
            one.submit(handle, "serving_default", x(5, width=7))
        asyncio.run(refused())
        futures.append(one.submit(handle, "second", x(5)))
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.message == f"{FULL}; currently 2 batches enqueued and max_enqueued_batches is 2"
    for future in futures:
        future.result(60)
    assert result(one.submit(handle, "serving_default", x(5))) == [10]


def test_a_passed_deadline_is_refused_before_any_work(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    with pytest.raises(StatusError) as caught:
        batcher().submit(FakeHandle(engine), "serving_default", x(1), None, time.monotonic() - 1)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert engine.runs == []


def test_a_deadline_that_passes_in_the_queue_is_told_in_time_and_costs_no_work(
    batcher: Callable[..., Batcher],
) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1)
    with engine.held():
        occupied = occupy(one, handle)
        hopeless = one.submit(handle, "serving_default", x(1), None, time.monotonic() + 0.05)
        patient = one.submit(handle, "serving_default", x(2), None, time.monotonic() + 120)
        error = hopeless.exception(60)  # while the only worker is still held
        assert not patient.done()
    assert isinstance(error, StatusError)
    assert error.code is Code.DEADLINE_EXCEEDED
    assert (result(occupied), result(patient)) == ([2000], [4])
    assert engine.rows() == [1, 1]


def test_a_near_deadline_behind_a_far_one_is_told_in_time(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1)
    with engine.held():
        occupied = occupy(one, handle)
        patient = one.submit(handle, "serving_default", x(2), None, time.monotonic() + 600)
        for _ in range(3):  # Each time the far one is the next deadline again.
            hopeless = one.submit(handle, "serving_default", x(1), None, time.monotonic() + 0.05)
            error = hopeless.exception(60)
            assert isinstance(error, StatusError)
            assert error.code is Code.DEADLINE_EXCEEDED
        assert not patient.done()
    assert (result(occupied), result(patient)) == ([2000], [4])


def test_callers_that_gave_up_keep_nobody_out(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1, max_batch_size=2, max_enqueued_batches=2)
    with engine.held():
        occupied = occupy(one, handle)
        gone = [one.submit(handle, "serving_default", x(n)) for n in range(4)]
        for future in gone:
            assert future.cancel()
        patient = one.submit(handle, "serving_default", x(5))
        assert one.waiting_rows() == {(handle.name, "serving_default"): 1}
    assert (result(occupied), result(patient)) == ([2000], [10])
    assert engine.rows() == [1, 1]


def test_a_deadline_that_passes_while_it_runs_is_told_in_time(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()

    async def main() -> None:
        await batcher(workers=1).run(FakeHandle(engine), "serving_default", x(1), None, time.monotonic() + 0.05)

    with engine.held(), pytest.raises(StatusError) as caught:
        asyncio.run(main())
    assert caught.value.code is Code.DEADLINE_EXCEEDED


def test_cancelled_callers_cost_no_work_and_no_room(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1)

    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(one.run(handle, "serving_default", x(n))) for n in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[3].cancel()
        await asyncio.sleep(0)
        engine.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    engine.gate.clear()
    occupied = occupy(one, handle)
    results = asyncio.run(main())
    result(occupied)
    assert isinstance(results[1], asyncio.CancelledError)
    assert isinstance(results[3], asyncio.CancelledError)
    assert [results[n]["y"].tolist() for n in (0, 2)] == [[[0.0]], [[4.0]]]
    assert engine.rows() == [1, 2]
    assert one.waiting_rows() == {}


def test_a_batch_that_is_not_full_waits_for_the_timeout_only(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=2, max_batch_size=4, timeout_micros=60_000_000)
    futures = [one.submit(handle, "serving_default", x(n)) for n in range(4)]
    assert [result(future) for future in futures] == [[2 * n] for n in range(4)]
    assert engine.rows() == [4]
    short = batcher(workers=2, max_batch_size=4, timeout_micros=1000)
    assert result(short.submit(handle, "serving_default", x(7))) == [14]


def test_a_waiting_batch_does_not_hold_up_others(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1, max_batch_size=2, timeout_micros=60_000_000)
    waits = one.submit(handle, "serving_default", x(1))
    full = [one.submit(handle, "serving_default", x(n, width=2)) for n in range(2)]
    assert [result(future) for future in full] == [[0], [2]]
    assert not waits.done()
    assert [result(one.submit(handle, "serving_default", x(2))), result(waits)] == [[4], [2]]


def test_draining_finishes_what_was_accepted_and_refuses_the_rest(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1, max_batch_size=2)

    async def main() -> None:
        accepted = [asyncio.ensure_future(one.run(handle, "serving_default", x(n))) for n in range(5)]
        await asyncio.sleep(0)
        drained = asyncio.ensure_future(one.drain())
        await asyncio.sleep(0)
        with pytest.raises(StatusError) as caught:
            await one.run(handle, "serving_default", x(9))
        assert caught.value.code is Code.UNAVAILABLE
        assert not drained.done()
        engine.gate.set()
        await drained
        assert [(await task)["y"].tolist() for task in accepted] == [[[2.0 * n]] for n in range(5)]

    engine.gate.clear()
    occupied = occupy(one, handle)
    asyncio.run(main())
    result(occupied)
    for thread in one._threads:
        thread.join(60)
        assert not thread.is_alive()


def test_draining_without_requests_ends_at_once() -> None:
    asyncio.run(Batcher().drain())


def test_draining_ends_when_all_callers_gave_up(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1)
    with engine.held():
        occupied = occupy(one, handle)
        given_up = one.submit(handle, "serving_default", x(1))
        assert given_up.cancel()
        drained = one.close()
    drained.result(60)
    result(occupied)


def test_a_dropped_model_is_not_kept(batcher: Callable[..., Batcher]) -> None:
    one = batcher(workers=1)
    engine = Engine()
    result(one.submit(FakeHandle(engine), "serving_default", x(1)))
    kept = weakref.ref(engine)
    del engine
    eventually(lambda: gc.collect() >= 0 and kept() is None, what="the worker lets go of the model")
    assert one._queues._lanes == {}


@pytest.mark.slow
def test_many_threads_and_a_loop_at_once(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=3, max_batch_size=16, max_enqueued_batches=1000)
    wrong: list[Any] = []

    def check(value: float, width: int, answer: dict[str, np.ndarray]) -> None:
        if not np.array_equal(answer["y"], np.full((1, width), 2 * value, np.float32)):
            wrong.append((value, answer))

    def from_thread(seed: int) -> None:
        for n in range(150):
            value, width = float(seed * 1000 + n), 1 + n % 3
            bad = n % 17 == 0
            future = one.submit(handle, "serving_default", x(BAD if bad else value, width=width))
            if bad:
                if not isinstance(future.exception(60), StatusError):
                    wrong.append(value)
            else:
                check(value, width, future.result(60))

    async def from_loop() -> None:
        async def client(seed: int) -> None:
            for n in range(150):
                value = float(seed * 1000 + n)
                deadline = time.monotonic() + 120
                check(value, 1, await one.run(handle, "serving_default", x(value), None, deadline))

        await asyncio.gather(*[client(seed) for seed in range(100, 108)])
        await one.drain()

    threads = [threading.Thread(target=from_thread, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    asyncio.run(from_loop())
    assert wrong == []
    assert max(engine.rows()) <= 16
