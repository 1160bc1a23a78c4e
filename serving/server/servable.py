"""The faces that the parts of the model server show each other.

Comes in: nothing. Goes out: the protocols of a loaded model (`Servable`), of a reference to one (`Handle`), of all
models (`Models`), and `VersionState`. Used by the transports, the data plane and the version manager, so that each can
be tested with a stand-in for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from serving.server.status import Code

if TYPE_CHECKING:
    import numpy as np

    from serving.server.model_spec import ModelSpec
    from serving.signature import Signature

DEFAULT_SIGNATURE = "serving_default"


class Servable(Protocol):
    """One loaded version of a model."""

    signatures: Mapping[str, Signature]
    """Signatures by name."""
    batchable: Mapping[str, bool]
    """For each signature whether every input and output has a leading unknown dimension."""
    one_core_rows: Mapping[str, int]
    """For signatures whose small calls keep one core busy only: up to how many rows. Others are missing."""

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run a signature; blocking, thread-safe.

        Args:
            signature: Name of the signature.
            inputs: Every input by name.
            outputs: Which outputs to compute; None for all.

        Returns:
            The outputs by name.

        Raises:
            StatusError: The graph failed, or the call does not fit it.
        """
        ...

    def signature_defs(self) -> Any:
        """Return the `SignatureDefMap` proto that metadata calls show."""
        ...

    def close(self) -> None:
        """Free the model; closing twice is allowed."""
        ...


class Handle(Protocol):
    """A reference to one loaded version; keeps it from being unloaded."""

    name: str
    version: int
    servable: Servable

    def release(self) -> None:
        """Give the reference back, exactly once."""
        ...

    def __enter__(self) -> Handle:
        """Give the handle itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the reference back."""
        ...


@dataclass(frozen=True)
class VersionState:
    """Where one version of a model stands.

    Attributes:
        version: The version.
        state: State of its life, as `ModelVersionStatus.State`.
        code: OK, or why the version failed.
        message: Text of the failure; empty if there is none.
    """

    version: int
    state: Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    code: Code
    message: str


class Models(Protocol):
    """All models of the server."""

    def acquire(self, spec: ModelSpec) -> Handle:
        """Resolve a request to a loaded version; cheap, called on the event loop for every request.

        Raises:
            StatusError: Unknown model, version or label, with the texts of TensorFlow Serving.
        """
        ...

    def states(self, spec: ModelSpec) -> list[VersionState]:
        """Return the states of the versions of a model, the highest version first.

        Raises:
            StatusError: NOT_FOUND, the model or version is not known.
        """
        ...

    def reload(self, config: Any) -> None:
        """Take over another `ModelServerConfig` proto.

        Raises:
            StatusError: The configuration is refused; what was served goes on being served.
        """
        ...
