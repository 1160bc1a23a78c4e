"""The client for programs that run on an event loop.

Comes in: inputs of a model. Goes out: its outputs. Called by the gateway, the traffic controller and users.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

from serving.client.address import Address, TlsFiles, parse_address
from serving.client.answers import ImageAnswer, Metadata, Prediction, holds_strings, image_answers, to_arrays
from serving.client.errors import ClientError, DeadlineExceeded, InvalidRequest, NotFound, OtherOutputs, ServerFailure
from serving.client.retries import RetryBudget
from serving.client.transport import Attempt, Transport
from serving.server.model_spec import ModelSpec
from serving.server.servable import DEFAULT_SIGNATURE, VersionState
from serving.signature import Signature

T = TypeVar("T")
_BATCHES_AT_ONCE = 4


class AsyncClient:
    """Asks one model of a model server over REST or gRPC; belongs to the event loop that first uses it.

    Connections are kept open between calls. Failures that may pass are retried within the budget; the time given for a
    call covers all its attempts.

    Args:
        address: `http://host:8501`, `https://…`, `grpc://host:8500`, `grpcs://…`, or `unix:/path` for gRPC.
        model: Name of the model.
        timeout_seconds: Time for each call, all attempts together.
        retries: When failed attempts are repeated; a budget may be shared by several clients.
        headers: Sent with every request: HTTP headers, or metadata of gRPC.
        tls: Files for `https` and `grpcs`.

    Example:
        >>> async with AsyncClient("grpc://localhost:8500", "pets") as client:
        ...     (await client.predict({"image_bytes": [png]}))["label"]
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        timeout_seconds: float = 10.0,
        retries: RetryBudget | None = None,
        headers: Mapping[str, str] | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        """Check the arguments; nothing is connected before the first call."""
        if timeout_seconds <= 0:
            raise ValueError(f"received timeout_seconds={timeout_seconds}; expected more than 0.")
        if not model:
            raise ValueError("received an empty name of a model.")
        self.model = model
        self._timeout = timeout_seconds
        self._retries = retries if retries is not None else RetryBudget()
        self._transport = _transport(parse_address(address), headers or {}, tls)
        self._signatures: dict[ModelSpec, Signature | None] = {}

    async def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Prediction:
        """Run a signature of the model.

        Args:
            inputs: Array of each input by name, with dtype and shape of the signature; nested lists take the dtype of
                the signature; bytes and str, or lists of them, for string inputs.
            version: Version to ask; None for the latest.
            label: Version label to ask, instead of a version.
            signature: Name of the signature.
            outputs: Names of the outputs that are wanted; None for all.
            timeout_seconds: Time for this call instead of that of the client.

        Returns:
            Array of each output by name.

        Raises:
            InvalidRequest: The inputs do not fit the model.
            NotFound: Model or version do not exist.
            Unavailable: No server answered, and the budget of retries is used up.
            DeadlineExceeded: The time is over.
            ServerFailure: The server failed, or what answered is none.
        """
        spec = _spec(self.model, version, label, signature)
        deadline = self._deadline(timeout_seconds)
        lists = self._transport.needs_dtypes and not all(
            hasattr(value, "dtype") or holds_strings(value) for value in inputs.values()
        )
        arrays = to_arrays(inputs, await self._signature(spec, deadline) if lists else None)
        attempt = self._transport.predict(
            spec, arrays, None if outputs is None else tuple(outputs), lambda: self._signature(spec, deadline)
        )
        try:
            return await self._call(attempt, deadline)
        except OtherOutputs:
            # Perhaps another version with other outputs is in service since its signature was looked up.
            if self._signatures.pop(spec, None) is None:
                raise
            return await self._call(attempt, deadline)

    async def predict_images(
        self,
        images: Sequence[bytes],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = DEFAULT_SIGNATURE,
        input_name: str = "image_bytes",
        batch: int = 32,
        on_error: Literal["raise", "return"] = "raise",
        timeout_seconds: float | None = None,
    ) -> list[Any]:
        """Classify encoded images, many in one request.

        Args:
            images: JPEG, PNG, GIF or BMP files.
            version: Version to ask; None for the latest.
            label: Version label to ask, instead of a version.
            signature: Signature that takes encoded images and gives `label`, `class_id` and `probabilities`.
            input_name: Name of its input.
            batch: Most images of one request.
            on_error: "raise" ends with the error of the first image that failed; "return" puts each error in the place
                of its answer.
            timeout_seconds: Time for all images together.

        Returns:
            An `ImageAnswer` for each image, in their order.

        Raises:
            ClientError: As for `predict`; the message names the image.
        """
        if batch < 1:
            raise ValueError(f"received batch={batch}; expected 1 or more.")
        deadline = self._deadline(timeout_seconds)
        gate = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def ask(part: Sequence[bytes]) -> list[ImageAnswer]:
            async with gate:
                left = max(0.0, deadline - time.monotonic())
                found = await self.predict(
                    {input_name: list(part)}, version=version, label=label, signature=signature, timeout_seconds=left
                )
            return image_answers(found, len(part))

        async def ask_apart(part: Sequence[bytes]) -> Sequence[ImageAnswer | ClientError]:
            try:
                return await ask(part)
            except InvalidRequest as refused:
                # One bad image spoils its request; asked one by one, the others get their answers.
                alone = await asyncio.gather(*(_caught(ask([image])) for image in part)) if len(part) > 1 else [refused]
                same = all(isinstance(one, ClientError) and one.message == refused.message for one in alone)
                return [refused] * len(part) if same else alone
            except ClientError as error:
                return [error] * len(part)

        parts = [images[start : start + batch] for start in range(0, len(images), batch)]
        answers = [one for part in await asyncio.gather(*map(ask_apart, parts)) for one in part]
        if on_error == "raise":
            _raise_first(answers)
        return answers

    async def status(self, *, version: int | None = None) -> list[VersionState]:
        """Ask where the versions of the model stand, or one of them; servers overlook labels here, see `resolve`.

        Raises:
            ClientError: As for `predict`.
        """
        return await self._call(self._transport.status(_spec(self.model, version, None, "")), self._deadline(None))

    async def metadata(self, *, version: int | None = None, label: str | None = None) -> dict[str, Signature]:
        """Ask for the signatures of the model, by name.

        Raises:
            ClientError: As for `predict`.
        """
        return dict((await self._metadata(_spec(self.model, version, label, ""))).signatures)

    async def resolve(self, label: str | None = None) -> int:
        """Ask for the number of the version that a label points to; of the newest available one without a label.

        Raises:
            ClientError: As for `predict`; InvalidRequest if there is no such label.
        """
        return (await self._metadata(_spec(self.model, None, label, ""))).version

    async def _metadata(self, spec: ModelSpec) -> Metadata:
        return await self._call(self._transport.metadata(spec), self._deadline(None))

    async def reload(self, model_config: Any) -> None:
        """Let the server take over another configuration of its models; gRPC only.

        Args:
            model_config: `ModelServerConfig` as text or as a message of `serving.wire`.

        Raises:
            ClientError: As for `predict`; InvalidRequest if the server refuses the configuration.
        """
        await self._call(self._transport.reload(model_config), self._deadline(None))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        """Give the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    def _deadline(self, timeout_seconds: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout_seconds is None else timeout_seconds)

    async def _call(self, attempt: Attempt[T], deadline: float) -> T:
        """Attempt until it succeeds, must not be repeated, or time or budget are used up."""
        self._retries.deposit()
        number = 0
        while True:
            number += 1
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded("the time for the call was over before it was sent.")
            try:
                return await attempt(left)
            except ClientError as error:
                wait = self._retries.wait_seconds(error, number, deadline - time.monotonic())
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def _signature(self, spec: ModelSpec, deadline: float) -> Signature | None:
        """Names and dtypes of a signature; None if the server does not tell them."""
        if spec not in self._signatures:
            try:
                found = dict((await self._call(self._transport.metadata(spec), deadline)).signatures)
            except (InvalidRequest, NotFound, ServerFailure):
                found = {}
            self._signatures[spec] = found.get(spec.signature)
        return self._signatures[spec]


def _transport(address: Address, headers: Mapping[str, str], tls: TlsFiles | None) -> Transport:
    if address.transport == "rest":
        from serving.client.rest import RestTransport

        return RestTransport(address, headers, tls)
    from serving.client.grpc_transport import GrpcTransport

    return GrpcTransport(address, headers, tls)


def _spec(model: str, version: int | None, label: str | None, signature: str) -> ModelSpec:
    if version is not None and label is not None:
        raise InvalidRequest(f"received version {version} and label {label!r}; give one of them.")
    if version is not None and version < 0:
        raise InvalidRequest(f"received version {version}; expected 0 or more.")
    return ModelSpec(model, version, label, signature)


async def _caught(answers: Any) -> ImageAnswer | ClientError:
    try:
        return (await answers)[0]
    except ClientError as error:
        return error


def _raise_first(answers: Sequence[ImageAnswer | ClientError]) -> None:
    for number, answer in enumerate(answers):
        if isinstance(answer, ClientError):
            where = f"image {number}: " if any(not isinstance(other, ClientError) for other in answers) else ""
            raise type(answer)(f"{where}{answer.message}", answer.code, answer.retry_after_seconds) from answer
