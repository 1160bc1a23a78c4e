"""What the controller needs of a model server: which versions it has, and telling it another configuration.

Comes in: addresses. Goes out: `ModelServer`s. Called by the controller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serving.traffic.settings import TrafficSettings
from serving.traffic.state import TrafficError

if TYPE_CHECKING:
    from serving.client import ClientError


class ServerError(TrafficError):
    """A model server cannot be reached, or refuses what it is told; worth another attempt."""


class Unreachable(ServerError):
    """Nobody answers at the address of a model server, or not in time.

    Attributes:
        address: The address.
        reason: What happened instead of an answer.
    """

    def __init__(self, address: str, reason: str) -> None:
        """Keep the parts."""
        super().__init__(f"{address} cannot be reached: {reason}")
        self.address = address
        self.reason = reason


@dataclass(frozen=True)
class Standing:
    """Where a version stands in a server: TensorFlow Serving's state, and its message if something is wrong."""

    state: str
    message: str = ""

    @property
    def available(self) -> bool:
        """Whether it answers."""
        return self.state == "AVAILABLE"


class ModelServer(Protocol):
    """One model server, for one model."""

    address: str

    def standings(self, label: str | None = None) -> dict[int, Standing]:
        """Where its versions stand; with a label, only the version that this points to, if it exists.

        Raises:
            Unreachable: It does not answer.
            ServerError: It answers something else.
        """
        ...

    def tell(self, config: str) -> None:
        """Hand it a configuration, in text; one that reads the file itself need not be told.

        Raises:
            Unreachable: It does not answer.
            ServerError: It refuses.
        """
        ...


class ClientServer:
    """A real server, through `serving.client`.

    Args:
        address: `grpc://…` or `http://…`; the latter is told nothing, it polls the config file.
        model: Name of the model.
        timeout_seconds: Limit of a call.
    """

    def __init__(self, address: str, model: str, timeout_seconds: float) -> None:
        from serving.client import Client
        from serving.client.address import parse_address

        self.address = address
        self._polls = parse_address(address).transport == "rest"
        self._client = Client(address, model, timeout_seconds=timeout_seconds)

    def standings(self, label: str | None = None) -> dict[int, Standing]:
        """See `ModelServer.standings`."""
        from serving.client import ClientError, InvalidRequest, NotFound

        try:
            if label is not None:
                return {self._client.resolve(label): Standing("AVAILABLE", "")}
            found = self._client.status()
        except (NotFound, InvalidRequest):
            return {}  # TensorFlow Serving's answers for a version or a label that does not exist.
        except ClientError as error:
            raise self._problem(error, "does not say where its versions stand") from error
        return {each.version: Standing(each.state, each.message) for each in found}

    def tell(self, config: str) -> None:
        """See `ModelServer.tell`."""
        from serving.client import ClientError

        if self._polls:
            return
        try:
            self._client.reload(config)
        except ClientError as error:
            raise self._problem(error, "refuses the configuration") from error

    def _problem(self, error: ClientError, what: str) -> ServerError:
        # The codes decide, not the class: a used-up quota counts as unavailable too, yet somebody is there.
        if error.code.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            # The REST client begins with the same words.
            return Unreachable(self.address, str(error).replace(f"{self.address} cannot be reached: ", ""))
        return ServerError(f"{self.address} {what}: {error}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def connect(settings: TrafficSettings, model: str) -> Sequence[ClientServer]:
    """All servers of the settings; nothing is sent yet."""
    return tuple(ClientServer(address, model, settings.call_timeout_seconds) for address in settings.servers)
