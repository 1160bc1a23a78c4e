"""A caller -> the version label that answers, and what became of it -> the statistics of the canary.

A thin adapter over `serving.traffic`; without a state directory every request goes to the newest version and nothing
is counted. Shadow requests run beside and never delay an answer. Called by `predicting` and `feedback_routes`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serving.gateway.settings import Traffic

if TYPE_CHECKING:
    from serving.traffic.outcomes import Outcomes
    from serving.traffic.state import StateReader

_log = logging.getLogger("slipway.serving")
LATEST = "latest"


@dataclass(frozen=True)
class Way:
    """Where one request goes.

    Attributes:
        label: version label, or None for the newest version.
        shadow: label that gets a copy of the request, or None.
    """

    label: str | None = None
    shadow: str | None = None

    @property
    def variant(self) -> str:
        """What answers are counted and shown under."""
        return self.label or LATEST


@dataclass(frozen=True)
class Outcome:
    """What became of one request at the model server."""

    version: int | None
    status: int
    milliseconds: float
    class_id: int | None = None
    confidence: float | None = None
    request_id: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is an answer."""
        return self.status == 200


class Router:
    """Splits requests between versions and counts what became of them.

    Args:
        settings: the section `traffic`.
    """

    def __init__(self, settings: Traffic) -> None:
        """Open the state; outcomes are written by a thread of their own."""
        self._settings = settings
        self._reader: StateReader | None = None
        self._outcomes: Outcomes | None = None
        self._shadows: set[asyncio.Task[None]] = set()
        if settings.state_dir is not None:
            from serving.traffic.outcomes import Outcomes
            from serving.traffic.state import StateReader

            self._reader = StateReader(settings.state_dir)
            self._outcomes = Outcomes(settings.state_dir)

    def way(self, user: str) -> Way:
        """Return where a user's request goes."""
        state = self._reader.current() if self._reader else None
        if state is None:
            return Way()
        from serving.traffic.splitting import choose

        route = choose(state, user)
        return Way(route.label, route.shadow)

    @property
    def is_splitting(self) -> bool:
        """Whether there are two versions, so that anonymous browsers need a cookie to stay on theirs."""
        state = self._reader.current() if self._reader else None
        return state is not None and state.canary is not None

    def record(self, way: Way, outcome: Outcome) -> None:
        """Count an answer that a user got."""
        if self._outcomes and way.label:
            self._outcomes.record(
                way.label,
                outcome.version,
                outcome.ok,
                outcome.status,
                outcome.milliseconds,
                outcome.class_id,
                outcome.confidence,
                outcome.request_id,
            )

    def record_shadow(self, outcome: Outcome, *, agreed: bool | None) -> None:
        """Count an answer that nobody saw."""
        if self._outcomes:
            self._outcomes.record_shadow(
                outcome.version,
                outcome.ok,
                outcome.status,
                outcome.milliseconds,
                outcome.class_id,
                outcome.confidence,
                outcome.request_id,
                agreed=agreed,
            )

    def record_feedback(self, variant: str, version: int | None, *, right: bool) -> None:
        """Count what a user said about an answer."""
        if self._outcomes and variant != LATEST:
            self._outcomes.record_feedback(variant, version, right)

    def run_beside(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run a shadow request in the background.

        Returns:
            Whether it was taken; False if too many are under way.
        """
        if len(self._shadows) >= self._settings.max_shadows:
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(work)
        self._shadows.add(task)
        task.add_done_callback(self._finished)
        return True

    def describe(self) -> dict[str, Any] | None:
        """Return the state of the traffic for administrators."""
        state = self._reader.current() if self._reader else None
        if state is None:
            return None
        return state.model_dump(
            mode="json", include={"model", "stable", "canary", "weight", "shadow", "phase", "rollout"}
        )

    async def close(self, seconds: float = 5.0) -> None:
        """Let shadows finish for a while and write the last counts."""
        if self._shadows:
            await asyncio.wait(self._shadows, timeout=seconds)
        for task in self._shadows:
            task.cancel()
        if self._outcomes:
            await asyncio.to_thread(self._outcomes.close)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._shadows.discard(task)
        if not task.cancelled() and task.exception():
            _log.warning("a shadow request failed: %s", task.exception())
