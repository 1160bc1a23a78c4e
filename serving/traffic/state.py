"""The state of the traffic of one model: which version is stable, which one is tried, and on whom.

Comes in: `STATE_DIR/traffic.json`. Goes out: a frozen `TrafficState`, and changes of it that survive a crash and
a second writer. Called by the gateway, which reads it for every request, and by the controller, which changes it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.durable import exclusive_lock, write_durably
from serving.errors import PublishError, ServingError

STATE_FILE = "traffic.json"
LOCK_FILE = "traffic.lock"
STABLE: Final = "stable"
CANARY: Final = "canary"
HISTORY_KEPT = 50
_LOG = logging.getLogger("slipway.serving")

Label = Literal["stable", "canary"]
Phase = Literal["idle", "starting", "running", "promoting", "aborting", "cleaning"]
Share = Annotated[float, Field(ge=0, le=1)]


class TrafficError(ServingError):
    """The traffic cannot be steered as asked; users are answered as before."""


class Guards(BaseModel):
    """What a canary must keep to, compared with the stable version in the same time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_samples: int = Field(500, ge=1)
    """Answers of each version that a step needs before it can be passed."""
    minimum_seconds: float = Field(60.0, ge=0)
    """Time that a step lasts at least; short peaks of load must not decide alone."""
    significance: float = Field(0.01, gt=0, lt=0.5)
    """Risk of rolling back a canary that keeps to the limits on errors and latency, over the whole rollout."""
    max_error_increase: float = Field(0.005, ge=0, le=1)
    """Share of failed answers by which the canary may exceed stable; below it a difference does not matter."""
    quantiles: tuple[float, ...] = (0.95, 0.99)
    """Quantiles of the latency that are compared; the tail is what users complain about."""
    max_latency_ratio: float = Field(1.5, ge=1)
    """How many times as long the canary may take at a quantile."""
    latency_floor_ms: float = Field(5.0, ge=0)
    """Milliseconds by which the canary may be slower in any case; ratios of tiny times mean nothing."""
    max_psi: float = Field(0.25, gt=0)
    """Population stability index of the predicted classes; above 0.25 is by convention a major shift."""
    max_confidence_distance: float = Field(0.25, gt=0, le=1)
    """Largest distance between the distributions of the confidence (Kolmogorov and Smirnov's D)."""
    on_drift: Literal["rollback", "hold", "ignore"] = "rollback"
    """What a shift of the predictions leads to; a deliberately different model wants `hold` or `ignore`."""

    @model_validator(mode="after")
    def _quantiles_are_inside(self) -> Guards:
        if not self.quantiles or not all(0 < quantile < 1 for quantile in self.quantiles):
            raise ValueError(f"quantiles are {self.quantiles}; expected at least one, each between 0 and 1")
        return self


class Decision(BaseModel):
    """One entry of the history.

    Attributes:
        sequence: Number of the decision, from 1, without gaps.
        time: UTC, ISO 8601.
        action: What was done.
        reasons: Why, in words and numbers.
        by: `command` of a person or `watch`, the automatic controller.
        rollout: Which rollout it belongs to.
        stable: Stable version afterwards.
        canary: Canary version that it is about, if any.
        weight: Share of the users on the canary afterwards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int
    time: str
    action: Literal["pin", "start", "serve", "advance", "hold", "promote", "promoted", "rollback", "rolled-back"]
    reasons: tuple[str, ...] = ()
    by: str = "command"
    rollout: str = ""
    stable: int
    canary: int | None = None
    weight: float = 0.0


class TrafficState(BaseModel):
    """All of the traffic of one model.

    Attributes:
        model: Name of the model.
        base_path: Directory of its versions, absolute.
        stable: Version that answers everyone who is not on the canary.
        canary: Version that is tried, if any.
        previous: Version that was stable before, for a rollback.
        weight: Share of the users on the canary, 0 to 1. It is above 0 only while the canary can answer.
        salt: Mixed into the hash of the user; another one for each rollout, so that not always the same users
            meet the news first.
        shadow: `canary` if requests that stable answers are also sent to the canary, whose answer is thrown away.
        shadow_share: Share of these requests.
        phase: What the controller is doing; every phase can be resumed.
        rollout: Identifies the rollout; empty before the first.
        steps: Weights that the rollout goes through; the last one is followed by promotion.
        step: Index of the present one.
        automatic: Whether the controller advances, promotes and rolls back by itself.
        started: Unix seconds at which the rollout began.
        step_started: Unix seconds at which the present step or phase began.
        guards: Limits of the rollout.
        revision: Counts the changes.
        decisions: How many decisions were ever taken.
        history: The last ones, oldest first; all of them stand in `decisions.jsonl`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)
    base_path: str
    stable: int = Field(ge=0)
    canary: int | None = None
    previous: int | None = None
    weight: Share = 0.0
    salt: str = ""
    shadow: Literal["canary"] | None = None
    shadow_share: Share = 1.0
    phase: Phase = "idle"
    rollout: str = ""
    steps: tuple[Share, ...] = ()
    step: int = 0
    automatic: bool = True
    started: float | None = None
    step_started: float | None = None
    guards: Guards = Field(default_factory=Guards)
    revision: int = 0
    decisions: int = 0
    history: tuple[Decision, ...] = ()

    @model_validator(mode="after")
    def _canary_is_there(self) -> TrafficState:
        if self.canary is None and (self.weight or self.phase not in ("idle", "cleaning")):
            raise ValueError(f"weight {self.weight} and phase {self.phase} need a canary, and there is none")
        if self.canary is not None and self.canary == self.stable:
            raise ValueError(f"version {self.stable} cannot be stable and canary at once")
        return self

    @property
    def epoch(self) -> str:
        """Names the step of the rollout; outcomes are counted apart for each."""
        return f"{self.rollout}/{self.step}"

    def changed(self, **updates: Any) -> TrafficState:
        """A copy with other values, validated, and the next revision."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return TrafficState(**{**values, **updates, "revision": self.revision + 1})

    def decided(
        self, action: str, reasons: tuple[str, ...] = (), *, by: str, now: float, **updates: Any
    ) -> TrafficState:
        """A copy with other values and a decision about them at the end of the history."""
        after = self.changed(**updates)
        entry = Decision(
            sequence=self.decisions + 1,
            time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            action=action,  # type: ignore[arg-type]
            reasons=reasons,
            by=by,
            rollout=after.rollout,
            stable=after.stable,
            canary=after.canary if after.canary is not None else self.canary,
            weight=after.weight,
        )
        kept = (*self.history, entry)[-HISTORY_KEPT:]
        return after.model_copy(update={"decisions": entry.sequence, "history": kept})


def new_salt() -> str:
    """A fresh salt, which also serves to name a rollout."""
    return secrets.token_hex(8)


class TrafficFile:
    """The state on disk: read by anyone at any time, changed under a lock.

    Args:
        state_dir: Directory of the state; created by the first change.
    """

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        self.directory = Path(state_dir)
        self.path = self.directory / STATE_FILE

    def read(self) -> TrafficState:
        """Read the state.

        Raises:
            TrafficError: There is none, or it is damaged.
        """
        try:
            return TrafficState.model_validate_json(self.path.read_bytes())
        except FileNotFoundError as error:
            raise TrafficError(
                f"{self.directory} has no {STATE_FILE}; expected the state directory of a model in service. "
                "Serve one with `slipway serve --rollout=manual`, which makes it."
            ) from error
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
            raise TrafficError(
                f"{self.path} is damaged: {problems}. Restore it from a backup, or remove it: the next "
                "`slipway serve --rollout=manual` pins the newest intact version."
            ) from error
        except OSError as error:
            raise TrafficError(f"{self.path} cannot be read: {error.strerror}.") from error

    @contextlib.contextmanager
    def locked(self, timeout_seconds: float = 60.0) -> Iterator[None]:
        """Keep every other writer out; the kernel frees the lock when the holder dies.

        Raises:
            TrafficError: Another process works on the traffic for longer than that, or the directory cannot be
                written.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(exclusive_lock(self.directory / LOCK_FILE, timeout_seconds))
                except PublishError as error:
                    raise TrafficError(
                        f"another process has been changing the traffic in {self.directory} for more than "
                        f"{timeout_seconds:g} seconds. Wait for it, or end it if it hangs."
                    ) from error
                yield
        except OSError as error:
            raise TrafficError(f"{self.directory} cannot be written: {error}. What is served is untouched.") from error

    def write(self, state: TrafficState) -> None:
        """Replace the state; the caller holds the lock."""
        write_durably(self.path, state.model_dump_json(indent=2) + "\n")


class StateReader:
    """The state for those who need it for every request: read again only when the file has changed.

    Args:
        state_dir: Directory of the state.
        check_seconds: How often to look at the file.
    """

    def __init__(self, state_dir: str | os.PathLike[str], *, check_seconds: float = 0.1) -> None:
        self._file = TrafficFile(state_dir)
        self._check_seconds = check_seconds
        self._next_check = 0.0
        self._seen: tuple[int, int, int] | None = None
        self._state: TrafficState | None = None

    def current(self) -> TrafficState | None:
        """The state; the last good one while the file is unreadable, None while there never was one."""
        now = time.monotonic()
        if now < self._next_check:
            return self._state
        self._next_check = now + self._check_seconds
        try:
            found = os.stat(self._file.path)
        except OSError:
            return self._state
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._seen = seen
            try:
                self._state = self._file.read()
            except TrafficError as error:
                _LOG.warning("the traffic stays as it was: %s", error)
        return self._state
