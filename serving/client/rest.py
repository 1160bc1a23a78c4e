"""REST as a transport, on httpx.

Comes in: calls of the client. Goes out: HTTP requests to TensorFlow Serving's REST API. Called by the client.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from serving.client import rest_codec
from serving.client.address import Address, TlsFiles
from serving.client.answers import Metadata, Prediction
from serving.client.errors import ClientError, DeadlineExceeded, InvalidRequest, ServerFailure, Unavailable
from serving.client.transport import MAX_ANSWER_BYTES, Attempt
from serving.server.status import Code

if TYPE_CHECKING:
    import httpx
    import numpy as np

    from serving.server.model_spec import ModelSpec
    from serving.server.servable import VersionState
    from serving.signature import Signature

_MAX_CONNECTIONS = 100


class RestTransport:
    """Connections to one server, kept open between calls; lives on one event loop."""

    needs_dtypes = False

    def __init__(self, address: Address, headers: Mapping[str, str], tls: TlsFiles | None) -> None:
        """Connect nothing yet."""
        import httpx

        self._base = address.target
        self._client = httpx.AsyncClient(
            # The whole attempt has one deadline, see `_fetch`; httpx would count each read for itself.
            timeout=None,
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS),
            headers={"accept-encoding": "identity", **headers},
            verify=_tls_context(tls) if address.secure else False,
            # A model server is a neighbor; a proxy for the way out of the house would be in the way.
            trust_env=False,
        )

    def predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, np.ndarray],
        outputs: tuple[str, ...] | None,
        signature: Callable[[], Awaitable[Signature | None]],
    ) -> Attempt[Prediction]:
        """Prepare a predict call; REST knows no filter of outputs, so they are picked from the answer."""
        path = f"{rest_codec.model_path(spec)}:predict"
        body = rest_codec.predict_body(spec.signature, inputs)

        async def attempt(left_seconds: float) -> Prediction:
            answer = await self._fetch("POST", path, body, left_seconds)
            found = rest_codec.parse_outputs(answer, await signature())
            if outputs is not None:
                missing = [name for name in outputs if name not in found]
                if missing:
                    raise InvalidRequest(f"the model has no outputs {missing}; it has {sorted(found)}.")
                found = {name: found[name] for name in outputs}
            return Prediction(found, spec.version)

        return attempt

    def status(self, spec: ModelSpec) -> Attempt[list[VersionState]]:
        """Prepare a question for the states of the versions."""
        path = rest_codec.model_path(spec)

        async def attempt(left_seconds: float) -> list[VersionState]:
            return rest_codec.parse_status(await self._fetch("GET", path, None, left_seconds))

        return attempt

    def metadata(self, spec: ModelSpec) -> Attempt[Metadata]:
        """Prepare a question for number and signatures of a version."""
        path = f"{rest_codec.model_path(spec)}/metadata"

        async def attempt(left_seconds: float) -> Metadata:
            return rest_codec.parse_metadata(await self._fetch("GET", path, None, left_seconds))

        return attempt

    def reload(self, config: Any) -> Attempt[None]:
        """Refuse: TensorFlow Serving reloads its configuration over gRPC only.

        Raises:
            InvalidRequest: Always.
        """
        raise InvalidRequest("REST cannot reload a configuration; use a grpc:// address.", Code.UNIMPLEMENTED)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _fetch(self, method: str, path: str, body: bytes | None, left_seconds: float) -> bytes:
        import httpx

        started = time.monotonic()
        try:
            return await asyncio.wait_for(self._exchange(method, path, body), left_seconds)
        except (asyncio.TimeoutError, TimeoutError) as error:
            spent = time.monotonic() - started
            raise DeadlineExceeded(f"{self._base} did not answer {method} {path} within {spent:.1f} s.") from error
        except (httpx.ProtocolError, httpx.DecodingError) as error:
            # A server that hangs up without a word is going down; one that talks something else is no model server.
            if isinstance(error, httpx.RemoteProtocolError) and "disconnected" in str(error):
                raise Unavailable(f"{self._base} closed the connection: {error}") from error
            raise ServerFailure(f"{self._base} answered with something that is not HTTP: {error}") from error
        except (httpx.TransportError, OSError) as error:
            raise Unavailable(f"{self._base} cannot be reached: {error or type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise ServerFailure(f"{method} {self._base}{path} failed: {error or type(error).__name__}") from error

    async def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = None if body is None else {"content-type": "application/json"}
        async with self._client.stream(method, f"{self._base}{path}", content=body, headers=headers) as response:
            answer = bytearray()
            async for chunk in response.aiter_bytes():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise ServerFailure(f"{self._base} answered with more than {MAX_ANSWER_BYTES:,} bytes.")
        if response.status_code != 200:
            raise self._failure(response, bytes(answer))
        return bytes(answer)

    def _failure(self, response: httpx.Response, body: bytes) -> ClientError:
        return rest_codec.failure(response.status_code, body, _retry_after(response.headers.get("retry-after")))


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date of HTTP."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())


def _tls_context(tls: TlsFiles | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca if tls is not None else None)
    if tls is not None and tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context
