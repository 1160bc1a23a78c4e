"""Metadata stores on real servers: a whole run, nodes at the same time, and a server that goes away."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.app import run
from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.metadata_connection import MetadataAccess, MetadataAway
from pipeline.records import HIT, PENDING, RAN, RESOLVED, SUCCEEDED, StageRecord
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.running import run_pipeline
from tests.pipeline.runners.nodes.driving import Project, start
from tests.pipeline.runners.nodes.servers import PASSWORD, SERVERS, VARIABLE, Server

pytestmark = [pytest.mark.slow, pytest.mark.orchestration]

ENDS = 600
"""Seconds after which a test gives up waiting for a process."""


@pytest.fixture(scope="module", params=SERVERS, ids=lambda kind: kind.kind)
def server(request) -> Iterator[Server]:
    made = request.param()
    os.environ[VARIABLE] = PASSWORD
    yield made
    del os.environ[VARIABLE]
    made.remove()


@pytest.fixture(scope="module")
def project(server, tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp(server.kind), server.section())


class Restart(logging.Handler):
    """Starts the server again once somebody has noticed that it is away."""

    def __init__(self, server: Server):
        super().__init__()
        self._server = server
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if "is away" in record.getMessage() and self._thread is None:
            self._thread = threading.Thread(target=self._server.start)
            self._thread.start()

    def __enter__(self) -> Restart:
        logging.getLogger("pipeline.metadata_connection").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("pipeline.metadata_connection").removeHandler(self)
        if self._thread is not None:
            self._thread.join()

    @property
    def noticed(self) -> bool:
        return self._thread is not None


class KillsServer(Observer):
    """Ends the server right before a stage executes."""

    def __init__(self, server: Server):
        self._server = server

    def stage_runs(self, stage: StageRecord) -> None:
        self._server.kill()


class TestRun:
    def test_a_whole_run_with_two_nodes_at_once_and_a_server_that_goes_away(self, server, project):
        plan = project.prepare("first")
        project.node(plan, "ExampleGen")

        # Away when the node asks what there is.
        server.kill()
        with Restart(server) as restart:
            assert project.node(plan, "StatisticsGen").state == RAN
        assert restart.noticed

        # Away when the node has executed and wants to say so.
        with Restart(server) as restart:
            assert project.node(plan, "SchemaGen", KillsServer(server)).state == RAN
        assert restart.noticed
        assert len(project.executions("SchemaGen")) == 1

        project.drive(plan, start="ExampleValidator", until="Trainer")
        # The other process needs seconds for its imports, and this one is at work all the while.
        other = start(plan, "Resolver", environment={**os.environ})
        project.node(plan, "InfraValidator")
        said = other.communicate(timeout=ENDS)
        assert other.returncode == 0, said
        project.drive(plan, start="Evaluator")
        record = project.finish(plan)
        assert record.state == SUCCEEDED, record.error
        assert record.version == 1
        assert [len(project.executions(stage.id)) for stage in record.stages] == [1] * len(record.stages)

    def test_a_local_run_on_the_same_store_finds_it_in_the_cache(self, project):
        with project.workdir.lock():
            options = RunOptions(no_cache=("Resolver",))
            record = run_pipeline(load(project.file), project.workdir, project.workdir.logs / "l", options, Observer())
        assert {stage.state for stage in record.stages} == {HIT, RESOLVED}
        assert not project.workdir.metadata.exists()

    def test_the_password_is_written_down_nowhere(self, project):
        secret = PASSWORD.rsplit(maxsplit=1)[-1].encode()
        holders = [
            path for path in project.workdir.root.parent.rglob("*") if path.is_file() and secret in path.read_bytes()
        ]
        assert not holders


class TestRefusals:
    def test_a_wrong_password_and_no_password(self, project, monkeypatch, capfd):
        monkeypatch.setenv(VARIABLE, "wrong")
        monkeypatch.setattr("pipeline.metadata_connection.REFUSED_SECONDS", 1)
        with pytest.raises(ConfigError, match=rf"answers, but refuses.*password in \${VARIABLE}"):
            project.prepare("wrong")
        monkeypatch.delenv(VARIABLE)
        assert run(["prepare-run", str(project.file), "--run-id", "none", "-w", str(project.workdir.root)]) == 2
        assert f"{VARIABLE} isn't set" in capfd.readouterr().err

    def test_a_server_that_stays_away_leaves_the_node_as_it_was(self, server, project):
        plan = project.prepare("away", "metadata.patience_seconds=2", "train.seed=5")
        server.kill()
        with pytest.raises(MetadataAway, match=r"was away for 2 s.*stays done"):
            project.node(plan, "ExampleGen")
        assert project.record(plan).stage("ExampleGen").state == PENDING
        server.start()
        assert project.node(plan, "ExampleGen").state == HIT

    def test_a_server_that_stays_away_while_a_node_executes(self, server, project):
        plan = project.prepare("gone", "metadata.patience_seconds=2", "data.limit=150")
        with pytest.raises(MetadataAway):
            project.node(plan, "ExampleGen", KillsServer(server))
        server.start()
        before = {execution.id for execution in project.executions("ExampleGen")}
        stage = project.node(plan, "ExampleGen")
        assert stage.state == RAN and Path(stage.outputs[0], "labels.txt").is_file()
        assert {execution.id for execution in project.executions("ExampleGen")} == before


def test_many_connections_at_once_make_the_tables_once(server, project):
    config = load(project.file, ["metadata.database=meta_of_many"]).config
    accesses = [MetadataAccess.of(config.metadata, project.workdir) for _ in range(8)]
    failures: list[BaseException] = []

    def connect(access: MetadataAccess) -> None:
        try:
            access.open().get_contexts()
        except BaseException as error:  # raised again below, where the test sees it
            failures.append(error)

    threads = [threading.Thread(target=connect, args=(access,)) for access in accesses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
