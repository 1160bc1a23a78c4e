"""Whoever wants to see a run as it goes: the interface between the runner and the screen."""

from __future__ import annotations

from pipeline.records import RunRecord, StageRecord


class Observer:
    """Does nothing; the command line's console overrides what it shows."""

    def run_started(self, record: RunRecord) -> None:
        """A run begins; `record.stages` holds all its stages."""

    def stage_started(self, stage: StageRecord) -> None:
        """A stage is looked at; whether the cache holds it isn't known yet."""

    def stage_runs(self, stage: StageRecord) -> None:
        """The stage isn't in the cache and executes; `stage.reason` says why."""

    def stage_finished(self, stage: StageRecord) -> None:
        """The stage is done, from the cache or executed, or has failed."""

    def run_finished(self, record: RunRecord) -> None:
        """The run is over; `record.state` says how."""
