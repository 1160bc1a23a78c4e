"""Processes that meet, and processes that don't; threads take the part of processes."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import socket
import time

import pytest

from trainer import rendezvous
from trainer.cluster import Cluster
from trainer.errors import TrainerError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def cluster() -> Cluster:
    ports = [free_port() for _ in range(3)]
    return Cluster(("chief", "worker 0", "worker 1"), tuple(f"127.0.0.1:{port}" for port in ports), 0)


def meet(*members: Cluster, seconds: float = 30.0) -> list[str]:
    """What each member was told; empty if it could go."""

    def told(member: Cluster) -> str:
        try:
            rendezvous.meet(member, seconds)
        except TrainerError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(told, members))


def ranked(cluster: Cluster, *ranks: int) -> list[Cluster]:
    return [dataclasses.replace(cluster, rank=rank) for rank in ranks]


def test_all_go_at_once_and_the_port_is_free_again(cluster: Cluster) -> None:
    assert meet(*ranked(cluster, 2, 0, 1)) == ["", "", ""]
    host, _, port = cluster.addresses[0].partition(":")
    # As a server does that does not reuse addresses.
    with socket.socket() as taken:
        taken.bind((host, int(port)))


def test_who_is_missing_is_named_everywhere(cluster: Cluster) -> None:
    told = meet(*ranked(cluster, 0, 1), seconds=1.5)
    for sentence in told:
        assert sentence.startswith(
            f"1 of 3 processes did not come within 1.5 seconds: worker 1 ({cluster.addresses[2]})"
        )
        assert "raise train.distribute_timeout" in sentence


def test_a_chief_that_never_comes(cluster: Cluster) -> None:
    (told,) = meet(*ranked(cluster, 2), seconds=0.5)
    assert told.startswith(f"worker 1 did not reach chief at {cluster.addresses[0]} within 0.5 seconds (")


def test_a_worker_of_another_training_is_turned_away(cluster: Cluster) -> None:
    other = dataclasses.replace(cluster, addresses=(*cluster.addresses[:2], "127.0.0.1:1"), rank=1)
    chief, _, refused = meet(*ranked(cluster, 0, 2), other, seconds=3.0)
    assert "other processes here than at the chief" in refused
    assert "1 of 3" in chief and "worker 0" in chief


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\n", b"slipway-training 0 x\n", b""])
def test_strangers_do_not_disturb(cluster: Cluster, said: bytes) -> None:
    host, _, port = cluster.addresses[0].partition(":")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        chief = pool.submit(meet, *ranked(cluster, 0))
        deadline = time.monotonic() + 10
        while True:
            try:
                stranger = socket.create_connection((host, int(port)), 5)
                break
            except OSError:
                assert time.monotonic() < deadline
        with stranger:
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
        assert meet(*ranked(cluster, 1, 2)) == ["", ""]
        assert chief.result() == [""]


def test_a_server_of_somebody_else_in_the_place_of_the_chief(cluster: Cluster) -> None:
    host, _, port = cluster.addresses[0].partition(":")
    with socket.create_server((host, int(port))) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        worker = pool.submit(meet, *ranked(cluster, 1), seconds=1.0)
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"220 mail.example\n")
        (told,) = worker.result()
        assert "worker 0 did not reach chief" in told


def test_a_port_in_use_is_said(cluster: Cluster) -> None:
    host, _, port = cluster.addresses[0].partition(":")
    with socket.create_server((host, int(port))):
        (told,) = meet(*ranked(cluster, 0))
    assert told.startswith(f"the chief can't listen on port {port}") and "expected a free port" in told
