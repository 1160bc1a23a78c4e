"""Starts a run of a compiled pipeline by Airflow's REST API: of Airflow 3 (`/api/v2`) or 2 (`/api/v1`).

Comes in: the config, the span and overrides of the run, credentials from the environment. Goes out: a sentence that
names the run. Called by `slipway submit --target airflow`.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.loading import LoadedConfig
from pipeline.errors import ConfigError

SECONDS = 30
"""An answer takes milliseconds; a server that starts takes longer."""

_CREDENTIALS = "AIRFLOW_TOKEN, or AIRFLOW_USER and AIRFLOW_PASSWORD, in the environment"


@dataclass(frozen=True)
class Answer:
    """What the server said: the HTTP status, and the body where it is JSON."""

    status: int
    body: dict[str, Any]


def submit(
    loaded: LoadedConfig,
    span: int | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> str:
    """Start a run of the DAG that was compiled from a config.

    Args:
        loaded: the config; its section `airflow` says where the server is.
        span: the span to take; None: the newest.
        overrides: `section.key=value` texts for this run, applied by the run itself.
        environment: where the credentials are; None: this process' environment.

    Returns:
        A sentence with the run's id and where to look at it.

    Raises:
        ConfigError: no server answers, it refuses the credentials, it doesn't know the DAG or can't run it now.
    """
    dag_id, url = loaded.config.name, loaded.config.airflow.url.rstrip("/")
    api = AirflowApi(url, os.environ if environment is None else environment)
    _check_dag(api.get(f"dags/{dag_id}"), dag_id, url)
    # What is said about Airflow itself has been heard, and is nothing for the run.
    conf = {"span": span, "set": [override for override in overrides if not override.lstrip().startswith("airflow.")]}
    answer = api.post(f"dags/{dag_id}/dagRuns", {"conf": conf} | ({"logical_date": None} if api.version == 3 else {}))
    if answer.status not in (200, 201):
        raise ConfigError(f"Airflow at {url} did not start a run of {dag_id}: {_reason(answer)}")
    run_id = answer.body["dag_run_id"]
    where = f"{url}/dags/{dag_id}/" + ("runs/" if api.version == 3 else "grid?dag_run_id=")
    return f"started run {run_id} of {dag_id}: {where}{urllib.parse.quote(run_id, safe='')}"


class AirflowApi:
    """The REST API of one server."""

    def __init__(self, url: str, environment: Mapping[str, str]):
        """Find out the server's version and log in.

        Args:
            url: the server.
            environment: may hold AIRFLOW_TOKEN, or AIRFLOW_USER and AIRFLOW_PASSWORD.

        Raises:
            ConfigError: no Airflow answers there, or it refuses the credentials.
        """
        self._url = url
        self._headers = {"Accept": "application/json"}
        self.version = self._find_version()
        token, user = environment.get("AIRFLOW_TOKEN"), environment.get("AIRFLOW_USER")
        password = environment.get("AIRFLOW_PASSWORD", "")
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif user and self.version == 3:
            self._headers["Authorization"] = f"Bearer {self._log_in(user, password)}"
        elif user:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"

    def get(self, path: str) -> Answer:
        """Ask for a resource."""
        return self._allowed(self._ask("GET", f"/api/v{self.version - 1}/{path}"))

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Make a resource."""
        return self._allowed(self._ask("POST", f"/api/v{self.version - 1}/{path}", body))

    def _find_version(self) -> int:
        for version in (3, 2):
            answer = self._ask("GET", f"/api/v{version - 1}/version")
            if answer.status == 200 and str(answer.body.get("version", "")).startswith(f"{version}."):
                return version
        raise ConfigError(
            f"what answers at {self._url} is no Airflow 2 or 3 (status {answer.status} for its version); expected the "
            "address of Airflow's web server in airflow.url"
        )

    def _log_in(self, user: str, password: str) -> str:
        answer = self._ask("POST", "/auth/token", {"username": user, "password": password})
        if answer.status not in (200, 201) or "access_token" not in answer.body:
            raise ConfigError(
                f"Airflow at {self._url} gives {user} no token (status {answer.status}): {_reason(answer)}; check "
                "AIRFLOW_USER and AIRFLOW_PASSWORD, or set AIRFLOW_TOKEN where people log in by another service"
            )
        return str(answer.body["access_token"])

    def _allowed(self, answer: Answer) -> Answer:
        known = "Authorization" in self._headers
        if answer.status == 401 or (answer.status == 403 and not known):  # 2 has rights for nobody in particular
            had = "those it got are wrong or have expired" if known else "there are none"
            raise ConfigError(
                f"Airflow at {self._url} asks for credentials ({answer.status}) and {had}; set {_CREDENTIALS}"
            )
        if answer.status == 403:
            raise ConfigError(
                f"Airflow at {self._url} does not allow this (403): {_reason(answer)}; the user needs the rights to "
                "read and to start DAGs, and Airflow 2 says the same of a wrong password; credentials come from "
                f"{_CREDENTIALS}"
            )
        return answer

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return Answer(response.status, _json(response.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _json(error.read()))
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ConfigError(
                f"no Airflow answers at {self._url}: {reason}; start its web server, or set airflow.url (for example "
                "--set airflow.url=http://127.0.0.1:8080)"
            ) from error


def _check_dag(answer: Answer, dag_id: str, url: str) -> None:
    if answer.status == 404:
        raise ConfigError(
            f"Airflow at {url} has no DAG {dag_id}; run `slipway compile --target airflow --out DIR` with its folder "
            "of DAGs, and wait until it has read it (`airflow dags list-import-errors` says what keeps it from that)"
        )
    if answer.status != 200:
        raise ConfigError(f"Airflow at {url} tells nothing about {dag_id} (status {answer.status}): {_reason(answer)}")
    if answer.body.get("has_import_errors"):
        raise ConfigError(
            f"Airflow at {url} can't read the DAG {dag_id}: see `airflow dags list-import-errors`, or compile it again"
        )
    if answer.body.get("is_paused"):
        raise ConfigError(
            f"the DAG {dag_id} is paused, so a run would wait: `airflow dags unpause {dag_id}`, or the switch beside "
            "its name, and submit again"
        )


def _reason(answer: Answer) -> str:
    """Return the server's own words; both versions call them `detail`, 3 sometimes as a list or mapping."""
    detail = answer.body.get("detail") or answer.body.get("title") or "it gives no reason"
    return detail if isinstance(detail, str) else json.dumps(detail)


def _json(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
