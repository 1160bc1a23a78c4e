"""Progress reports: from a stage that works through something to whoever shows it.

Every stage of every room calls `report`; the command line installs a handler on the logger `slipway.progress`
and renders the records. Without a handler a report costs next to nothing.
"""

from __future__ import annotations

import logging
from typing import Any

LOGGER = "slipway.progress"


def report(done: int, total: int | None, unit: str, **values: Any) -> None:
    """Log how far a stage is, as one INFO record on the logger `slipway.progress`.

    Args:
        done: how many units are finished.
        total: how many there are, or None if that is not known.
        unit: what is counted, in the plural: `"images"`, `"trials"`, `"epochs"`.
        **values: further figures to show, for example metrics by name.
    """
    logger = logging.getLogger(LOGGER)
    if not logger.isEnabledFor(logging.INFO):
        return
    of = "" if total is None else f"/{total}"
    figures = "".join(f" {name}={value}" for name, value in values.items())
    progress = {"done": done, "total": total, "unit": unit, "values": values}
    logger.info("%d%s %s%s", done, of, unit, figures, extra={"progress": progress})
