"""The errors that a user can cause and mend while training; the command line turns them into exit codes."""

from __future__ import annotations


class TrainerError(ValueError):
    """A request the trainer cannot fulfil: what was received, what was expected and how to fix it."""

    exit_code = 2


class UnknownModelError(TrainerError):
    """A model name that no registered family carries."""


class DivergedError(TrainerError):
    """Training whose loss stopped being a finite number."""


class WorkerLostError(TrainerError):
    """A training whose other processes are gone; nobody's mistake, so it may simply be started again."""

    exit_code = 1
