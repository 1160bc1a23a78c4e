"""What happened to requests, from the gateways to the controller.

Comes in: one call for each answer. Goes out: `STATE_DIR/outcomes/<process>.json`, counts per step of the rollout
and per version, added up over all processes by `gather`. Called by the gateway (`Outcomes`) and by the controller,
the report and the status (`gather`).

The counts are cumulative, so a reader never misses a window, and their size does not depend on the traffic. A
process that is killed loses the last second at most.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.traffic.state import CANARY, STABLE, StateReader, TrafficState
from serving.traffic.tallies import Tally

OUTCOMES_FOLDER = "outcomes"
_SHADOW = "shadow"
_MAX_EPOCHS = 32
_STALE_SECONDS = 3600.0
_LOG = logging.getLogger("slipway.serving")


class Outcomes:
    """Counts answers in memory and writes the counts down from a thread of its own.

    Make it in the process that uses it, after any fork. All methods are thread-safe and cheap enough for an event
    loop; none raises because of the disk: what cannot be written is counted on and written later.

    Args:
        state_dir: Directory of the traffic state.
        flush_seconds: How often the counts are written; 0 writes only in `flush` and `close`.
    """

    def __init__(self, state_dir: str | os.PathLike[str], *, flush_seconds: float = 1.0) -> None:
        self._folder = Path(state_dir) / OUTCOMES_FOLDER
        self._path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        self._state = StateReader(state_dir, check_seconds=0.0 if not flush_seconds else 0.1)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._epochs: dict[str, dict[str, Tally]] = {}
        self._dirty = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if flush_seconds:
            self._thread = threading.Thread(
                target=self._flush_regularly, args=(flush_seconds,), name="traffic-outcomes", daemon=True
            )
            self._thread.start()

    def record(
        self,
        label: str,
        version: int | None,
        ok: bool,
        status: int,
        milliseconds: float,
        class_id: int | None = None,
        confidence: float | None = None,
        request_id: str = "",
    ) -> None:
        """Count the answer that a user got.

        Args:
            label: Label that was asked, `stable` or `canary`.
            version: Version that answered; None if nobody did.
            ok: Whether it is an answer. Anything else counts, also what looks like the client's fault: a canary
                whose signature has changed fails exactly so, and bad clients meet both versions alike.
            status: HTTP status.
            milliseconds: Time that the model server took.
            class_id: Predicted class.
            confidence: Probability of that class, 0 to 1.
            request_id: To look the request up if it failed.
        """
        with self._lock:
            self._tally(label, version).answer(ok, status, milliseconds, class_id, confidence, request_id)

    def record_shadow(
        self,
        version: int | None,
        ok: bool,
        status: int,
        milliseconds: float,
        class_id: int | None = None,
        confidence: float | None = None,
        request_id: str = "",
        *,
        agreed: bool | None = None,
    ) -> None:
        """Count the answer of the canary that nobody saw.

        Args:
            version: As for `record`; likewise the others.
            ok: As for `record`.
            status: As for `record`.
            milliseconds: As for `record`.
            class_id: As for `record`.
            confidence: As for `record`.
            request_id: As for `record`.
            agreed: Whether the class is the one that the user was told; None if one of the two failed.
        """
        with self._lock:
            tally = self._tally(_SHADOW, version)
            tally.answer(ok, status, milliseconds, class_id, confidence, request_id)
            if agreed is not None:
                tally.agreed += agreed
                tally.disagreed += not agreed

    def record_feedback(self, label: str, version: int | None, right: bool) -> None:
        """Count what a user said about an answer; once per answer, which the caller sees to."""
        with self._lock:
            tally = self._tally(label, version)
            tally.right += right
            tally.wrong += not right

    def flush(self) -> None:
        """Write the counts now; a failure is logged, and the next time writes all."""
        with self._writing:
            with self._lock:
                if not self._dirty:
                    return
                self._dirty = False
                epochs = {
                    epoch: {name: tally.to_json() for name, tally in tallies.items()}
                    for epoch, tallies in self._epochs.items()
                }
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                temporary = self._path.with_suffix(".new")
                temporary.write_text(json.dumps({"epochs": epochs}), encoding="utf-8")
                os.replace(temporary, self._path)
            except OSError as error:
                self._dirty = True
                _LOG.warning("outcomes could not be written to %s: %s", self._path, error)

    def close(self) -> None:
        """Write the counts and end the thread."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _flush_regularly(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            self.flush()

    def _tally(self, label: str, version: int | None) -> Tally:
        state = self._state.current()
        tallies = self._epochs.setdefault(state.epoch if state else "/0", {})
        while len(self._epochs) > _MAX_EPOCHS:
            del self._epochs[next(iter(self._epochs))]
        self._dirty = True
        return tallies.setdefault(f"{label}@{'' if version is None else version}", Tally())


@dataclass
class Evidence:
    """What is known about the two versions of a rollout.

    Attributes:
        stable: Answers of the stable version.
        canary: Answers of the canary.
        shadow: Answers of the canary that nobody saw.
    """

    stable: Tally = field(default_factory=Tally)
    canary: Tally = field(default_factory=Tally)
    shadow: Tally = field(default_factory=Tally)


def gather(state_dir: str | os.PathLike[str], state: TrafficState, *, step: int | None = None) -> Evidence:
    """Add up what all processes counted in the present rollout.

    Args:
        state_dir: Directory of the traffic state.
        state: Says which rollout and which versions.
        step: Only that step; all of the rollout by default.
    """

    def wanted(epoch: str) -> bool:
        rollout, _, found = epoch.rpartition("/")
        return rollout == state.rollout and (step is None or found == str(step))

    evidence = Evidence()
    for epochs in _read_all(Path(state_dir) / OUTCOMES_FOLDER):
        _add(evidence, state, (tallies for epoch, tallies in epochs.items() if wanted(epoch)))
    return evidence


def _add(evidence: Evidence, state: TrafficState, epochs: Iterable[Mapping[str, Tally]]) -> None:
    targets: dict[str, tuple[Tally, int | None]] = {
        STABLE: (evidence.stable, state.stable),
        CANARY: (evidence.canary, state.canary),
        _SHADOW: (evidence.shadow, state.canary),
    }
    for tallies in epochs:
        for name, tally in tallies.items():
            label, _, version = name.partition("@")
            target, expected = targets.get(label, (None, None))
            # A failed answer names no version; another version than expected is a latecomer of another rollout.
            if target is not None and version in ("", str(expected)):
                target.add(tally)


def _read_all(folder: Path) -> Iterable[dict[str, dict[str, Tally]]]:
    for path in sorted(folder.glob("*.json")):
        try:
            epochs = json.loads(path.read_text("utf-8"))["epochs"]
            yield {
                epoch: {name: Tally.from_json(values) for name, values in tallies.items()}
                for epoch, tallies in epochs.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.warning("outcomes in %s are passed over: %s", path, error)


def forget_old(
    state_dir: str | os.PathLike[str], state: TrafficState, *, clock: Callable[[], float] = time.time
) -> None:
    """Remove the files of processes that have been silent for an hour and know nothing of the present rollout."""
    for path in sorted((Path(state_dir) / OUTCOMES_FOLDER).glob("*.json")):
        try:
            if clock() - path.stat().st_mtime < _STALE_SECONDS:
                continue
            if not state.rollout or f'"{state.rollout}/' not in path.read_text("utf-8"):
                path.unlink()
        except OSError as error:
            _LOG.warning("old outcomes in %s stay: %s", path, error)
