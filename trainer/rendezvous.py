"""The processes of a training meet before TensorFlow connects them.

TensorFlow waits without a limit, and deaf to signals, for a process that never comes. Here each one reports to the
chief by a line of text over TCP, and the chief says when all are there. Comes in: the cluster. Goes out: nothing, or an
error that names who is missing. Called by `trainer.distribution`; imports no TensorFlow.

The chief listens on its own address of the cluster, which TensorFlow takes over afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import selectors
import socket
import time

from trainer.cluster import Cluster
from trainer.errors import TrainerError

_GREETING = "slipway-training"
_GO = b"go\n"
_REFUSED = b"no "
_LINE_BYTES = 4096
# Between two attempts to reach a chief that has not started yet.
_RETRY_SECONDS = 0.2
_CONNECT_SECONDS = 5.0


def meet(cluster: Cluster, seconds: float) -> None:
    """Wait until all processes of the cluster are there.

    Args:
        cluster: the processes.
        seconds: how long at most.

    Raises:
        TrainerError: if one didn't come in time, or has another cluster in mind.
    """
    deadline = time.monotonic() + seconds
    if cluster.rank == 0:
        _receive(cluster, deadline, seconds)
    else:
        _report(cluster, deadline, seconds)


def _receive(cluster: Cluster, deadline: float, seconds: float) -> None:
    """As the chief: wait for everybody, then let all go."""
    _, port = _split(cluster.addresses[0])
    try:
        server = socket.create_server(("", port), backlog=cluster.size)
    except OSError as error:
        raise TrainerError(
            f"the chief can't listen on port {port} of {cluster.addresses[0]} ({error.strerror}); expected a free "
            "port of this machine; end what uses it, or name another one in TF_CONFIG"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        present = _collect(cluster, server, deadline, stack)
        missing = [rank for rank in range(1, cluster.size) if rank not in present]
        if missing:
            who = ", ".join(f"{cluster.names[rank]} ({cluster.addresses[rank]})" for rank in missing)
            sentence = (
                f"{len(missing)} of {cluster.size} processes did not come within {seconds:g} seconds: {who}; start all "
                "of them, see that they reach the chief, or raise train.distribute_timeout"
            )
            for connection in present.values():
                _send(connection, _REFUSED + sentence.encode() + b"\n")
            raise TrainerError(sentence)
        for connection in present.values():
            _send(connection, _GO)
        for connection in present.values():
            # Who closes first keeps its port busy for a minute, and the chief's is needed at once.
            connection.settimeout(_CONNECT_SECONDS)
            with contextlib.suppress(OSError):
                connection.recv(1)


def _collect(
    cluster: Cluster, server: socket.socket, deadline: float, stack: contextlib.ExitStack
) -> dict[int, socket.socket]:
    """Return the connection of every process that reported, by rank."""
    selector = stack.enter_context(selectors.DefaultSelector())
    selector.register(server, selectors.EVENT_READ)
    present: dict[int, socket.socket] = {}
    while len(present) < cluster.size - 1 and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            if key.fileobj is server:
                connection = stack.enter_context(server.accept()[0])
                selector.register(connection, selectors.EVENT_READ)
                continue
            connection = key.fileobj  # type: ignore[assignment]
            selector.unregister(connection)
            rank, refusal = _greeted(cluster, connection)
            if rank is not None:
                present[rank] = connection
            else:
                _send(connection, _REFUSED + refusal.encode() + b"\n")
                connection.close()
    return present


def _greeted(cluster: Cluster, connection: socket.socket) -> tuple[int | None, str]:
    """Return the rank of who reported, or None and why it is not let in."""
    words = _line(connection, _CONNECT_SECONDS).split()
    if len(words) != 3 or words[0] != _GREETING or not words[1].isdigit():
        return None, "expected a process of a training"
    if words[2] != _digest(cluster) or not 0 < int(words[1]) < cluster.size:
        return None, "TF_CONFIG names other processes here than at the chief; give all processes the same `cluster`"
    return int(words[1]), ""


def _report(cluster: Cluster, deadline: float, seconds: float) -> None:
    """As any other process: tell the chief, and wait for its word."""
    address, problem = _split(cluster.addresses[0]), "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(address, min(left, _CONNECT_SECONDS)) as connection:
                connection.sendall(f"{_GREETING} {cluster.rank} {_digest(cluster)}\n".encode())
                # The chief gives up first, and says who is missing.
                answer = _line(connection, deadline - time.monotonic() + _CONNECT_SECONDS)
        except OSError as error:
            problem = str(error)
        else:
            if answer.encode() == _GO.strip():
                return
            if answer.startswith(_REFUSED.decode()):
                raise TrainerError(answer.removeprefix(_REFUSED.decode()))
            problem = f"it answered {answer[:40]!r}"
        time.sleep(min(_RETRY_SECONDS, max(0.0, deadline - time.monotonic())))
    raise TrainerError(
        f"{cluster.names[cluster.rank]} did not reach {cluster.names[0]} at {cluster.addresses[0]} within {seconds:g} "
        f"seconds ({problem}); start it, see that the address in TF_CONFIG is right, or raise train.distribute_timeout"
    )


def _line(connection: socket.socket, seconds: float) -> str:
    """Return the next line; empty if none came."""
    deadline, received = time.monotonic() + seconds, b""
    while not received.endswith(b"\n") and len(received) < _LINE_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            return ""
        connection.settimeout(left)
        try:
            piece = connection.recv(_LINE_BYTES)
        except OSError:
            return ""
        if not piece:
            return ""
        received += piece
    return received.decode("utf-8", errors="replace").strip()


def _send(connection: socket.socket, content: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(content)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _digest(cluster: Cluster) -> str:
    return hashlib.sha256(" ".join(cluster.addresses).encode()).hexdigest()[:32]
