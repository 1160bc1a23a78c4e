"""A process that has everything imported and forks one model server after the other.

Importing TensorFlow costs seconds, a fork milliseconds. Comes in: over a Unix socket, the arguments of a server and two
file descriptors for its output. Goes out: the child's process id, and its exit code when it has ended. When the client
closes its end, the child is killed. Started by `conftest.ServerProcesses`:

    python -m tests.serving.server.fork_server SOCKET
"""

from __future__ import annotations

import array
import importlib
import json
import os
import signal
import socket
import sys
import threading

_MODULES = (
    "numpy",
    "orjson",
    "uvloop",
    "tensorflow.python.client.session",
    "tensorflow.python.framework.importer",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.config.model_server_config_pb2",
    "serving.server.gauges",
    "serving.server.greeting",
    "serving.server.grpc_api.calls",
    "serving.server.grpc_api.health",
    "serving.server.grpc_api.inference",
    "serving.server.grpc_api.server",
    "serving.server.loading",
    "serving.server.rest.serving",
    "serving.server.running",
    "serving.server.saved_model_servable",
)


def main(path: str) -> None:
    """Serve forks until the process is ended."""
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # grpc is imported here and started in the children only.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _import_everything()
    # Threads of an imported library would be missing in the children, with their locks held.
    assert threading.active_count() == 1, threading.enumerate()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        client, _ = listener.accept()
        request, output, error = _receive(client)
        if os.fork() == 0:
            listener.close()
            _supervise(client, request, output, error)
        os.close(output)
        os.close(error)
        client.close()


def _import_everything() -> None:
    from serving import lean_tensorflow

    assert lean_tensorflow.install()
    for module in _MODULES:
        importlib.import_module(module)


def _receive(client: socket.socket) -> tuple[list[str], int, int]:
    message, ancillary, _, _ = client.recvmsg(1 << 20, socket.CMSG_SPACE(8))
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2][:8])
    return json.loads(message), descriptors[0], descriptors[1]


def _supervise(client: socket.socket, arguments: list[str], output: int, error: int) -> None:
    """In the first child: fork the server, tell its id and its exit code, kill it when the client is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server = os.fork()
    if server == 0:
        client.close()
        os.dup2(output, 1)
        os.dup2(error, 2)
        code = 70
        try:
            from serving.server.running import main as serve

            code = serve(arguments)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(output)
    os.close(error)
    client.sendall(f"{server}\n".encode())

    def watch_client() -> None:
        if not client.recv(1):
            os.kill(server, signal.SIGKILL)

    threading.Thread(target=watch_client, daemon=True).start()
    _, status = os.waitpid(server, 0)
    client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
