"""Values that a scrape asks for instead of being told: states of versions, rows that wait for a batch.

Comes in: the manager and the batcher. Goes out: readings for `ServerMetrics.collect_from`. Registered by
`serving.server.running`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serving.server.batching import Batcher
from serving.server.lifecycle.manager import ModelManager
from serving.server.metrics import Metric, Reading

VERSION_STATE = Metric(
    "slipway_model_version_state",
    "gauge",
    "1 for the state that a version is in.",
    ("model_name", "version", "state"),
)
LOAD_FAILING = Metric(
    "slipway_model_version_failing",
    "gauge",
    "1 if the last attempt to load a version failed.",
    ("model_name", "version"),
)
QUEUED_ROWS = Metric(
    "slipway_queued_rows", "gauge", "Rows that wait for a batch, by model and signature.", ("model_name", "signature")
)


def version_gauges(manager: ModelManager) -> Callable[[], Iterable[Reading]]:
    """Collector of the states of all versions that are not gone, and of those that fail to load."""

    def collect() -> Iterable[Reading]:
        states: dict[tuple[str, ...], float] = {}
        failing: dict[tuple[str, ...], float] = {}
        for name, version in manager.all_states():
            number = str(version.version)
            if version.state != "END" or version.code:
                states[name, number, version.state] = 1
                failing[name, number] = float(bool(version.code))
        return [(VERSION_STATE, states), (LOAD_FAILING, failing)]

    return collect


def queue_gauges(batcher: Batcher) -> Callable[[], Iterable[Reading]]:
    """Collector of the queue lengths."""

    def collect() -> Iterable[Reading]:
        waiting: dict[tuple[str, ...], float] = {}
        for (model, signature), rows in batcher.waiting_rows().items():
            waiting[model, signature] = rows
        return [(QUEUED_ROWS, waiting)]

    return collect
