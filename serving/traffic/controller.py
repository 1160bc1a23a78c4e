"""The controller of a canary: the commands of people, and the decisions of the watching loop.

Comes in: settings, the state, commands. Goes out: the next state, and through `serving.traffic.stepping` what the
model servers are told. Called by `serving.traffic.commands`, `python -m serving.traffic watch` and the gateway; any
number of them may run at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from serving.errors import Refused, ServingError
from serving.traffic import rollout
from serving.traffic.judging import Judgement, judge
from serving.traffic.outcomes import forget_old, gather
from serving.traffic.settings import TrafficSettings
from serving.traffic.state import CANARY, TrafficError, TrafficState, new_salt
from serving.traffic.stepping import Stepper

_LOG = logging.getLogger("slipway.serving")


class Controller:
    """Starts, advances, promotes and rolls back.

    Each command changes the state under the lock and then lets the steps do the work.

    Args:
        settings: The settings.
        stepper: Does the steps; by default one for the settings.
        sleep: Waits.
    """

    def __init__(
        self,
        settings: TrafficSettings,
        stepper: Stepper | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.stepper = stepper or Stepper(settings)
        self._sleep = sleep

    def start(
        self,
        version: int | None = None,
        *,
        steps: Sequence[float] | None = None,
        shadow: bool = False,
        shadow_share: float = 1.0,
        automatic: bool | None = None,
    ) -> TrafficState:
        """Try a version: load it, wait until it answers, and give it the first share of the users.

        Args:
            version: Which one; by default the newest intact one. Naming the one that is starting already takes up
                a start that was interrupted.
            steps: Shares of the users; those of the settings by default.
            shadow: Whether the canary also gets copies of requests that stable answers.
            shadow_share: Share of these requests.
            automatic: Whether the controller decides by itself; as in the settings by default.

        Raises:
            TrafficError: There is a canary already, the version is not fit, it does not load, or the servers cannot
                be reached; users are answered by the stable version as before. A server that is not there at the
                beginning is found out at once, and nothing is changed.
        """
        chosen_steps = self.settings.steps if steps is None else self.settings.with_steps(steps).steps
        self.stepper.ask_each()
        with self.stepper.file.locked():
            state = self.stepper.caught_up()
            if state.phase == "starting" and version in (None, state.canary):
                pass
            elif state.canary is not None:
                raise self._on_trial(state)
            else:
                chosen = rollout.intact_version(state.base_path, version, than=state.stable).number
                state = self._started(state, chosen, chosen_steps, shadow, shadow_share, automatic)
                self.stepper.save(state)
        number, name = state.canary, state.rollout
        state = self.settle()
        if state.rollout != name or state.phase != "running":
            ends = [entry for entry in state.history if entry.rollout == name and entry.action == "rollback"]
            why = "; ".join(ends[-1].reasons) if ends else "another command took over"
            raise TrafficError(
                f"version {number} did not get into service: {why}. Version {state.stable} answers everyone as before."
            )
        return state

    def promote(self, *, force: bool = False) -> TrafficState:
        """Make the canary the stable version; returns when every server answers with it.

        Args:
            force: Whether to pass over the guards; not over missing or damaged files.

        Raises:
            Refused: The guards are not satisfied.
            TrafficError: No canary is running, its files are damaged, or the servers cannot be reached.
        """
        with self.stepper.file.locked():
            state = self.stepper.caught_up()
            if state.phase not in ("running", "promoting"):
                raise TrafficError(f"no canary is running ({state.phase}); start one first.")
            assert state.canary is not None, "a running canary has a version"
            if problems := rollout.version_problems(state.base_path, state.canary):
                raise TrafficError(f"version {state.canary} cannot be promoted: {'; '.join(problems)}. Abort it.")
            if state.phase == "running":
                found = self.judge(state)
                doubts = [f"{each.guard}: {each.text}" for each in found.findings if each.verdict != "ok"]
                if doubts and not force:
                    raise Refused(
                        f"version {state.canary} is not promoted:\n"
                        + "\n".join(f"  {doubt}" for doubt in doubts)
                        + "\nWait, abort it, or promote it all the same with --force."
                    )
                state = self._promotion(state, ("by command", *(("forced", *doubts) if doubts else ())))
                self.stepper.save(state)
        after = self.settle()
        if after.stable != state.canary:
            raise _overtaken(state, after)
        return after

    def abort(self, reason: str = "by command") -> TrafficState:
        """Give the canary up: users are back on stable when this has written the state, the servers follow.

        Raises:
            TrafficError: There is no canary, or the servers cannot be reached; users are on stable nevertheless.
        """
        with self.stepper.file.locked():
            state = self.stepper.caught_up()
            if state.canary is None:
                back = f" To go back to version {state.previous}, roll back." if state.previous is not None else ""
                raise TrafficError(f"there is no canary; version {state.stable} answers everyone.{back}")
            if state.phase != "aborting":
                state = self.stepper.given_up(state, (reason,))
                self.stepper.save(state)
        after = self.settle()
        if after.canary is not None and after.rollout == state.rollout:
            raise _overtaken(state, after)
        return after

    def roll_back(self, to: int | None = None) -> TrafficState:
        """Make an earlier version stable again, without a trial; both stay loaded until it answers.

        Args:
            to: Which one; by default the one that was stable before.

        Raises:
            TrafficError: There is none, a canary is on trial, or as for `start`.
        """
        state = self.stepper.file.read()
        target = state.previous if to is None else to
        if target is None:
            raise TrafficError(f"version {state.stable} is the first one that was stable; name the version to go to.")
        # A command that was killed in between left the version running without users; it is taken up here.
        if state.canary != target or state.phase != "running":
            self.start(target, steps=(0.0,), automatic=False)
        return self.promote(force=True)

    def settle(self) -> TrafficState:
        """Go on until there is nothing to do but to wait for users, or until the servers have had their time.

        Raises:
            TrafficError: The time is over; the next command or the watching loop goes on.
        """
        deadline = self.stepper.clock() + self.settings.load_timeout_seconds + self.settings.lost_seconds
        while True:
            state = self.stepper.advance()
            if state.phase in ("idle", "running"):
                return state
            if self.stepper.clock() >= deadline:
                users = f"{state.weight:.0%} of the users are on version {state.canary}" if state.weight else ""
                command = self._finishing(state)
                raise TrafficError(
                    f"the model servers have not followed yet ({state.phase}): {self.stepper.problem or 'no answer'}. "
                    f"{users or f'Version {state.stable} answers everyone'}; the next command goes on from here"
                    f"{f', such as {command}' if command else ''}."
                )
            self._sleep(self.settings.poll_seconds)

    def tick(self) -> TrafficState:
        """One turn of the watching loop: the next thing, and in an automatic rollout the next decision."""
        state = self.stepper.advance()
        if state.phase != "running" or not state.automatic:
            return state
        with self.stepper.file.locked():
            state = self.stepper.file.read()
            if state.phase == "running" and state.automatic:
                after = self._decided(state, self.judge(state))
                if after is not state:
                    self.stepper.save(after)
                    return after
        return state

    def judge(self, state: TrafficState) -> Judgement:
        """What the guards say now."""
        directory = self.settings.state_dir
        step = gather(directory, state, step=state.step)
        return judge(state, step, gather(directory, state), self.stepper.clock())

    def _decided(self, state: TrafficState, found: Judgement) -> TrafficState:
        if found.action == "rollback":
            return self.stepper.given_up(state, found.reasons)
        if found.action == "promote":
            assert state.canary is not None, "a running canary has a version"
            problems = rollout.version_problems(state.base_path, state.canary)
            return self.stepper.given_up(state, tuple(problems)) if problems else self._promotion(state, found.reasons)
        if found.action == "advance":
            step = state.step + 1
            updates = {"step": step, "weight": state.steps[step], "step_started": self.stepper.clock()}
            return self.stepper.decide(state, "advance", found.reasons, **updates)
        last = state.history[-1] if state.history else None
        if found.action == "hold" and not (last and last.action == "hold" and last.rollout == state.rollout):
            return self.stepper.decide(state, "hold", found.reasons)
        return state

    def _started(
        self,
        state: TrafficState,
        version: int,
        steps: tuple[float, ...],
        shadow: bool,
        shadow_share: float,
        automatic: bool | None,
    ) -> TrafficState:
        name, now = new_salt(), self.stepper.clock()
        percent = ", ".join(f"{step:.0%}" for step in steps)
        after = self.stepper.decide(
            state,
            "start",
            (f"version {version} against {state.stable}, steps {percent}",),
            canary=version,
            weight=0.0,
            rollout=name,
            salt=name,
            phase="starting",
            steps=steps,
            step=0,
            shadow=CANARY if shadow else None,
            shadow_share=shadow_share,
            automatic=self.settings.automatic if automatic is None else automatic,
            guards=self.settings.guards,
            started=now,
            step_started=now,
        )
        forget_old(self.settings.state_dir, after)
        return after

    def _on_trial(self, state: TrafficState) -> TrafficError:
        if command := self._finishing(state):
            ends = "promoted" if state.phase == "promoting" else "given up"
            return TrafficError(
                f"version {state.canary} is still being {ends}: the model servers have not followed yet. "
                f"Finish that with {command}, then start again."
            )
        return TrafficError(
            f"version {state.canary} is on trial already ({state.phase}, {state.weight:.0%} of the users). "
            "Promote or abort it first."
        )

    def _finishing(self, state: TrafficState) -> str:
        """The command that takes up an end that was begun; empty if none was."""
        name = {"promoting": "promote", "aborting": "abort"}.get(state.phase)
        servers = "".join(f" --server {address}" for address in self.settings.servers)
        return f"`slipway canary {name}{servers}`" if name else ""

    def _promotion(self, state: TrafficState, reasons: tuple[str, ...]) -> TrafficState:
        return self.stepper.decide(state, "promote", reasons, phase="promoting", step_started=self.stepper.clock())


def _overtaken(asked: TrafficState, after: TrafficState) -> TrafficError:
    last = after.history[-1] if after.history else None
    why = f": {last.action}, {'; '.join(last.reasons)}" if last else ""
    return TrafficError(
        f"something else decided about version {asked.canary} meanwhile{why}. Version {after.stable} is stable now."
    )


def watch(
    settings: TrafficSettings,
    stop: threading.Event,
    *,
    controller: Controller | None = None,
) -> None:
    """Run the controller until told to stop; errors are logged and tried again.

    Args:
        settings: The settings.
        stop: Ends the loop.
        controller: The one to run; by default one for the settings.
    """
    running = controller or Controller(settings, Stepper(settings, by="watch"))
    last = ""
    while not stop.is_set():
        try:
            running.tick()
            problem = running.stepper.problem
        except (ServingError, OSError) as error:
            problem = str(error)
        if problem and problem != last:
            _LOG.warning("the rollout waits: %s", problem)
        last = problem
        stop.wait(settings.poll_seconds)
