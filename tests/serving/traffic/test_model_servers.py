"""What a model server's answers, and its silence, mean to the controller."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from serving.client import ClientError
from serving.client.errors import error_of
from serving.server.status import Code
from serving.traffic.model_servers import ClientServer, ServerError, Unreachable


@pytest.fixture()
def nobody() -> Iterator[str]:
    """A port that is taken and at which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_is_not_there_is_unreachable(nobody: str, scheme: str) -> None:
    server = ClientServer(f"{scheme}://{nobody}", "pets", 5.0)

    with pytest.raises(Unreachable, match=f"{scheme}://{nobody} cannot be reached: UNAVAILABLE"):
        server.standings()
    server.close()


def test_telling_a_server_that_is_not_there_is_no_refusal(nobody: str) -> None:
    server = ClientServer(f"grpc://{nobody}", "pets", 5.0)

    with pytest.raises(Unreachable, match="cannot be reached"):
        server.tell("model_config_list {}")
    server.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.UNAVAILABLE, Unreachable),
        (Code.DEADLINE_EXCEEDED, Unreachable),
        (Code.RESOURCE_EXHAUSTED, ServerError),
        (Code.PERMISSION_DENIED, ServerError),
    ],
)
def test_a_server_that_is_there_but_refuses_is_not_unreachable(
    monkeypatch: pytest.MonkeyPatch, code: Code, kind: type[ServerError]
) -> None:
    def refused(*_: object) -> ClientError:
        raise error_of(code, "not now")

    server = ClientServer("grpc://127.0.0.1:1", "pets", 5.0)
    monkeypatch.setattr(server._client, "reload", refused)
    monkeypatch.setattr(server._client, "status", refused)

    with pytest.raises(ServerError, match="not now") as told:
        server.tell("model_config_list {}")
    with pytest.raises(ServerError, match="not now") as asked:
        server.standings()

    assert type(told.value) is type(asked.value) is kind
    assert ("refuses the configuration" in str(told.value)) == (kind is ServerError)
    server.close()


def test_a_server_that_polls_the_file_is_told_nothing(nobody: str) -> None:
    server = ClientServer(f"http://{nobody}", "pets", 5.0)
    server.tell("whatever")
    server.close()
