"""Calls that are answered by a coroutine on the server's event loop.

Comes in: a call and the coroutine that makes its answer. Goes out: the answer or the error. Used by all methods but
Predict, which is worth a shorter way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from serving.server.grpc_api.calls import Call
from serving.server.status import Code, StatusError

if TYPE_CHECKING:
    from serving.server.metrics import ServerMetrics

_log = logging.getLogger("slipway.serving")
Answer = Callable[[Call, bytes], Awaitable[tuple[bytes, str]]]
"""Makes the serialized answer to a serialized request; also gives the name of the model, for the metrics."""


class NamedError(StatusError):
    """A request that failed after its model was named.

    Attributes:
        model: Name of the model, as the request gave it.
    """

    def __init__(self, error: StatusError, model: str) -> None:
        """Add the name to an error."""
        super().__init__(error.code, error.message)
        self.model = model


class OnLoop:
    """Handler that runs a coroutine for each call."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, answer: Answer, metrics: ServerMetrics | None, api: str
    ) -> None:
        """Run `answer` on `loop`.

        Args:
            loop: The server's event loop.
            answer: What to run.
            metrics: Where requests are counted; None for methods that TensorFlow Serving does not count.
            api: Name of the method in the metrics.
        """
        self._loop = loop
        self._answer = answer
        self._metrics = metrics
        self._api = api
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, call: Call, message: bytes) -> None:
        """Start one request."""
        try:
            self._loop.call_soon_threadsafe(self._spawn, call, message)
        except RuntimeError:
            call.fail(Code.UNAVAILABLE, "The server is shutting down")

    def _spawn(self, call: Call, message: bytes) -> None:
        task = self._loop.create_task(self._run(call, message))
        # The loop itself holds tasks only weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        call.when_cancelled(lambda: self._loop.call_soon_threadsafe(task.cancel))

    async def _run(self, call: Call, message: bytes) -> None:
        try:
            answer, model = await self._answer(call, message)
        except asyncio.CancelledError:
            self._fail(call, StatusError(Code.CANCELLED, "The call was cancelled"))
        except StatusError as error:
            self._fail(call, error)
        except Exception as error:
            _log.exception("a call of %s failed", call.method)
            self._fail(call, StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        else:
            # Counted first, so that whoever has the answer finds it in the metrics.
            self._count(call, model, Code.OK)
            call.reply(answer)

    def _fail(self, call: Call, error: StatusError) -> None:
        self._count(call, getattr(error, "model", ""), error.code)
        call.fail(error.code, error.message)

    def _count(self, call: Call, model: str, code: Code) -> None:
        if self._metrics is not None:
            self._metrics.request(model, self._api, "GRPC", code, (time.perf_counter() - call.started) * 1e6)
