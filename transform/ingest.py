"""From a source to example files, in two passes: digest and check, then write.

The pipeline's ExampleGen calls the steps one by one, with `check_chunk` and `write_chunk` on Beam workers;
`ingest_local` does the same in this process, for tests and notebooks:

    checks = [check_chunk(source, indices, settings) for indices in chunks(source)]
    plan = make_plan(source, merge_checks(checks), settings, ledger)
    for shard in plan.shards:
        write_chunk(source, shard, out_dir, settings)
    plan.ledger.save(ledger_path)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass

import numpy as np

from transform.check import ChunkCheck, check_chunk, merge_checks
from transform.errors import DataError
from transform.ledger import Ledger
from transform.progress import report
from transform.report import IngestReport, make_report
from transform.settings import DataSettings
from transform.shards import Shard, plan_shards, write_chunk
from transform.sources.base import Listing, Source
from transform.sources.refs import printable
from transform.splits import assign

__all__ = [
    "IngestPlan",
    "IngestReport",
    "Shard",
    "check_chunk",
    "chunks",
    "ingest_local",
    "make_plan",
    "merge_checks",
    "write_chunk",
]

_CHUNK = 2048


@dataclass(frozen=True)
class IngestPlan:
    """What is to be written.

    Attributes:
        shards: the files, each to be written by itself, on any worker.
        report: what was found.
        ledger: to be saved when everything is written.
    """

    shards: list[Shard]
    report: IngestReport
    ledger: Ledger


def chunks(source: Source, size: int = _CHUNK) -> list[np.ndarray]:
    """Return the indices of a source in chunks, for `check_chunk`."""
    count = len(source.listing())
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def make_plan(source: Source, check: ChunkCheck, settings: DataSettings, ledger: Ledger | None = None) -> IngestPlan:
    """Decide what goes where.

    Args:
        source: the source that was checked.
        check: the merged check of all its examples.
        settings: shares, limits and what may be unreadable.
        ledger: what was dealt before.

    Raises:
        DataError: if too much is unreadable, or classes have too few examples.
    """
    listing = source.listing()
    _refuse_unreadable(listing, check, settings)
    readable = np.flatnonzero(check.formats >= 0)
    labels = listing.label_ids[readable]
    assignment = assign(
        check.digests[readable],
        labels,
        listing.given_split[readable],
        settings.split,
        ledger,
        settings.limit,
        listing.labels,
    )
    return IngestPlan(
        plan_shards(check, readable, assignment.split, labels),
        make_report(source, check, readable, assignment),
        assignment.ledger,
    )


def _refuse_unreadable(listing: Listing, check: ChunkCheck, settings: DataSettings) -> None:
    count, total = len(check.unreadable), len(listing)
    if count <= settings.max_unreadable * total:
        return
    shown = "\n".join(f"  {printable(listing.refs[i])}: {reason}" for i, reason in check.unreadable[:5])
    more = f"\n  and {count - 5:,} more" if count > 5 else ""
    raise DataError(
        f"{count:,} of {total:,} images are unreadable ({count / total:.2%}); data.max_unreadable allows "
        f"{settings.max_unreadable:.2%}.\n{shown}{more}\nRepair or remove them, or set data.max_unreadable "
        f"to {_round_up(count / total)} to leave them out."
    )


def _round_up(share: float) -> float:
    """The next share with three decimals."""
    return min(1.0, (int(share * 1000) + 1) / 1000)


def ingest_local(source: Source, settings: DataSettings, out_dir: str, ledger: str | None = None) -> IngestReport:
    """Do both passes in this process.

    Args:
        source: where the examples are.
        settings: the config's section `data`.
        out_dir: folder to make, with `Split-train` and the others in it; it appears when it is complete.
        ledger: path of the split ledger; read if it is there, written at the end. None keeps none.

    Returns:
        The report.

    Raises:
        DataError: for data that cannot be used, and if `out_dir` holds something already.
    """
    if os.path.isdir(out_dir) and os.listdir(out_dir):
        raise DataError(f"{out_dir!r} is not empty; expected a folder that does not exist yet, or an empty one.")
    old = None if ledger is None else Ledger.load(ledger, settings.split)
    total, checks, done = len(source.listing()), [], 0
    for indices in chunks(source):
        checks.append(check_chunk(source, indices, settings))
        done += len(indices)
        report(done, total, "images checked")
    plan = make_plan(source, merge_checks(checks), settings, old)

    parent, name = os.path.split(os.path.abspath(out_dir))
    os.makedirs(parent, exist_ok=True)
    part = tempfile.mkdtemp(prefix=f".{name}.", dir=parent)
    try:
        done = 0
        for shard in plan.shards:
            write_chunk(source, shard, part, settings)
            done += len(shard)
            report(done, plan.report.written, "images written")
        os.chmod(part, 0o755)
        os.replace(part, out_dir)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if ledger is not None:
        plan.ledger.save(ledger)
    return plan.report
