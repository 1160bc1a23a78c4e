"""The errors of this room; the command line turns `exit_code` into the exit code of the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.evaluation.verdict import Verdict


class ConfigError(ValueError):
    """A config, or an argument about one, that the user has to change.

    Attributes:
        problems: one sentence each, in the order in which they stand in the file.
    """

    exit_code: int = 2

    def __init__(self, *problems: str) -> None:
        """Join the problems to one message, one per line.

        Args:
            *problems: what was received, what was expected and how to fix it, one sentence each.
        """
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class GateRefused(Exception):
    """A gate kept data or a model from going on; the message gives value, threshold and baseline.

    Attributes:
        verdict: what the gate found, with all checks.
    """

    exit_code: int = 3

    def __init__(self, verdict: Verdict) -> None:
        """Take the gate's verdict, whose sentence becomes the message."""
        self.verdict = verdict
        super().__init__(f"{verdict.gate}: {verdict.sentence}")


class RunFailed(Exception):
    """A run whose nodes were started one by one has ended without success; the message says where."""

    exit_code: int = 1
