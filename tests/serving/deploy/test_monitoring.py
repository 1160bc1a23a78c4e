"""Tests of alerts and dashboard: queries against what is really exported, every alert on made-up series."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from serving.deploy import dashboard
from serving.deploy.generating import generate
from serving.deploy.settings import settings
from serving.gateway.metrics import Metrics
from serving.server.metrics import ServerMetrics
from serving.server.status import Code

NAME = re.compile(r"(?<![\w\"$.])(:?[a-z][a-z0-9_]*(?::[a-z0-9_]+)+|slipway_[a-z0-9_]+)")


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployment")
    generate(settings(name="digits"), folder)
    return folder / "monitoring"


@pytest.fixture(scope="module")
def rules(monitoring: Path) -> list[dict[str, Any]]:
    groups = YAML(typ="safe", pure=True).load((monitoring / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Names in the exposition of a server that did everything once."""
    metrics = ServerMetrics()
    metrics.request("digits", "predict", "REST", Code.OK, 1000.0)
    metrics.request("digits", "Predict", "GRPC", Code.UNAVAILABLE, 10.0)
    metrics.runtime("digits", "predict", 900.0)
    metrics.batch("digits", 3, 1, [10.0, 20.0], 900.0)
    metrics.load("/models/1", True, 5.0)
    metrics.load("/models/2", False, 5.0)
    metrics.logged("digits", Code.OK)
    gateway = Metrics()
    gateway.predictions.labels("canary", "2", "yes").inc()
    gateway.feedback.labels("canary", "right").inc()
    gateway.refused.labels("too_large").inc()
    lines = (metrics.exposition() + gateway.exposition()).decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if line[0] != "#"}


def names(query: str) -> set[str]:
    return set(NAME.findall(re.sub(r'"[^"]*"', "", query)))


def labels(query: str) -> set[str]:
    return set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', query))


class TestQueries:
    def queries(self, rules: list[dict[str, Any]]) -> Iterator[str]:
        yield from (rule["expr"] for rule in rules)
        yield from dashboard.QUERIES

    def test_every_metric_is_exported(self, rules: list[dict[str, Any]], exported: set[str]) -> None:
        recorded = {rule["record"] for rule in rules if "record" in rule}
        found = set()
        for query in self.queries(rules):
            used = names(query)
            assert used or 'up{job="model-server"}' in query, query
            assert used <= exported | recorded, used - exported - recorded
            found |= used
        assert ":tensorflow:serving:request_count" in found

    def test_every_label_is_one_of_the_metric(self, rules: list[dict[str, Any]]) -> None:
        known = {"model_name", "status", "API", "entrypoint", "model_path", "le", "job"}
        known |= {"variant", "version", "sure", "verdict", "code"}
        for query in self.queries(rules):
            grouped = {name.strip() for by in re.findall(r"by \(([^)]*)\)", query) for name in by.split(",")}
            assert labels(query) | grouped <= known, query

    def test_the_dashboard_is_valid_for_prometheus(self, monitoring: Path, tmp_path: Path) -> None:
        content = json.loads((monitoring / "grafana/dashboards/slipway.json").read_text())
        shown = [t["expr"] for panel in content["panels"] for t in panel.get("targets", [])]
        assert sorted(shown) == sorted(dashboard.QUERIES)
        records = [{"record": f"q:{i}", "expr": q.replace("$model", "digits")} for i, q in enumerate(shown)]
        file = tmp_path / "rules.json"
        file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}))
        promtool("check", "rules", file)

    def test_panels_do_not_overlap(self, monitoring: Path) -> None:
        content = json.loads((monitoring / "grafana/dashboards/slipway.json").read_text())
        cells = set()
        for panel in content["panels"]:
            place = panel["gridPos"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    assert (x, y) not in cells
                    cells.add((x, y))
        assert len({panel["id"] for panel in content["panels"]}) == len(content["panels"])


def promtool(*arguments: str | Path) -> None:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed; `make programs` installs it")
    command = [found, *map(str, arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "TZ": "UTC"})
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def requests(status: str, per_minute: int, minutes: int = 420) -> dict[str, str]:
    series = f':tensorflow:serving:request_count{{model_name="digits",status="{status}",job="model-server"}}'
    return {"series": series, "values": f"0+{per_minute}x{minutes}"}


def latency(limit: str, per_minute: int) -> dict[str, str]:
    pairs = f'model_name="digits",API="predict",entrypoint="REST",le="{limit}"'
    return {"series": f":tensorflow:serving:request_latency_bucket{{{pairs}}}", "values": f"0+{per_minute}x60"}


COUNTED = {
    "series": ':tensorflow:serving:request_latency_count{model_name="digits",API="predict",entrypoint="REST"}',
    "values": "0+60x60",
}
FAILED_LOADS = {
    "series": ':tensorflow:cc:saved_model:load_attempt_count{model_path="/models/2",status="fail"}',
    "values": "0x10 1x50",
}
LOST = {"series": ':tensorflow:serving:request_log_count{model_name="digits",status="UNKNOWN"}', "values": "0+1x60"}

# What is seen, what fires at that time, and what stays quiet.
CASES = {
    "all is well": (
        [requests("OK", 600), requests("INVALID_ARGUMENT", 600), requests("NOT_FOUND", 60)],
        "6h", [], ["ModelFailsFast", "ModelFailsSlowly", "ModelShedsLoad"],
    ),
    "no traffic at all": ([requests("OK", 0)], "6h", [], ["ModelFailsFast", "ModelFailsSlowly", "ModelIsSlow"]),
    "one in ten fails": (
        [requests("OK", 540), requests("INTERNAL", 60)], "90m", ["ModelFailsFast"], ["ModelShedsLoad"],
    ),
    "one in twenty five fails": (
        [requests("OK", 576), requests("INTERNAL", 24)], "7h", ["ModelFailsSlowly"], ["ModelFailsFast"],
    ),
    "one in a thousand fails": (
        [requests("OK", 999), requests("INTERNAL", 1)], "7h", [], ["ModelFailsFast", "ModelFailsSlowly"],
    ),
    "load is shed": ([requests("OK", 950), requests("UNAVAILABLE", 50)], "30m", ["ModelShedsLoad"], []),
    "a server is gone": (
        [{"series": 'up{job="model-server",instance="a:8501"}', "values": "1x5 0x20"}], "15m", ["ModelServerDown"], [],
    ),
    "a server restarts": (
        [{"series": 'up{job="model-server",instance="a:8501"}', "values": "1x5 0 1x20"}], "7m", [], ["ModelServerDown"],
    ),
    "slow answers": (
        [latency("500000", 30), latency("2e+06", 60), latency("+Inf", 60), COUNTED], "40m", ["ModelIsSlow"], [],
    ),
    "quick answers": (
        [latency("500000", 60), latency("2e+06", 60), latency("+Inf", 60), COUNTED], "40m", [], ["ModelIsSlow"],
    ),
    "a version does not load": ([FAILED_LOADS], "15m", ["VersionDoesNotLoad"], []),
    "it was long ago": ([FAILED_LOADS], "50m", [], ["VersionDoesNotLoad"]),
    "the log is lost": ([LOST], "30m", ["RequestLogIncomplete"], []),
}  # fmt: skip


class TestAlerts:
    def test_every_alert_fires_in_a_case_and_is_quiet_in_another(self, rules: list[dict[str, Any]]) -> None:
        alerts = {rule["alert"] for rule in rules if "alert" in rule}
        assert alerts == {alert for case in CASES.values() for alert in case[2]}
        assert {alert for case in CASES.values() for alert in case[3]} >= alerts - {"RequestLogIncomplete"}

    def test_every_alert_says_what_to_do(self, rules: list[dict[str, Any]]) -> None:
        for rule in rules:
            if "alert" in rule:
                assert rule["labels"]["severity"] in ("page", "ticket")
                assert rule["annotations"]["summary"] and rule["annotations"]["action"]

    def test_on_made_up_series(self, monitoring: Path, tmp_path: Path, rules: list[dict[str, Any]]) -> None:
        severity = {rule["alert"]: rule["labels"]["severity"] for rule in rules if "alert" in rule}
        tests = [
            {
                "name": name,
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    {
                        "expr": f'count by (alertname, severity) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": when,
                        "exp_samples": [
                            {"labels": f'{{alertname="{alert}",severity="{severity[alert]}"}}', "value": 1}
                        ] if alert in firing else [],
                    }
                    for alert in [*firing, *quiet]
                ],
            }
            for name, (series, when, firing, quiet) in CASES.items()
        ]  # fmt: skip
        file = tmp_path / "tests.json"
        content = {"rule_files": [str(monitoring / "alerts.yml")], "evaluation_interval": "1m", "tests": tests}
        file.write_text(json.dumps(content))
        promtool("test", "rules", file)
