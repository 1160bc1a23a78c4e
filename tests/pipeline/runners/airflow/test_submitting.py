"""`submit` against servers that answer as Airflow does where something is wrong; real ones in `test_real_airflow`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.config.loading import LoadedConfig, load
from pipeline.errors import ConfigError
from pipeline.runners.airflow import submit
from tests.pipeline.runners.airflow.installation import free_port

CONFIG = Path(__file__).resolve().parents[4] / "configs/digits.yaml"
USER = {"AIRFLOW_USER": "admin", "AIRFLOW_PASSWORD": "harbor"}
ON = {"is_paused": False, "has_import_errors": False}


class Server:
    """Answers requests from a table of `METHOD path -> (status, body)`, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {}
        self.asked: list[tuple[str, dict, object]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                key = f"{self.command} {self.path}"
                server.asked.append((key, dict(self.headers), json.loads(self.rfile.read(length) or "null")))
                status, body = server.answers.get(key, (404, "<html>not here</html>"))
                raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def loaded(self, path: str = "") -> LoadedConfig:
        return load(CONFIG, [f"airflow.url=http://127.0.0.1:{self.http.server_port}{path}"])

    def airflow_3(self) -> None:
        self.answers |= {
            "GET /api/v2/version": (200, {"version": "3.3.2"}),
            "POST /auth/token": (201, {"access_token": "abc"}),
            "GET /api/v2/dags/digits": (200, ON),
            "POST /api/v2/dags/digits/dagRuns": (200, {"dag_run_id": "manual__1:+"}),
        }

    def airflow_2(self) -> None:
        self.answers |= {
            "GET /api/v1/version": (200, {"version": "2.11.2"}),
            "GET /api/v1/dags/digits": (200, ON),
            "POST /api/v1/dags/digits/dagRuns": (200, {"dag_run_id": "manual__2"}),
        }


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_a_run_of_airflow_3_is_started_with_span_and_overrides(server: Server) -> None:
    server.airflow_3()
    sentence = submit(server.loaded("/"), 4, ["train.epochs=2", "airflow.url=http://here"], USER)
    assert sentence.endswith(f"http://127.0.0.1:{server.http.server_port}/dags/digits/runs/manual__1%3A%2B")
    _, headers, body = server.asked[-1]
    assert body == {"conf": {"span": 4, "set": ["train.epochs=2"]}, "logical_date": None}
    assert headers["Authorization"] == "Bearer abc"
    assert server.asked[1][2] == {"username": "admin", "password": "harbor"}


def test_a_run_of_airflow_2_is_started_by_user_and_password(server: Server) -> None:
    server.airflow_2()
    assert "started run manual__2 of digits" in submit(server.loaded(), environment=USER)
    _, headers, body = server.asked[-1]
    assert body == {"conf": {"span": None, "set": []}}
    assert headers["Authorization"] == "Basic YWRtaW46aGFyYm9y"


def test_a_token_comes_before_user_and_password(server: Server) -> None:
    server.airflow_3()
    submit(server.loaded(), environment={**USER, "AIRFLOW_TOKEN": "mine"})
    assert "POST /auth/token" not in [asked for asked, _, _ in server.asked]
    assert server.asked[-1][1]["Authorization"] == "Bearer mine"


@pytest.mark.parametrize(
    ("path", "status", "body", "words"),
    [
        ("POST /auth/token", 401, {"detail": "Invalid credentials"}, "gives admin no token.*Invalid credentials"),
        ("GET /api/v2/dags/digits", 401, {}, r"credentials \(401\).*wrong or have expired; set AIRFLOW_TOKEN, or"),
        ("GET /api/v2/dags/digits", 403, {"detail": "Forbidden"}, r"\(403\): Forbidden; the user needs the rights"),
        ("GET /api/v2/dags/digits", 404, {}, "has no DAG digits; run `slipway compile --target airflow"),
        ("GET /api/v2/dags/digits", 500, "<html>", r"\(status 500\): it gives no reason"),
        ("GET /api/v2/dags/digits", 200, {**ON, "is_paused": True}, "paused.*`airflow dags unpause digits`"),
        ("GET /api/v2/dags/digits", 200, {**ON, "has_import_errors": True}, "can't read the DAG digits"),
        ("POST /api/v2/dags/digits/dagRuns", 403, {"detail": "Forbidden"}, r"\(403\)"),
        ("POST /api/v2/dags/digits/dagRuns", 400, {"detail": [{"msg": "no"}]}, r'did not start .* \[{"msg": "no"}\]'),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(server: Server, path: str, status: int, body: object, words: str) -> None:
    server.airflow_3()
    server.answers[path] = (status, body)
    with pytest.raises(ConfigError, match=words):
        submit(server.loaded(), environment=USER)


def test_no_credentials_at_all_are_asked_for(server: Server) -> None:
    server.airflow_2()
    server.answers["GET /api/v1/dags/digits"] = (401, {"title": "Unauthorized"})
    with pytest.raises(ConfigError, match=r"asks for credentials \(401\) and there are none"):
        submit(server.loaded(), environment={})


def test_no_server_and_another_server(server: Server) -> None:
    with pytest.raises(ConfigError, match="is no Airflow 2 or 3"):
        submit(server.loaded(), environment=USER)
    nowhere = load(CONFIG, [f"airflow.url=http://127.0.0.1:{free_port()}"])
    with pytest.raises(ConfigError, match=r"no Airflow answers at .*refused; start its web server, or set airflow.url"):
        submit(nowhere, environment=USER)
