"""What the gateway counts, in Prometheus' text format.

Each application has a registry of its own. Updated by `edge`, `predicting` and `feedback_routes`; read at `/metrics`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All counters of one gateway."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "slipway_gateway_requests",
            "Finished requests.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "slipway_gateway_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "slipway_gateway_in_flight",
            "Share of the concurrency limit that is taken, in units.",
            registry=self.registry,
        )
        self.refused = Counter(
            "slipway_gateway_refused", "Requests that got an error, by its code.", ["code"], registry=self.registry
        )
        self.model_seconds = Histogram(
            "slipway_gateway_model_seconds",
            "Time that the model server took for one request.",
            ["variant", "version", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.predictions = Counter(
            "slipway_gateway_predictions",
            "Pictures that were answered.",
            ["variant", "version", "sure"],
            registry=self.registry,
        )
        self.shadows = Counter(
            "slipway_gateway_shadows", "Copies of requests for the canary.", ["result"], registry=self.registry
        )
        self.feedback = Counter(
            "slipway_gateway_feedback", "What users said about answers.", ["variant", "verdict"], registry=self.registry
        )
        self.audit_dropped = Counter(
            "slipway_gateway_audit_dropped",
            "Lines of the audit log that could not be written.",
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)
