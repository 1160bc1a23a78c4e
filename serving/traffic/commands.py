"""What `slipway canary` does, as plain functions that return data.

Comes in: settings and what the user asked for. Goes out: a `CanaryStatus` or an `ABReport`. Called by the command
line, the gateway's administration and notebooks. Errors carry their exit code: 2 for what cannot be done, 3
(`serving.errors.Refused`) for what a guard refuses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.traffic import history, report
from serving.traffic.controller import Controller
from serving.traffic.judging import Judgement
from serving.traffic.model_servers import ModelServer, ServerError, Standing
from serving.traffic.outcomes import gather
from serving.traffic.report import ABReport
from serving.traffic.settings import TrafficSettings, checked_settings, load_settings
from serving.traffic.state import Decision, TrafficFile, TrafficState
from serving.traffic.stepping import Stepper

SETTINGS_FILE = "traffic.yaml"


@dataclass(frozen=True)
class ServerStanding:
    """What one model server says.

    Attributes:
        address: Its address.
        versions: Where its versions stand.
        problem: Why it says nothing; empty if it does.
    """

    address: str
    versions: Mapping[int, Standing] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class CanaryStatus:
    """Where the rollout stands.

    Attributes:
        state: The state.
        judgement: What the guards say; None without a running canary.
        report: Stable and canary compared.
        servers: What the model servers say; empty if they were not asked.
        decisions: All decisions, oldest first.
    """

    state: TrafficState
    judgement: Judgement | None
    report: ABReport
    servers: tuple[ServerStanding, ...] = ()
    decisions: tuple[Decision, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "state": self.state.model_dump(mode="json", exclude={"history"}),
            "judgement": None if self.judgement is None else asdict(self.judgement),
            "report": asdict(self.report),
            "servers": [asdict(server) for server in self.servers],
            "decisions": [decision.model_dump(mode="json") for decision in self.decisions],
        }


def find_settings(
    state_dir: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    servers: Sequence[str] | None = None,
) -> TrafficSettings:
    """Settings for a command: those of a file, or defaults for a state directory.

    Args:
        state_dir: The state directory; `traffic.yaml` in it is taken if there is one.
        config: The settings file; wins over the one in the state directory.
        servers: Addresses of the model servers, instead of those in the settings.

    Raises:
        TrafficError: Neither is given, or the settings cannot be used.
    """
    beside = None if state_dir is None else Path(state_dir) / SETTINGS_FILE
    source = Path(config) if config is not None else beside if beside is not None and beside.is_file() else None
    values: dict[str, Any] = load_settings(source).model_dump() if source is not None else {}
    if state_dir is not None:
        values["state_dir"] = Path(state_dir)
    if servers:
        values["servers"] = tuple(servers)
    return checked_settings(values, str(source or "the command"))


def start(
    settings: TrafficSettings,
    version: int | None = None,
    *,
    steps: Sequence[float] | None = None,
    shadow: bool = False,
    shadow_share: float = 1.0,
    automatic: bool | None = None,
    controller: Controller | None = None,
) -> CanaryStatus:
    """Try a version; see `Controller.start`. Returns when the first users are on it."""
    running = controller or Controller(settings)
    running.start(version, steps=steps, shadow=shadow, shadow_share=shadow_share, automatic=automatic)
    return status(settings, controller=running)


def promote(settings: TrafficSettings, *, force: bool = False, controller: Controller | None = None) -> CanaryStatus:
    """Make the canary stable; see `Controller.promote`."""
    running = controller or Controller(settings)
    running.promote(force=force)
    return status(settings, controller=running)


def abort(
    settings: TrafficSettings, *, reason: str = "by command", controller: Controller | None = None
) -> CanaryStatus:
    """Give the canary up; see `Controller.abort`."""
    running = controller or Controller(settings)
    running.abort(reason)
    return status(settings, controller=running)


def roll_back(
    settings: TrafficSettings, to: int | None = None, *, controller: Controller | None = None
) -> CanaryStatus:
    """Make an earlier version stable again; see `Controller.roll_back`."""
    running = controller or Controller(settings)
    running.roll_back(to)
    return status(settings, controller=running)


def status(
    settings: TrafficSettings, *, ask_servers: bool = True, controller: Controller | None = None
) -> CanaryStatus:
    """Say where the rollout stands; changes nothing.

    Args:
        settings: The settings.
        ask_servers: Whether to ask the model servers too.
        controller: Its servers are asked; by default those of the settings.
    """
    running = controller or Controller(settings, Stepper(settings, listeners=()))
    state = TrafficFile(settings.state_dir).read()
    return CanaryStatus(
        state=state,
        judgement=running.judge(state) if state.phase == "running" else None,
        report=compare(settings),
        servers=tuple(_ask(server) for server in running.stepper.servers) if ask_servers else (),
        decisions=tuple(history.read(settings.state_dir)),
    )


def compare(settings: TrafficSettings, *, confidence: float = 0.95) -> ABReport:
    """Compare stable and canary over the present rollout, or the last one if none is running."""
    state = TrafficFile(settings.state_dir).read()
    ended = report.kept(settings.state_dir, state.rollout) if state.canary is None and state.rollout else None
    if ended is not None:
        return ended
    return report.build(state, gather(settings.state_dir, state), confidence=confidence, now=time.time())


def _ask(server: ModelServer) -> ServerStanding:
    try:
        return ServerStanding(server.address, server.standings())
    except ServerError as error:
        return ServerStanding(server.address, problem=str(error))
