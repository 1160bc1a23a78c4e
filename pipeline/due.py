"""Whether a run would have something to do that no run has done: new data, another config, other code.

Comes in: a loaded config and its work directory. Goes out: the reason, or None. Called by `slipway due`, which a
scheduler asks often; so nothing is imported that is heavy, and nothing is written but the digests of the data.
"""

from __future__ import annotations

import time

from pipeline.config.loading import LoadedConfig
from pipeline.continuous.looking import input_fingerprint, look
from pipeline.records import INTERRUPTED, records
from pipeline.workdir import WorkDir


def reason_to_run(loaded: LoadedConfig, workdir: WorkDir) -> str | None:
    """Return why a run is due, or None where every run of this config, code and data has been made or is under way.

    A run that failed or was refused counts as made: the same again would end the same way, and a person has to look.
    Data that is still arriving is left alone (`retrain.quiet_seconds`).

    Args:
        loaded: the config.
        workdir: its work directory.

    Raises:
        ConfigError, DataError: the data can't be used.
    """
    seen = look(loaded.config, time.time())
    if seen.changing:
        return None
    fingerprint = input_fingerprint(seen, workdir)
    past = list(records(workdir.records))
    same = next((record for record in past if record.fingerprint == fingerprint), None)
    if same is None:
        return "data, config or code differ from those of every run" if past else "there has been no run"
    return f"run {same.run_id} was interrupted" if same.state == INTERRUPTED else None
