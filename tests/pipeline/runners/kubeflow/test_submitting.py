"""Submission to a cluster: a small HTTP service answers like Kubeflow Pipelines, or refuses, or isn't there."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.runners.kubeflow import compiling, submitting

ROOT = Path(__file__).resolve().parents[4]
SPEC = {"pipelineInfo": {"name": "small"}, "schemaVersion": "2.1.0", "root": {"dag": {"tasks": {}}}}


class Cluster(BaseHTTPRequestHandler):
    """The part of the API that a submission needs."""

    runs: list[dict[str, Any]]
    schedules: list[dict[str, Any]]
    status: int
    tokens: list[str | None]

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.tokens.append(self.headers.get("authorization"))
        place = urlsplit(self.path)
        if place.path.endswith("/experiments"):
            self._answer({"experiments": [{"experiment_id": "e1", "display_name": "slipway"}]})
        elif place.path.endswith("/recurringruns"):
            self._answer({"recurringRuns": self.schedules})
        elif place.path.endswith("/runs"):
            wanted = json.loads(parse_qs(place.query)["filter"][0])["predicates"][0]["stringValue"]
            self._answer({"runs": [run for run in self.runs if run["display_name"] == wanted]})
        else:
            self._answer({"multi_user": False})

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/recurringruns"):
            self.schedules.append({**sent, "recurring_run_id": f"s{len(self.schedules)}"})
            self._answer(self.schedules[-1])
        elif self.path.endswith("/runs"):
            self.runs.append({**sent, "run_id": f"r{len(self.runs)}"})
            self._answer(self.runs[-1])
        else:
            self._answer({"experiment_id": "e1", "display_name": "slipway"})

    def do_DELETE(self) -> None:
        number = self.path.rsplit("/", 1)[1]
        self.schedules[:] = [found for found in self.schedules if found["recurring_run_id"] != number]
        self._answer({})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Cluster]]:
    handler = type("Handler", (Cluster,), {"runs": [], "schedules": [], "status": 200, "tokens": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def compile_to(_: Any, out: Path) -> list[Path]:
        out.mkdir(exist_ok=True)
        documents = [SPEC, {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {}}}}}]
        (out / "small.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
        return [out / "small.yaml"]

    monkeypatch.setattr(compiling, "compile_to", compile_to)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def submit(cluster: Any, out: Path, *values: str, job_id: str | None = None) -> str:
    loaded = load(ROOT / "configs/digits.yaml", [f"kubeflow.host={cluster.address}", *values])
    return submitting.submit_pipeline(loaded, out, job_id)


def test_a_run_is_started_once(cluster: type[Cluster], tmp_path: Path) -> None:
    assert "started the run small-" in submit(cluster, tmp_path / "out")
    assert "is there already" in submit(cluster, tmp_path / "out")
    assert "started the run again" in submit(cluster, tmp_path / "out", job_id="again")
    assert [run["display_name"] == "again" for run in cluster.runs] == [False, True]
    assert cluster.runs[0]["pipeline_spec"]["pipeline_spec"]["pipelineInfo"] == {"name": "small"}


def test_a_schedule_is_created_once_and_replaced(cluster: type[Cluster], tmp_path: Path) -> None:
    weekly = "kubeflow.schedule={cron: '0 4 * * 1'}"
    assert "was created" in submit(cluster, tmp_path / "out", weekly)
    assert "is there already" in submit(cluster, tmp_path / "out", weekly)
    assert cluster.schedules[0]["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * 1"
    assert "takes the place of 1 older" in submit(cluster, tmp_path / "out", weekly.replace("0 4", "0 5"))
    assert [found["trigger"]["cron_schedule"]["cron"] for found in cluster.schedules] == ["0 0 5 * * 1"]


def test_the_token_is_sent(cluster: type[Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="SLIPWAY_TOKEN, which isn't set"):
        submit(cluster, tmp_path / "out", "kubeflow.token_env=SLIPWAY_TOKEN")
    assert cluster.tokens == []
    monkeypatch.setenv("SLIPWAY_TOKEN", "secret")
    submit(cluster, tmp_path / "out", "kubeflow.token_env=SLIPWAY_TOKEN")
    assert "Bearer secret" in cluster.tokens


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "doesn't know the token"), (403, "may not start runs"), (404, "isn't Kubeflow Pipelines 2"), (500, "500")],
)
def test_a_refusal_is_one_sentence(cluster: type[Cluster], tmp_path: Path, status: int, expected: str) -> None:
    cluster.status = status
    with pytest.raises(ConfigError, match=expected) as caught:
        submit(cluster, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert cluster.runs == []


def test_a_cluster_that_is_not_there_is_told(cluster: Any, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        cluster.address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConfigError, match="can't be reached"):
            submit(cluster, tmp_path / "out")


def test_without_a_host_nothing_is_compiled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kubeflow\.host is not set"):
        submitting.submit_pipeline(load(ROOT / "configs/digits.yaml"), tmp_path)


@pytest.mark.parametrize("cron", ["{cron: '0 4 * * 1', most_runs: 3}", "{cron: 'TZ=Europe/Berlin 0 4 * * 1'}"])
def test_a_schedule_that_clusters_do_not_know_is_refused(cluster: type[Cluster], tmp_path: Path, cron: str) -> None:
    with pytest.raises(ConfigError, match="doesn't know"):
        submit(cluster, tmp_path / "out", f"kubeflow.schedule={cron}")
