"""Prometheus metrics of the model server, under the names, labels and buckets of TensorFlow Serving.

Comes in: one call for each request, batch, load and warm-up. Goes out: the text that Prometheus scrapes. Called by both
transports, the batcher and the version manager; `serving.server.rest` serves the text.

What the C++ server counts too keeps its name (`:tensorflow:serving:request_count`); what only this server has begins
with `slipway_`. A hot call appends one tuple to a queue, which is atomic in every thread; the tuples are summed up in
lots and before each scrape, so no request waits for a lock or looks up labels.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from serving.server.status import Code

DEFAULT_PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "(other)"

_MAX_SERIES = 2000  # A client that asks for ever new model names must not fill the memory.
_LOT = 512


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric: what is measured and how it is labeled. Compared by identity, which hashes fast.

    Attributes:
        name: Full name.
        kind: Prometheus type.
        help: One sentence.
        labels: Names of the labels.
        bounds: Upper bounds of the buckets of a histogram, without infinity.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


def _exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    return tuple(scale * growth**power for power in range(count))


_LATENCY = _exponential(10, 1.8, 33)  # 10 microseconds to about 25 minutes
_QUEUE = _exponential(100, 1.2, 52)  # 100 microseconds to about one second
_SIZES = _exponential(1, 2, 15)

REQUEST_COUNT = Metric(
    ":tensorflow:serving:request_count", "counter", "The total number of requests.", ("model_name", "status")
)
REQUEST_LATENCY = Metric(
    ":tensorflow:serving:request_latency",
    "histogram",
    "Wall time of answered requests in microseconds.",
    ("model_name", "API", "entrypoint"),
    _LATENCY,
)
RUNTIME_LATENCY = Metric(
    ":tensorflow:serving:runtime_latency",
    "histogram",
    "Wall time of the runtime in microseconds, waiting for a batch included.",
    ("model_name", "API", "runtime"),
    _LATENCY,
)
EXAMPLE_COUNTS = Metric(
    ":tensorflow:serving:request_example_counts", "histogram", "Examples of a request.", ("model",), _SIZES
)
EXAMPLE_TOTAL = Metric(
    ":tensorflow:serving:request_example_count_total", "counter", "The total number of examples.", ("model",)
)
WARMUP_LATENCY = Metric(
    ":tensorflow:serving:model_warmup_latency",
    "histogram",
    "Wall time of warming up a model in microseconds.",
    ("model_path", "status"),
    _LATENCY,
)
LOAD_ATTEMPTS = Metric(
    ":tensorflow:cc:saved_model:load_attempt_count",
    "counter",
    "The number of times a SavedModel was loaded.",
    ("model_path", "status"),
)
LOAD_LATENCY = Metric(
    ":tensorflow:cc:saved_model:load_latency",
    "counter",
    "Microseconds spent on loading SavedModels.",
    ("model_path",),
)
LOG_COUNT = Metric(
    ":tensorflow:serving:request_log_count", "counter", "The total number of logged requests.", ("model_name", "status")
)
QUEUING_LATENCY = Metric(
    ":tensorflow:serving:batching_session:queuing_latency",
    "histogram",
    "Wall time in microseconds that requests waited for their batch.",
    ("thread_pool_name",),
    _QUEUE,
)
RUN_COUNT = Metric(
    ":tensorflow:serving:batching_session:wrapped_run_count", "counter", "Batches that were handed to the runtime."
)
GRAPH_RUNS = Metric(":tensorflow:core:graph_runs", "counter", "The number of graph executions.")
GRAPH_TIME = Metric(":tensorflow:core:graph_run_time_usecs", "counter", "Microseconds spent on executing graphs.")
BATCH_ROWS = Metric("slipway_batch_rows", "histogram", "Rows of a batch, without padding.", ("model_name",), _SIZES)
PADDED_ROWS = Metric("slipway_batch_padding_rows_total", "counter", "Rows added as padding.", ("model_name",))
REFUSED = Metric(
    "slipway_http_refused_total", "counter", "Requests refused before they reached a model, by reason.", ("reason",)
)

_METRICS = (
    REQUEST_COUNT,
    REQUEST_LATENCY,
    RUNTIME_LATENCY,
    EXAMPLE_COUNTS,
    EXAMPLE_TOTAL,
    WARMUP_LATENCY,
    LOAD_ATTEMPTS,
    LOAD_LATENCY,
    LOG_COUNT,
    QUEUING_LATENCY,
    RUN_COUNT,
    GRAPH_RUNS,
    GRAPH_TIME,
    BATCH_ROWS,
    PADDED_ROWS,
    REFUSED,
)

Reading = tuple[Metric, Mapping[tuple[str, ...], float]]
"""A counter or gauge and its value by label values, as a collector gives it."""


@dataclass
class _Histogram:
    counts: list[int]
    sum: float = 0.0


@dataclass
class _Sums:
    """The series of one metric."""

    metric: Metric
    values: dict[tuple[str, ...], float] = field(default_factory=dict)
    histograms: dict[tuple[str, ...], _Histogram] = field(default_factory=dict)

    def add(self, labels: tuple[str, ...], values: Sequence[float]) -> None:
        if self.metric.kind == "histogram":
            cell = self.histograms.get(labels)
            if cell is None:
                labels = self._bounded(labels, self.histograms)
                cell = self.histograms.setdefault(labels, _Histogram([0] * (len(self.metric.bounds) + 1)))
            bounds, counts = self.metric.bounds, cell.counts
            for value in values:
                counts[bisect_left(bounds, value)] += 1
            cell.sum += sum(values)
        else:
            if labels not in self.values:
                labels = self._bounded(labels, self.values)
            self.values[labels] = self.values.get(labels, 0) + sum(values)

    @staticmethod
    def _bounded(labels: tuple[str, ...], series: Mapping[tuple[str, ...], object]) -> tuple[str, ...]:
        return labels if len(series) < _MAX_SERIES or not labels else (OTHER, *labels[1:])


class ServerMetrics:
    """Counts what the server does; every method may be called from any thread.

    Example:
        >>> metrics = ServerMetrics()
        >>> metrics.request("mnist", "predict", "REST", Code.OK, 850.0)
        >>> print(metrics.exposition().decode())
    """

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._sums = {metric: _Sums(metric) for metric in _METRICS}
        self._pending: deque[tuple[tuple[Metric, tuple[str, ...]], Sequence[float]]] = deque()
        self._summing = threading.Lock()
        self._collectors: list[Callable[[], Iterable[Reading]]] = []

    def request(self, model_name: str, api: str, entrypoint: str, status: Code, microseconds: float) -> None:
        """Count a finished request; its latency counts only if it was answered.

        Args:
            model_name: Name of the model, as the request gave it.
            api: `predict`, `classify` or `regress` over REST, `Predict`, `Classify`, ... over gRPC.
            entrypoint: `REST` or `GRPC`.
            status: What the request ended with.
            microseconds: Wall time from the whole request to the whole answer.
        """
        if status is Code.OK:
            # `_drain` counts it, too.
            self._add(REQUEST_LATENCY, (model_name, api, entrypoint), microseconds)
        else:
            self._add(REQUEST_COUNT, (model_name, status.name), 1)

    def runtime(self, model_name: str, api: str, microseconds: float, runtime: str = "TF1") -> None:
        """Count the time that one request spent in the runtime, its wait for a batch included."""
        self._add(RUNTIME_LATENCY, (model_name, api, runtime), microseconds)

    def examples(self, model_name: str, count: int) -> None:
        """Count the examples of a Classify, Regress or MultiInference request."""
        self._add(EXAMPLE_COUNTS, (model_name,), count)
        self._add(EXAMPLE_TOTAL, (model_name,), count)

    def batch(
        self, model_name: str, rows: int, padding: int, queued_microseconds: Iterable[float], run_microseconds: float
    ) -> None:
        """Count a batch that ran.

        Args:
            model_name: Name of the model.
            rows: Rows of all requests in it.
            padding: Rows added to reach an allowed batch size.
            queued_microseconds: How long each of its requests waited.
            run_microseconds: Wall time of the run.
        """
        self._add(RUN_COUNT, (), 1)
        self._add(GRAPH_RUNS, (), 1)
        self._add(GRAPH_TIME, (), run_microseconds)
        self._add(BATCH_ROWS, (model_name,), rows)
        if padding:
            self._add(PADDED_ROWS, (model_name,), padding)
        self._add(QUEUING_LATENCY, ("batch_threads",), *queued_microseconds)

    def load(self, model_path: str, succeeded: bool, microseconds: float) -> None:
        """Count an attempt to load a version."""
        self._add(LOAD_ATTEMPTS, (model_path, "success" if succeeded else "fail"), 1)
        self._add(LOAD_LATENCY, (model_path,), microseconds)

    def warmup(self, model_path: str, status: Code, microseconds: float) -> None:
        """Count the replay of a model's warm-up requests."""
        self._add(WARMUP_LATENCY, (model_path, status.name), microseconds)

    def logged(self, model_name: str, status: Code) -> None:
        """Count a request that was sampled into the request log; `status` says whether it could be written."""
        self._add(LOG_COUNT, (model_name, status.name), 1)

    def refused(self, reason: str) -> None:
        """Count a request that was refused before it reached a model, such as `body_too_large`."""
        self._add(REFUSED, (reason,), 1)

    def collect_from(self, collector: Callable[[], Iterable[Reading]]) -> None:
        """Ask `collector` at each scrape for values that are kept elsewhere: queue depths, states of versions."""
        self._collectors.append(collector)

    def exposition(self) -> bytes:
        """Everything counted so far, in Prometheus' text format."""
        lines: list[str] = []
        with self._summing:
            self._drain()
            for sums in self._sums.values():
                if sums.metric.kind == "histogram":
                    _write_histogram(sums.metric, sums.histograms, lines)
                else:
                    _write_values(sums.metric, sums.values, lines)
        for collector in self._collectors:
            for metric, values in collector():
                _write_values(metric, values, lines)
        return ("\n".join(lines) + "\n").encode() if lines else b""

    def _add(self, metric: Metric, labels: tuple[str, ...], *values: float) -> None:
        self._pending.append(((metric, labels), values))
        if len(self._pending) >= _LOT and self._summing.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._summing.release()

    def _drain(self) -> None:
        lots: dict[tuple[Metric, tuple[str, ...]], list[float]] = {}
        for _ in range(len(self._pending)):
            series, values = self._pending.popleft()
            lots.setdefault(series, []).extend(values)
        for (metric, labels), found in lots.items():
            self._sums[metric].add(labels, found)
            if metric is REQUEST_LATENCY:
                self._sums[REQUEST_COUNT].add((labels[0], Code.OK.name), (len(found),))


def _write_values(metric: Metric, values: Mapping[tuple[str, ...], float], lines: list[str]) -> None:
    if not values:
        return
    _write_head(metric, lines)
    for labels, value in values.items():
        lines.append(f"{metric.name}{{{_pairs(metric, labels)}}} {_number(value)}")


def _write_histogram(metric: Metric, histograms: Mapping[tuple[str, ...], _Histogram], lines: list[str]) -> None:
    if not histograms:
        return
    _write_head(metric, lines)
    for labels, cell in histograms.items():
        pairs = _pairs(metric, labels)
        total = 0
        for bound, count in zip((*metric.bounds, None), cell.counts, strict=True):
            total += count
            limit = "+Inf" if bound is None else f"{bound:.6g}"
            lines.append(f'{metric.name}_bucket{{{pairs},le="{limit}"}} {total}')
        lines.append(f"{metric.name}_sum{{{pairs}}} {_number(cell.sum)}")
        lines.append(f"{metric.name}_count{{{pairs}}} {total}")


def _write_head(metric: Metric, lines: list[str]) -> None:
    lines.append(f"# HELP {metric.name} {metric.help}")
    lines.append(f"# TYPE {metric.name} {metric.kind}")


def _pairs(metric: Metric, labels: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, labels, strict=True))


def _escaped(value: str) -> str:
    text = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return text.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
