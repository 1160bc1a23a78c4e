"""`slipway watch`: looks at triggers and data, and runs the pipeline when there is something new to learn from.

Comes in: a config's path and what starts runs and comparisons. Goes out: runs, and lines about them. Whatever triggers
a look, what decides is the fingerprint of all that a run depends on: an input that a run has finished with (succeeded
or refused) is never run again, one that failed is tried again after a growing wait, a limited number of times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import records as run_records
from pipeline.config.config import Config
from pipeline.config.loading import load
from pipeline.config.retrain import RetrainSettings
from pipeline.continuous.cron import is_due
from pipeline.continuous.looking import Look, input_fingerprint, look
from pipeline.continuous.state import FAILED, REFUSED, RUNNING, SUCCEEDED, Attempt, WatchState
from pipeline.errors import ConfigError
from pipeline.records import STAGE_FAILED, RunRecord
from pipeline.running import still_valid
from pipeline.workdir import WorkDir
from transform.errors import DataError

RunPipeline = Callable[[Sequence[str]], int]
"""Runs the pipeline with `--set` overrides and returns the exit code of `slipway run`."""

CompareRequests = Callable[[], "str | None"]
"""Returns in a sentence how the requests have drifted, or None."""

SCHEDULE, DRIFT = "the schedule", "drift"
"""Reasons for a look that come and go, and are remembered until the look was taken."""

_ONCE = (SCHEDULE, DRIFT)
_USER_ERROR, _GATE_REFUSED, _INTERRUPTED = 2, 3, 130
_STATES = {run_records.SUCCEEDED: SUCCEEDED, run_records.REFUSED: REFUSED}


@dataclass
class Watcher:
    """One pipeline that is watched.

    Attributes:
        config_path: the YAML file, read anew at every look.
        overrides: `--set` of the command line.
        workdir: the work directory, which exists.
        run: runs the pipeline.
        compare: compares requests with the training data.
        say: prints a line.
        clock: returns Unix time.
    """

    config_path: Path
    overrides: Sequence[str]
    workdir: WorkDir
    run: RunPipeline
    compare: CompareRequests
    say: Callable[[str], None]
    clock: Callable[[], float] = time.time
    state: WatchState = field(init=False)

    def __post_init__(self) -> None:
        """Read what an earlier watch left."""
        self.state = WatchState.load(self.workdir.root)

    def step(self) -> Attempt | None:
        """Look once, and run the pipeline if there is a reason to.

        Returns:
            The attempt if a run was made, else None.

        Raises:
            ConfigError: the config can't be read or is wrong.
        """
        config = load(self.config_path, self.overrides).config
        if not self._find_out_what_became_of_the_last():
            return None
        reason = self._reason(config.retrain)
        if not reason:
            return None
        if reason in _ONCE and self.state.wanted != reason:
            self.state.wanted = reason
            self._save()
        try:
            return self._act(config, reason)
        except (DataError, FileNotFoundError) as error:
            self.complain(f"the data can't be used: {error}")
            return None

    def _find_out_what_became_of_the_last(self) -> bool:
        """Settle an attempt whose watch died under it; return whether the work directory is free."""
        last = self.state.last
        if last is None or last.outcome != RUNNING:
            return True
        if not self._free():
            return False
        found = self._record_of(last.input)
        if found is not None:
            last.outcome, last.run_id, last.error = _STATES[found.state], found.run_id, found.error
        else:
            self.say(f"the run of {last.reason} was interrupted; it is tried again")
            last.outcome, last.retry_at = FAILED, self.clock()
        self._save()
        return True

    def _reason(self, settings: RetrainSettings) -> str:
        """Return why the data is to be looked at now, or nothing."""
        now, last = self.clock(), self.state.last
        if "schedule" in settings.triggers and settings.schedule is not None:
            if not self.state.scheduled_at:
                self.state.scheduled_at = now
                self._save()
            elif is_due(settings.schedule, self.state.scheduled_at, now):
                self.state.scheduled_at = now
                return SCHEDULE
        if "drift" in settings.triggers and now - self.state.drift_at >= settings.drift_check_seconds:
            self.state.drift_at = now
            self._save()
            if drifted := self.compare():
                self.say(drifted)
                return DRIFT
        if self.state.wanted:
            return self.state.wanted
        if last is not None and last.outcome == FAILED and 0 < last.retry_at <= now:
            return last.reason
        return "new data" if "data" in settings.triggers else ""

    def _act(self, config: Config, reason: str) -> Attempt | None:
        """Look at the data, and run if nothing was made of it yet."""
        now, last = self.clock(), self.state.last
        seen = look(config, now)
        waits_for = f"; {', '.join(seen.changing_spans)} left out, still changing" if seen.changing_spans else ""
        if seen.changing:
            self.complain(f"the data is still changing; a run begins once it rests for {seen.changing:.0f} s more")
            return None
        if last is not None and last.settled and seen.signature == self.state.signature:
            self._nothing_new(reason)
            return None
        fingerprint = input_fingerprint(seen, self.workdir)
        if last is None or last.input != fingerprint:
            found = self._record_of(fingerprint)
            if found is not None:
                last = Attempt(fingerprint, _STATES[found.state], 0, 0.0, "a run by hand", found.run_id, found.error)
                self.state.last = last
        if last is not None and last.input == fingerprint:
            if last.outcome == FAILED and last.count >= config.retrain.attempts:
                last.retry_at = 0.0
            if last.settled:
                self.state.signature = seen.signature
                self._save()
                self._nothing_new(reason)
                return None
            if now < last.retry_at:
                return None
        if not self._free():
            self.complain("another run is using the work directory; waiting for it to end")
            return None
        count = last.count + 1 if last is not None and last.input == fingerprint else 1
        self.say(f"{reason}{f': {seen.in_words}' if seen.in_words else ''}{waits_for}; the pipeline runs")
        return self._attempt(Attempt(fingerprint, RUNNING, count, 0.0, reason), seen, config.retrain)

    def _attempt(self, attempt: Attempt, seen: Look, settings: RetrainSettings) -> Attempt:
        """Run the pipeline once and note what came of it."""
        self.state.last, self.state.wanted, self.state.complaint, self.state.signature = attempt, "", "", ""
        self._save()
        before = self._newest()
        code = self.run([*self.overrides, *seen.overrides])
        record = self._newest()
        if record is not None and (before is None or record.run_id != before.run_id):
            attempt.run_id, attempt.error = record.run_id, record.error
        if code in (0, _GATE_REFUSED):
            attempt.outcome = SUCCEEDED if code == 0 else REFUSED
            self.state.signature = seen.signature
        else:
            attempt.outcome = FAILED
            if attempt.count < settings.attempts and not (code == _USER_ERROR and _at_fault(attempt, record)):
                wait = min(settings.backoff_seconds * 2 ** (attempt.count - 1), settings.backoff_max_seconds)
                attempt.retry_at = self.clock() + wait
            else:
                self.state.signature = seen.signature
        self._save()
        self.say(self._closing(attempt, code))
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        return attempt

    def _closing(self, attempt: Attempt, code: int) -> str:
        run = f"run {attempt.run_id}" if attempt.run_id else "the run"
        if attempt.outcome == SUCCEEDED:
            record = self._newest()
            version = f": version {record.version}" if record is not None and record.version is not None else ""
            return f"{run} succeeded{version}"
        if attempt.outcome == REFUSED:
            return f"{run}: a gate refused; nothing was pushed, and nothing runs until data, config or code change"
        why = f" ({attempt.error.splitlines()[0]})" if attempt.error else ""
        if attempt.retry_at:
            wait = attempt.retry_at - self.clock()
            return f"{run} failed with exit code {code}{why}; attempt {attempt.count + 1} in {wait:.0f} s"
        return f"{run} failed with exit code {code}{why}; nothing runs until data, config or code change"

    def _nothing_new(self, reason: str) -> None:
        if reason in _ONCE:
            last = self.state.last
            run = f" since run {last.run_id}" if last is not None and last.run_id else ""
            self.say(f"{reason}: nothing new to learn from{run}, so nothing runs")
        if self.state.wanted or self.state.complaint:
            self.state.wanted = self.state.complaint = ""
            self._save()

    def _record_of(self, fingerprint: str) -> RunRecord | None:
        """Return the newest run that finished with this input, whoever started it."""
        newest = self._newest()
        return newest if newest is not None and still_valid(newest, fingerprint) else None

    def _newest(self) -> RunRecord | None:
        return next(run_records.records(self.workdir.records), None)

    def _free(self) -> bool:
        """Return whether no run holds the work directory at the moment."""
        try:
            with self.workdir.lock():
                return True
        except ConfigError:
            return False

    def complain(self, text: str) -> None:
        """Say something once, until something else is to be said."""
        topic = text.partition(";")[0]
        if self.state.complaint != topic:
            self.state.complaint = topic
            self.say(text)
            self._save()

    def _save(self) -> None:
        self.state.save(self.workdir.root)


def _at_fault(attempt: Attempt, record: RunRecord | None) -> bool:
    """Return whether a run failed by what it was given, so that the same again would fail again.

    Publishing fails by the place (a full disk, say), and a run without a record by what held the work directory.
    """
    if record is None or record.run_id != attempt.run_id:
        return False
    failed = next((stage.id for stage in record.stages if stage.state == STAGE_FAILED), "")
    return not failed.endswith("Pusher")
