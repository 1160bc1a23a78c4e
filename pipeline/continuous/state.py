"""What `slipway watch` remembers between looks, in a file that survives its death.

`WORKDIR/watch.json` replaces its predecessor in one step and is forced to the disk before a run begins, so that a run
that brings down the process or the machine counts as an attempt.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ConfigError
from serving.durable import write_durably

FILE = "watch.json"

RUNNING, SUCCEEDED, REFUSED, FAILED = "running", "succeeded", "refused", "failed"
"""Outcomes of an attempt."""


@dataclass
class Attempt:
    """The last run that was started, or found made by somebody else.

    Attributes:
        input: fingerprint of all that the run depends on: data, config, code.
        outcome: one of the outcomes above.
        count: how often this input was tried.
        retry_at: Unix time before which it isn't tried again; 0: never again.
        reason: what started it.
        run_id: the run's record, if it has one.
        error: why it failed or was refused.
    """

    input: str
    outcome: str
    count: int = 1
    retry_at: float = 0.0
    reason: str = ""
    run_id: str = ""
    error: str = ""

    @property
    def settled(self) -> bool:
        """Whether this input needs no further run."""
        return self.outcome in (SUCCEEDED, REFUSED) or (self.outcome == FAILED and not self.retry_at)


@dataclass
class WatchState:
    """Everything that is remembered.

    Attributes:
        last: the last attempt.
        signature: what data and config looked like when `last` was settled; equal ones spare reading the data.
        wanted: why the data has to be looked at, until it was.
        scheduled_at: Unix time up to which the schedule was honored.
        drift_at: Unix time of the last comparison.
        complaint: what was said last about data or config that can't be used, so that it is said once.
    """

    last: Attempt | None = None
    signature: str = ""
    wanted: str = ""
    scheduled_at: float = 0.0
    drift_at: float = 0.0
    complaint: str = field(default="")

    def save(self, root: Path) -> None:
        """Write the state, atomically and durably."""
        write_durably(root / FILE, json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, root: Path) -> WatchState:
        """Read the state; where there is none, return an empty one.

        Raises:
            ConfigError: the file is damaged.
        """
        path = root / FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            last = fields.pop("last")
            return cls(**fields, last=Attempt(**last) if last else None)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{path} can't be read ({error}); expected what `slipway watch` wrote. Delete it: data that a run "
                "has seen is still recognized by the run's record"
            ) from error
