"""The Grafana dashboard of a deployment.

Comes in: `DeploySettings`. Goes out: the dashboard as JSON. Called by `serving.deploy.generating`.

Built rather than kept by hand, because nine tenths of a panel's JSON is the same for all. `QUERIES` lists every query,
so that tests can hold them against the metrics that the processes really export.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from serving.deploy.settings import DeploySettings

_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
_SOURCE = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True)
class Panel:
    """One graph.

    Attributes:
        title: what people read above it.
        unit: Grafana's name of the unit.
        queries: legend (with label names in double braces) and PromQL of each line.
        help: what to look for.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    help: str = ""


def _quantiles(metric: str, by: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            f"p{share} {{{{{by}}}}}",
            f'histogram_quantile(0.{share}, sum by (le, {by}) (rate({metric}_bucket{{model_name="$model"}}[5m])))',
        )
        for share in (50, 95, 99)
    )


_LOADS = ":tensorflow:cc:saved_model:load_attempt_count"

ROWS: dict[str, tuple[Panel, ...]] = {
    "Answers": (
        Panel(
            "Requests by status",
            "reqps",
            (("{{status}}", 'sum by (status) (rate(:tensorflow:serving:request_count{model_name="$model"}[5m]))'),),
            "INVALID_ARGUMENT and NOT_FOUND are mistakes of clients; UNAVAILABLE is a full queue.",
        ),
        Panel(
            "Failures",
            "percentunit",
            tuple(
                (window, f'slipway:request_failures:ratio_rate{window}{{model_name="$model"}}')
                for window in ("5m", "1h")
            ),
            "Share of requests that the server is to blame for; the objective is 0.5 percent.",
        ),
        Panel("Latency", "µs", _quantiles(":tensorflow:serving:request_latency", "entrypoint"), "Request to answer."),
    ),
    "Work": (
        Panel(
            "Time in the runtime",
            "µs",
            _quantiles(":tensorflow:serving:runtime_latency", "API"),
            "Waiting for a batch included; what is left of the latency is parsing and the network.",
        ),
        Panel(
            "Rows of a batch",
            "short",
            (
                (
                    "mean",
                    'rate(slipway_batch_rows_sum{model_name="$model"}[5m]) '
                    '/ rate(slipway_batch_rows_count{model_name="$model"}[5m])',
                ),
            ),
            "Grows by itself under load; embedded server only.",
        ),
        Panel(
            "Wait for a batch",
            "µs",
            (
                (
                    "p95",
                    "histogram_quantile(0.95, sum by (le) "
                    "(rate(:tensorflow:serving:batching_session:queuing_latency_bucket[5m])))",
                ),
            ),
        ),
    ),
    "Gateway": (
        Panel(
            "Answers by version",
            "reqps",
            (
                (
                    "{{variant}} {{version}} sure: {{sure}}",
                    "sum by (variant, version, sure) (rate(slipway_gateway_predictions_total[5m]))",
                ),
            ),
            "The canary's share follows its weight; an unsure canary is a first sign of drift.",
        ),
        Panel(
            "Right by the users' word",
            "percentunit",
            (
                (
                    "{{variant}}",
                    'sum by (variant) (rate(slipway_gateway_feedback_total{verdict="right"}[1h])) '
                    "/ sum by (variant) (rate(slipway_gateway_feedback_total[1h]))",
                ),
            ),
            "Whoever gives feedback is no fair sample; compare variants rather than levels.",
        ),
        Panel(
            "Refusals",
            "reqps",
            (("{{code}}", "sum by (code) (rate(slipway_gateway_refused_total[5m]))"),),
            "Bad images, limits and missing keys.",
        ),
    ),
    "Versions and records": (
        Panel(
            "Loads", "short", (("{{model_path}} {{status}}", f"sum by (model_path, status) (increase({_LOADS}[1h]))"),)
        ),
        Panel(
            "Logged requests",
            "reqps",
            (("{{status}}", 'sum by (status) (rate(:tensorflow:serving:request_log_count{model_name="$model"}[5m]))'),),
            "Sampled for drift, warm-up and retraining; anything but OK could not be written.",
        ),
    ),
}

QUERIES: tuple[str, ...] = tuple(query for panels in ROWS.values() for panel in panels for _, query in panel.queries)


def render(settings: DeploySettings) -> str:
    """The dashboard as JSON, stable from one generation to the next."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}})
        top += 1
        for index, panel in enumerate(row):
            place = {"x": index % _COLUMNS * _WIDTH, "y": top + index // _COLUMNS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_graph(panel, place))
        top += -(-len(row) // _COLUMNS) * _HEIGHT
    for number, panel_json in enumerate(panels, start=1):
        panel_json["id"] = number
    dashboard = {
        "uid": f"slipway-{settings.slug}"[:40],
        "title": f"Slipway: {settings.name}",
        "tags": ["slipway"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "model",
                    "label": "Model",
                    "type": "query",
                    "datasource": _SOURCE,
                    "query": "label_values(:tensorflow:serving:request_count, model_name)",
                    "current": {"text": settings.name, "value": settings.name},
                    "refresh": 2,
                }
            ]
        },
        "panels": panels,
    }
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _graph(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
        for index, (legend, query) in enumerate(panel.queries)
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }
