"""A real Airflow for tests: its processes in a home of their own, and what its REST API says.

Comes in: 3 or 2, and a folder of DAGs. Goes out: a running installation with LocalExecutor on a PostgreSQL of
the tests: Airflow 2 refuses SQLite where tasks run side by side, and both versions are to run on the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.runners.airflow.submitting import AirflowApi

ROOT = Path(__file__).resolve().parents[4]
USERS = {"admin": "harbor", "guest": "visitor"}
"""Passwords; the guest may not start runs."""

RUN_SECONDS = 3000
"""A run takes two or three minutes; the limit is for machines that have more to do."""

_DATABASE_SECONDS = 300
_START_SECONDS = 900
_PARALLELISM = "3"

_USERS_OF_2 = """
from airflow.www.app import cached_app
manager = cached_app().appbuilder.sm
manager.add_user("admin", "a", "b", "a@example.com", manager.find_role("Admin"), password="{admin}")
manager.add_user("guest", "a", "b", "g@example.com", manager.find_role("Public"), password="{guest}")
"""


def environment(version: str) -> Path:
    """Return the folder of an Airflow environment, which is made where it is missing."""
    made = subprocess.run([sys.executable, str(ROOT / "scripts/airflow_env.py"), version], capture_output=True)
    assert made.returncode == 0, made.stderr.decode()
    return ROOT / ".airflow" / version


def wait_for(what: str, ready: Callable[[], Any], seconds: float, pause: float = 0.3) -> Any:
    """Ask until there is an answer, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ready()
        if answer:
            return answer
        time.sleep(pause)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Installation:
    """An Airflow whose processes run until `stop`."""

    def __init__(self, version: str, home: Path, dags: Path, database: str):
        self.version = version
        self.home = home
        self.dags = dags
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._bin = environment(version) / "bin"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._variables = self._settings(dags, database)

    def _settings(self, dags: Path, database: str) -> dict[str, str]:
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps(USERS), encoding="utf-8")
        # New files and changed ones are read at once all the same; reading the others again and again takes a core.
        parsing = {"min_file_process_interval": 3600}
        settings: dict[str, dict[str, Any]] = {
            "core": {
                "dags_folder": dags, "load_examples": False, "executor": "LocalExecutor", "parallelism": _PARALLELISM,
                "auth_manager": None, "dags_are_paused_at_creation": False,
            },
            "database": {
                "sql_alchemy_conn": database.format(driver="psycopg2"),
                "sql_alchemy_conn_async": database.format(driver="asyncpg") if self.version == "3" else None,
                "load_default_connections": False,
            },
            "logging": {"base_log_folder": self.home / "logs"},
            "scheduler": {
                "scheduler_heartbeat_sec": 1, "dag_dir_list_interval": 10, "enable_health_check": False, **parsing,
            },
        }  # fmt: skip
        if self.version == "3":
            settings["core"] |= {
                "execution_api_server_url": f"{self.url}/execution/",
                "simple_auth_manager_users": "admin:admin,guest:viewer",
                "simple_auth_manager_passwords_file": passwords,
            }
            settings["api"] = {"host": "127.0.0.1", "port": self.port, "workers": 1, "base_url": self.url}
            settings["api_auth"] = {"jwt_secret": "a secret of the tests, long enough for HS512 signatures " * 2}
            settings["dag_processor"] = {"refresh_interval": 10, "parsing_processes": 1, **parsing}
        else:
            backend = "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth"
            settings["api"] = {"auth_backends": backend}
            settings["webserver"] = {"secret_key": "of the tests", "expose_config": False}
        names = {
            f"AIRFLOW__{section}__{name}".upper(): str(value)
            for section, values in settings.items()
            for name, value in values.items()
            if value is not None
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
        path = f"{self._bin}{os.pathsep}{os.environ['PATH']}"
        return clean | names | {"AIRFLOW_HOME": str(self.home), "PATH": path, "PYTHONWARNINGS": "ignore"}

    def start(self) -> None:
        self.airflow("db", "migrate")
        if self.version == "3":
            for command in (["api-server", "--host", "127.0.0.1", "--port", str(self.port)], ["dag-processor"]):
                self._launch(*command)
        else:
            self.python(_USERS_OF_2.format(**USERS))
            self._launch("webserver", "--port", str(self.port), "--hostname", "127.0.0.1", "--workers", "1")
        self._launch("scheduler")
        wait_for("Airflow's web server", self._answers, _START_SECONDS)
        if self.version == "3":  # the first call of its tasks' API takes half a minute, during which nothing answers
            urllib.request.urlopen(f"{self.url}/execution/health", timeout=_START_SECONDS).close()

    def stop(self) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def airflow(self, *words: str) -> str:
        """Run a command of Airflow's to its end."""
        return self._run([str(self._bin / "airflow"), *words])

    def python(self, program: str) -> str:
        """Run a program by Airflow's Python."""
        return self._run([str(self._bin / "python"), "-c", program])

    def _run(self, argv: list[str]) -> str:
        done = subprocess.run(argv, env=self._variables, capture_output=True, cwd=self.home, timeout=_START_SECONDS)
        assert done.returncode == 0, f"{argv}: {(done.stdout + done.stderr).decode()[-3000:]}"
        return done.stdout.decode()

    def _launch(self, *words: str) -> None:
        with open(self.home / f"{words[0]}.log", "wb") as log:
            argv = [str(self._bin / "airflow"), *words]
            process = subprocess.Popen(
                argv, env=self._variables, cwd=self.home, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)

    def _answers(self) -> bool:
        ended = [process.args for process in self._processes if process.poll() is not None]
        assert not ended, f"{ended} ended; see {self.home}"
        try:
            with urllib.request.urlopen(f"{self.url}/api/v{int(self.version) - 1}/version", timeout=10):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def api(self, user: str = "admin") -> AirflowApi:
        return AirflowApi(self.url, {"AIRFLOW_USER": user, "AIRFLOW_PASSWORD": USERS[user]})

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the scheduler knows a DAG."""
        api = self.api()
        wait_for(f"the DAG {dag_id}", lambda: api.get(f"dags/{dag_id}").status == 200, _START_SECONDS)

    def pause(self, dag_id: str, paused: bool) -> None:
        """Pause a DAG, or let it go on."""
        answer = self.api()._ask("PATCH", f"/api/v{int(self.version) - 1}/dags/{dag_id}", {"is_paused": paused})
        assert answer.status == 200, answer

    def run_ids(self, dag_id: str) -> list[str]:
        return [run["dag_run_id"] for run in self.api().get(f"dags/{dag_id}/dagRuns").body["dag_runs"]]

    def wait_for_run(self, dag_id: str, run_id: str) -> str:
        """Wait until a run has ended, and return its state."""
        api, quoted = self.api(), urllib.request.quote(run_id, safe="")

        def state() -> str | None:
            with contextlib.suppress(ConfigError):  # a busy server may keep us waiting
                found = api.get(f"dags/{dag_id}/dagRuns/{quoted}").body.get("state")
                return found if found in ("success", "failed") else None
            return None

        return str(wait_for(f"the end of {run_id}", state, RUN_SECONDS, 1))

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run by the task's name."""
        quoted = urllib.request.quote(run_id, safe="")
        body = self.api().get(f"dags/{dag_id}/dagRuns/{quoted}/taskInstances").body
        return {task["task_id"]: task for task in body["task_instances"]}

    def log(self, dag_id: str, run_id: str, task: str, attempt: int = 1) -> str:
        """Return the log of a task as Airflow shows it."""
        quoted = urllib.request.quote(run_id, safe="")
        path = f"dags/{dag_id}/dagRuns/{quoted}/taskInstances/{task}/logs/{attempt}?full_content=true"
        return json.dumps(self.api().get(path).body, ensure_ascii=False)


@contextlib.contextmanager
def postgres() -> Iterator[Callable[[str], str]]:
    """Start a PostgreSQL server on a socket of its own; yields what makes a database and returns its URL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join(str(folder) for folder in reversed(programs)) + os.pathsep + os.environ["PATH"]
    found = shutil.which("initdb", path=path)
    if found is None:
        pytest.skip("needs PostgreSQL's programs (Debian: apt-get install postgresql)")
    program = {name: str(Path(found).with_name(name)) for name in ("initdb", "postgres", "pg_isready", "createdb")}
    folder = Path(tempfile.mkdtemp(prefix="airflow-pg-"))
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    options: dict[str, Any] = {"user": user, "cwd": folder, "stdin": subprocess.DEVNULL}
    initdb = [program["initdb"], "-D", str(folder / "data"), "-U", "airflow", "--auth=trust", "--no-sync", "-E", "UTF8"]
    subprocess.run(initdb, check=True, capture_output=True, timeout=_DATABASE_SECONDS, **options)
    argv = [program["postgres"], "-D", str(folder / "data"), "-k", str(folder), "-F", "-c", "listen_addresses="]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    client = ["-h", str(folder), "-U", "airflow"]

    def database(name: str) -> str:
        subprocess.run([program["createdb"], *client, name], check=True, capture_output=True, timeout=_DATABASE_SECONDS)
        return f"postgresql+{{driver}}://airflow@/{name}?host={folder}"

    try:
        ready = [program["pg_isready"], *client]
        wait_for("PostgreSQL", lambda: subprocess.run(ready, capture_output=True).returncode == 0, _DATABASE_SECONDS)
        yield database
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
