"""The steps of a rollout: each does one thing for the present phase, and can be done twice.

Comes in: the state on disk and the model servers. Goes out: what the servers are told, and the next state. Called by
`serving.traffic.controller` only.

Each step holds the lock, reads the state, does one thing and writes the state. What a killed process left behind is
the beginning of the same step. The order makes sure that nobody notices:

- The canary gets users only after every server has said that its label answers.
- A promotion moves both labels in one configuration while both versions stay loaded; the old version is let go only
  after every server has said that `stable` is answered by the new one.
- A rollback first takes the users back, then the label, then the version.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from serving.errors import ServingError
from serving.traffic import history, report, rollout
from serving.traffic.model_servers import ModelServer, ServerError, Standing, Unreachable, connect
from serving.traffic.rollout import Served
from serving.traffic.settings import TrafficSettings
from serving.traffic.state import CANARY, STABLE, TrafficError, TrafficFile, TrafficState

_TELL_AGAIN_SECONDS = 10.0
_LOG = logging.getLogger("slipway.serving")

Listener = Callable[[TrafficState], None]


class Stepper:
    """Carries the state from one phase to the next.

    Args:
        settings: The settings.
        servers: The model servers; by default those of the settings.
        listeners: Called with every state before anything else happens to it, such as the writer of Envoy's routes.
            They must do nothing if they have done it already.
        by: Who decides, for the history.
        clock: Unix seconds.

    Attributes:
        file: The state on disk.
        problem: What the last step waits for; empty if for nothing.
    """

    def __init__(
        self,
        settings: TrafficSettings,
        *,
        servers: Sequence[ModelServer] | None = None,
        listeners: Sequence[Listener] | None = None,
        by: str = "command",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.file = TrafficFile(settings.state_dir)
        self.clock = clock
        self.problem = ""
        self._by = by
        self._servers = servers
        self._listeners = _listeners(settings) if listeners is None else listeners
        self._told: dict[str, tuple[str, float]] = {}
        self._lost_since: float | None = None

    @property
    def servers(self) -> Sequence[ModelServer]:
        """The model servers."""
        if self._servers is None:
            self._servers = connect(self.settings, self.file.read().model)
        return self._servers

    def ask_each(self) -> None:
        """Ask every server once for its versions, before anything is changed.

        Raises:
            TrafficError: One of them is not there.
            ServerError: One of them is there, and does not say.
        """
        for server in self.servers:
            try:
                server.standings()
            except Unreachable as error:
                raise TrafficError(
                    f"no model server answers at {error.address} ({error.reason}). Start it with "
                    "`slipway serve --rollout=manual`, or give the right address with --server; nothing was changed."
                ) from error

    def advance(self) -> TrafficState:
        """Do the next thing, if there is one, and say where that leads."""
        with self.file.locked():
            state = self.caught_up()
            self.problem = ""
            try:
                after = getattr(self, f"_in_{state.phase}")(state)
            except ServerError as error:
                self.problem = str(error)
                after = self._out_of_time(state)
            if after is not state:
                self.save(after)
            return after

    def _in_idle(self, state: TrafficState) -> TrafficState:
        self._write(state, rollout.only_stable(state))
        return state

    def _in_starting(self, state: TrafficState) -> TrafficState:
        assert state.canary is not None, "a starting canary has a version"
        if not rollout.version_present(state.base_path, state.canary):
            return self.given_up(state, (f"version {state.canary} was deleted from {state.base_path}",))
        # A label may only point to a version that is available, so it follows in a second configuration.
        standings = [server.standings().get(state.canary) for server in self.servers]
        for server, standing in zip(self.servers, standings, strict=True):
            if standing is not None and standing.state == "END" and standing.message:
                return self.given_up(
                    state, (f"{server.address} cannot load version {state.canary}: {standing.message}",)
                )
        if not all(standing is not None and standing.available for standing in standings):
            self._tell(state, rollout.both_on_stable(state))
            self.problem = f"version {state.canary} is {_spoken(standings)}"
            return self._out_of_time(state)
        self._tell(state, rollout.side_by_side(state))
        if not self._answers(CANARY, state.canary):
            return self._out_of_time(state)
        reasons = (f"version {state.canary} answers on {len(self.servers)} server(s)",)
        updates = {"phase": "running", "step": 0, "weight": state.steps[0], "step_started": self.clock()}
        return self.decide(state, "serve", reasons, **updates)

    def _in_running(self, state: TrafficState) -> TrafficState:
        assert state.canary is not None, "a running canary has a version"
        if not rollout.version_present(state.base_path, state.canary):
            return self.given_up(state, (f"version {state.canary} was deleted from {state.base_path}",))
        self._write(state, rollout.side_by_side(state))
        if self._answers(CANARY, state.canary):
            self._lost_since = None
            return state
        # The server can be reached, so this is not its restart, or no longer.
        self._lost_since = self.clock() if self._lost_since is None else self._lost_since
        lost = self.clock() - self._lost_since
        if lost >= self.settings.lost_seconds:
            return self.given_up(state, (f"{self.problem}, for {lost:.0f} s",))
        self._tell(state, rollout.side_by_side(state))
        return state

    def _in_promoting(self, state: TrafficState) -> TrafficState:
        assert state.canary is not None, "a canary that is promoted has a version"
        if not rollout.version_present(state.base_path, state.canary):
            return self.given_up(state, (f"version {state.canary} was deleted from {state.base_path}",))
        self._tell(state, rollout.both_on_canary(state))
        if not self._answers(STABLE, state.canary):
            return state
        reasons = (f"version {state.canary} answers as `{STABLE}` on {len(self.servers)} server(s)",)
        report.keep(self.settings.state_dir, state)
        return self.decide(
            state, "promoted", reasons, stable=state.canary, previous=state.stable, **_without_canary("cleaning")
        )

    def _in_aborting(self, state: TrafficState) -> TrafficState:
        assert state.canary is not None, "a canary that is given up has a version"
        present = rollout.version_present(state.base_path, state.canary)
        self._tell(state, rollout.both_on_stable(state) if present else rollout.only_stable(state))
        if not self._answers(CANARY, state.stable):
            return state
        report.keep(self.settings.state_dir, state)
        reasons = (f"version {state.stable} answers everyone on {len(self.servers)} server(s)",)
        return self.decide(state, "rolled-back", reasons, **_without_canary("cleaning"))

    def _in_cleaning(self, state: TrafficState) -> TrafficState:
        self._tell(state, rollout.only_stable(state))
        return state.changed(phase="idle") if self._answers(STABLE, state.stable) else state

    def given_up(self, state: TrafficState, reasons: tuple[str, ...]) -> TrafficState:
        """The state after the canary was given up: nobody is on it any more."""
        updates = {"phase": "aborting", "weight": 0.0, "shadow": None, "step_started": self.clock()}
        return self.decide(state, "rollback", reasons, **updates)

    def _out_of_time(self, state: TrafficState) -> TrafficState:
        """A start that takes too long is given up; everything else is tried for ever, users being safe."""
        waited = self.clock() - (state.step_started or 0.0)
        if state.phase != "starting" or waited < self.settings.load_timeout_seconds:
            return state
        return self.given_up(state, (f"not loaded within {waited:.0f} s: {self.problem or 'no answer'}",))

    def decide(self, state: TrafficState, action: str, reasons: tuple[str, ...], **updates: Any) -> TrafficState:
        """The state after a decision."""
        _LOG.info("%s: %s: %s", state.model, action, "; ".join(reasons))
        return state.decided(action, reasons, by=self._by, now=self.clock(), **updates)

    def caught_up(self) -> TrafficState:
        """The state, with everything done that a killed process did not get to after writing it."""
        state = self.file.read()
        self._follow(state)
        return state

    def save(self, state: TrafficState) -> None:
        """Write the state and let everyone who depends on it follow; the caller holds the lock."""
        self.file.write(state)
        self._follow(state)

    def _follow(self, state: TrafficState) -> None:
        # A full disk or a missing folder must not keep a rollback from working; the next step tries again.
        for follow in (lambda now: history.catch_up(self.settings.state_dir, now), *self._listeners):
            try:
                follow(state)
            except (OSError, ServingError) as error:
                _LOG.warning("the rollout goes on, but: %s", error)

    def _write(self, state: TrafficState, served: Served) -> str:
        text = rollout.render(state.model, state.base_path, served)
        rollout.write_config(self.settings.state_dir, text)
        return text

    def _tell(self, state: TrafficState, served: Served) -> None:
        """Write the configuration and hand it to every server that does not have it from here already."""
        text = self._write(state, served)
        for server in self.servers:
            last, when = self._told.get(server.address, ("", 0.0))
            if last != text or self.clock() - when >= _TELL_AGAIN_SECONDS:
                server.tell(text)
                self._told[server.address] = (text, self.clock())

    def _answers(self, label: str, version: int) -> bool:
        """Whether every server answers a label with a version."""
        for server in self.servers:
            found = server.standings(label)
            if not (version in found and found[version].available):
                now = ", ".join(f"{number} {standing.state}" for number, standing in found.items()) or "nothing"
                self.problem = f"{server.address} answers `{label}` with {now}, expected version {version}"
                return False
        return True


def _without_canary(phase: str) -> dict[str, Any]:
    return {"canary": None, "weight": 0.0, "shadow": None, "phase": phase}


def _spoken(standings: Sequence[Standing | None]) -> str:
    return ", ".join("unknown" if standing is None else standing.state for standing in standings)


def _listeners(settings: TrafficSettings) -> Sequence[Listener]:
    if settings.proxy is None:
        return ()
    from serving.proxy.steering import follower

    return (follower(settings.proxy),)
