"""When a failed attempt is repeated, and how long the client waits before it does.

Comes in: the error of an attempt and the time left. Goes out: seconds to wait, or the decision to give up. Called by
the clients. Only failures that say nothing was done, or that say "not now", are repeated: `Unavailable`.

The budget is a token bucket after Finagle's: every call puts in a fraction of a token, every retry takes out a whole
one. While a server is down, retries so add a fixed share to the load instead of multiplying it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from serving.client.errors import ClientError, Unavailable
from serving.server.status import Code


class RetryBudget:
    """How often and how fast failed calls are repeated; may be shared by several clients and threads.

    Args:
        attempts: Most attempts of one call, the first included; 1 never retries.
        ratio: Tokens that each call puts into the bucket: retries per call in the long run.
        capacity: Most tokens in the bucket, which starts full: retries in a burst.
        per_second: Tokens that come in by themselves, so that a client with few calls can retry too.
        base_seconds: Longest wait before the second attempt; doubles with each further one.
        cap_seconds: Longest wait before any attempt.
        clock: Monotonic seconds.
        uniform: `uniform(a, b)` picks the wait.
    """

    def __init__(
        self,
        attempts: int = 4,
        ratio: float = 0.1,
        capacity: float = 10.0,
        per_second: float = 0.5,
        base_seconds: float = 0.05,
        cap_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Start with a full bucket."""
        if attempts < 1 or capacity < 0 or ratio < 0 or per_second < 0 or base_seconds < 0 or cap_seconds < 0:
            raise ValueError(
                f"received attempts={attempts}, ratio={ratio}, capacity={capacity}, per_second={per_second}, "
                f"base_seconds={base_seconds}, cap_seconds={cap_seconds}; expected attempts >= 1 and the rest >= 0."
            )
        self.attempts = attempts
        self._ratio = ratio
        self._capacity = capacity
        self._per_second = per_second
        self._base = base_seconds
        self._cap = cap_seconds
        self._clock = clock
        self._uniform = uniform
        self._tokens = capacity
        self._filled = clock()
        self._lock = threading.Lock()

    @property
    def tokens(self) -> float:
        """Retries that may be made now."""
        with self._lock:
            self._fill(0.0)
            return self._tokens

    def deposit(self) -> None:
        """Count one call."""
        with self._lock:
            self._fill(self._ratio)

    def wait_seconds(self, error: ClientError, attempt: int, left_seconds: float) -> float | None:
        """Decide on another attempt and pay for it.

        Args:
            error: What the last attempt ended with.
            attempt: Number of the last attempt, from 1.
            left_seconds: Time left of the whole call.

        Returns:
            Seconds to wait before the next attempt; None to give up.
        """
        if attempt >= self.attempts or not _repeatable(error):
            return None
        wait = self._uniform(0.0, min(self._cap, self._base * 2.0 ** (attempt - 1)))
        if error.retry_after_seconds is not None:
            # A little later than asked for, each client at another moment.
            wait = error.retry_after_seconds + wait
        if wait >= left_seconds or not self._withdraw():
            return None
        return wait

    def _withdraw(self) -> bool:
        with self._lock:
            self._fill(0.0)
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True

    def _fill(self, tokens: float) -> None:
        now = self._clock()
        elapsed = max(0.0, now - self._filled)
        self._filled = now
        self._tokens = min(self._capacity, self._tokens + tokens + elapsed * self._per_second)


def _repeatable(error: ClientError) -> bool:
    if not isinstance(error, Unavailable):
        return False
    # A used-up quota is not refilled by asking again at once; a server that names the moment may be asked then.
    return error.code is Code.UNAVAILABLE or error.retry_after_seconds is not None
