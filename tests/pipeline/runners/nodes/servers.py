"""Database servers of Debian's packages, each on a folder and a port of its own, as an unprivileged user."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

PASSWORD = r"it's a \ s3cret"
"""With the characters that connection strings stumble over."""

VARIABLE = "SLIPWAY_TEST_PASSWORD"

_STARTING = 120
"""Seconds that a server may take to start."""


class Server(ABC):
    """One server; `start` and `kill` may alternate."""

    kind: str

    def __init__(self) -> None:
        # Below the system's temporary folder, since those of the tests are closed to other users.
        self.folder = Path(tempfile.mkdtemp(prefix=f"slipway-{self.kind}-"))
        self.user = "nobody" if os.geteuid() == 0 else None
        if self.user is not None:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.create()

    @abstractmethod
    def create(self) -> None:
        """Make the data folder."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the words that start the server."""

    @abstractmethod
    def client(self) -> list[str]:
        """Return the words that say something to the server as its administrator; SQL comes on standard input."""

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), user=self.user, stdout=log, stderr=log)
        deadline = time.monotonic() + _STARTING
        while not self.sql("select 1"):
            assert self._process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "the server didn't answer in time"
            time.sleep(0.2)

    def kill(self) -> None:
        """End the server as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """End the server and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, text: str) -> bool:
        """Return whether the server did what it was told."""
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        return not subprocess.run(self.client(), input=text.encode(), capture_output=True, env=environment).returncode

    def section(self, **changes: object) -> str:
        """Return the section `metadata` of a config that uses this server."""
        values = {
            "kind": self.kind, "host": "127.0.0.1", "port": self.port, "database": "meta", "user": "slipway",
            "password_env": VARIABLE, "patience_seconds": _STARTING, **changes,
        }  # fmt: skip
        return "metadata: {" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}\n"

    def _run(self, *words: str) -> None:
        done = subprocess.run(words, user=self.user, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class MariaDb(Server):
    """MariaDB, which speaks MySQL's protocol."""

    kind = "mysql"

    def create(self) -> None:
        self._run(
            _program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder}/data",
            "--auth-root-authentication-method=normal", "--skip-test-db",
        )  # fmt: skip
        self.start()
        password = PASSWORD.replace("\\", "\\\\").replace("'", "''")
        assert self.sql(f"create user slipway@'%' identified by '{password}'; grant all on `meta%`.* to slipway@'%'")

    def command(self) -> list[str]:
        return [
            _program("mariadbd"), "--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.folder}/socket",
            f"--port={self.port}", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M",
            f"--pid-file={self.folder}/pid",
        ]  # fmt: skip

    def client(self) -> list[str]:
        return [_program("mariadb"), "--no-defaults", "--user=root", f"--socket={self.folder}/socket"]


class Postgres(Server):
    """PostgreSQL."""

    kind = "postgresql"

    def create(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        secret.chmod(0o644)
        self._run(
            _program("initdb"), "-D", f"{self.folder}/data", "-U", "slipway", "--auth=scram-sha-256",
            f"--pwfile={secret}", "--no-sync",
        )  # fmt: skip
        self.start()

    def command(self) -> list[str]:
        return [
            _program("postgres"), "-D", f"{self.folder}/data", "-p", str(self.port), "-c",
            f"unix_socket_directories={self.folder}", "-c", "fsync=off",
        ]  # fmt: skip

    def client(self) -> list[str]:
        return [_program("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "slipway", "-d", "postgres", "-q"]


SERVERS: tuple[type[Server], ...] = (MariaDb, Postgres)


def _program(name: str) -> str:
    folders = [*os.get_exec_path(), "/usr/sbin", *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        pytest.skip(f"{name} isn't installed (Debian: mariadb-server, postgresql)")
    return found
