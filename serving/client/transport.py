"""The face that the two transports show the client.

A transport turns a call into something that can be attempted several times: bytes are made once, each attempt gets the
seconds that are left. Implemented for REST and for gRPC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from serving.client.answers import Metadata, Prediction
    from serving.server.model_spec import ModelSpec
    from serving.server.servable import VersionState
    from serving.signature import Signature

# More than a model server answers in practice; a broken one must not fill the memory of its clients.
MAX_ANSWER_BYTES = 256 * 2**20

T = TypeVar("T")
Attempt = Callable[[float], Awaitable[T]]
"""One attempt of a call, given the seconds that are left; ends with a `ClientError` if it fails."""


class Transport(Protocol):
    """One way to speak with a model server."""

    needs_dtypes: bool
    """Whether lists must get their dtype from the signature before they are sent."""

    def predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, np.ndarray],
        outputs: tuple[str, ...] | None,
        signature: Callable[[], Awaitable[Signature | None]],
    ) -> Attempt[Prediction]:
        """Prepare a Predict call; `signature` asks for names and dtypes, if the answer does not carry them."""
        ...

    def status(self, spec: ModelSpec) -> Attempt[list[VersionState]]:
        """Prepare a question for the states of the versions."""
        ...

    def metadata(self, spec: ModelSpec) -> Attempt[Metadata]:
        """Prepare a question for number and signatures of a version."""
        ...

    def reload(self, config: Any) -> Attempt[None]:
        """Prepare a change of the models that are served."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
