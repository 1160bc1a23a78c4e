"""All that was measured of one variant, as plain data that crosses the border of a process.

Written by `serving.measure.worker`, read by `serving.measure.running`, judged by `serving.certify`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from serving.errors import ServingError
from serving.measure.latency import Timing
from serving.measure.operations import Operations
from serving.measure.quality import Quality
from serving.measure.size import Size


@dataclass(frozen=True)
class Measurement:
    """What was measured of a variant.

    Attributes:
        variant: Its name.
        form: Its form.
        path: The file or directory.
        status: `ok`, or `failed` if it could not be run to the end.
        reason: Why it failed; empty if ok.
        choose: Quality on the split that decides.
        report: Quality on the split that is published.
        size: Bytes and checksum.
        operations: What it calculates; None if the graph could not be read, which `remark` explains.
        timings: Times per batch size; empty if time was not measured.
        remark: What else a reader should know.
        environment: The machine that all of this ran on, the same for every variant of a run.
    """

    variant: str
    form: str
    path: Path
    status: Literal["ok", "failed"] = "ok"
    reason: str = ""
    choose: Quality | None = None
    report: Quality | None = None
    size: Size | None = None
    operations: Operations | None = None
    timings: Mapping[int, Timing] = field(default_factory=dict)
    remark: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is something to judge."""
        return self.status == "ok"


def to_record(measurement: Measurement) -> dict[str, Any]:
    """Turn a measurement into JSON-able values; times and machine are kept beside it, not in it."""
    record = dataclasses.asdict(measurement)
    del record["timings"], record["environment"]
    return {**record, "path": str(measurement.path)}


def from_record(record: Mapping[str, Any]) -> Measurement:
    """Read what `to_record` gave.

    Raises:
        ServingError: A field is missing or unknown.
    """
    parts: dict[str, type[Any]] = {"choose": Quality, "report": Quality, "size": Size, "operations": Operations}
    values = dict(record)
    try:
        for name, kind in parts.items():
            values[name] = None if values[name] is None else kind(**values[name])
        return Measurement(**{**values, "path": Path(values["path"])})
    except (KeyError, TypeError) as error:
        raise ServingError(
            f"A record of a measurement has other fields than expected: {error}. Measure again."
        ) from error
