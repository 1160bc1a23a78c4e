"""The REST API: one HTTP request in, one HTTP response out.

Comes in: method, path and body of a whole request. Goes out: `Response`. Called by
`serving.server.rest.connection` for every request; calls the data plane and the models.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from serving.server import metrics as server_metrics
from serving.server.data_plane import DataPlane
from serving.server.metrics import ServerMetrics
from serving.server.pixels import check_pixels
from serving.server.rest import answers, examples, json_text, requests, routes
from serving.server.rest.fast import PredictDecoder
from serving.server.rest.http import JSON_HEADERS, BodyError, Response, gunzip
from serving.server.rest.options import RestOptions
from serving.server.rest.routes import Route
from serving.server.servable import Handle, Models
from serving.server.status import Code, StatusError
from serving.signature import Signature

_LOG = logging.getLogger("slipway.serving")
_NOT_FOUND = b"<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)


class RestApp:
    """Answers REST calls; runs on one event loop.

    Example:
        >>> app = rest_app(plane, models, ServerMetrics(), RestOptions())
        >>> response = await app.answer("GET", "/v1/models/mnist", b"")
    """

    def __init__(self, plane: DataPlane, models: Models, metrics: ServerMetrics, options: RestOptions) -> None:
        """Use `rest_app`."""
        self.options = options
        self.metrics = metrics
        self._plane = plane
        self._models = models
        self._decoder = PredictDecoder()
        self._headers = (*JSON_HEADERS, *_CORS) if options.cors else JSON_HEADERS
        self._calls: dict[str, Callable[[Route, bytes], Awaitable[bytes]]] = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
            "status": self._status,
            "metadata": self._metadata,
        }

    async def answer(self, method: str, path: str, body: bytes, encoding: bytes = b"") -> Response:
        """Answer one request; every failure is a response.

        Args:
            method: HTTP method, upper case.
            path: Path and query as sent, percent-encoded.
            body: The body, as large as the limit at most.
            encoding: The Content-Encoding header.

        Returns:
            The response.
        """
        if path.partition("?")[0] == self.options.monitoring_path:
            return Response(200, self.metrics.exposition(), ((b"content-type", server_metrics.CONTENT_TYPE.encode()),))
        if not routes.is_api_path(path):
            return Response(404, _NOT_FOUND, ((b"content-type", b"text/html"),))
        headers = self._headers
        if method == "OPTIONS" and self.options.cors:
            return Response(200, b"", headers)
        start = time.monotonic()
        name, call, code = "", "", Code.OK
        try:
            route = routes.match(method, path)
            name, call = route.spec.name, route.call if method == "POST" else ""
            if b"gzip" in encoding:
                body = gunzip(body, self.options.max_body_bytes)
            return Response(200, await self._calls[route.call](route, body), headers)
        except StatusError as error:
            code = error.code
            return Response(answers.http_status(code), answers.error(error.message), headers)
        except BodyError as error:
            code = Code.INVALID_ARGUMENT
            return Response(error.status, answers.error(str(error)), headers)
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        except Exception:
            # A fault of the server must not end the connection without a word, nor tell strangers its insides.
            code = Code.INTERNAL
            _LOG.exception("REST request %s %.200s failed", method, path)
            return Response(500, answers.error("Internal error; the server's log tells more."), headers)
        finally:
            self.metrics.request(name, call, "REST", code, (time.monotonic() - start) * 1e6)

    def _deadline(self) -> float | None:
        timeout = self.options.timeout_ms
        return time.monotonic() + timeout / 1000 if timeout > 0 else None

    async def _predict(self, route: Route, body: bytes) -> bytes:
        deadline = self._deadline()
        try:
            handle = self._models.acquire(route.spec)
        except StatusError:
            # A fault in the text is reported before a missing model.
            requests.signature_name(json_text.parse(body))
            raise
        with handle:
            call = self._decoder.decode(body, lambda name: _signature(handle, name))
            for array in call.inputs.values():
                if array.dtype.kind == "O":
                    check_pixels(array.flat, self.options.max_pixels)
            outputs = await self._plane.predict(handle, call.signature, call.inputs, None, deadline)
            return answers.predictions(outputs) if call.row else answers.columns(outputs)

    async def _classify(self, route: Route, body: bytes) -> bytes:
        deadline = self._deadline()
        call = self._examples(body)
        with self._models.acquire(route.spec) as handle:
            result = await self._plane.classify(handle, call.signature, call.examples, deadline)
        return answers.classifications(result.classes, result.scores)

    async def _regress(self, route: Route, body: bytes) -> bytes:
        deadline = self._deadline()
        call = self._examples(body)
        with self._models.acquire(route.spec) as handle:
            return answers.regressions(await self._plane.regress(handle, call.signature, call.examples, deadline))

    def _examples(self, body: bytes) -> examples.ExamplesCall:
        call = examples.decode_examples(body)
        check_pixels(call.blobs, self.options.max_pixels)
        return call

    async def _status(self, route: Route, _: bytes) -> bytes:
        return answers.status(self._models.states(route.spec))

    async def _metadata(self, route: Route, _: bytes) -> bytes:
        with self._models.acquire(route.spec) as handle:
            return answers.metadata(handle.name, handle.version, handle.servable.signature_defs())


def _signature(handle: Handle, name: str) -> Signature:
    signature = handle.servable.signatures.get(name)
    if signature is None:
        raise StatusError(Code.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found in signature def')
    return signature


def rest_app(plane: DataPlane, models: Models, metrics: ServerMetrics, options: RestOptions) -> RestApp:
    """Put the REST API together.

    Args:
        plane: Runs the calls.
        models: Knows the models.
        metrics: Counts the calls.
        options: Limits and switches.

    Returns:
        What `serving.server.rest.serving.start_rest` serves.
    """
    return RestApp(plane, models, metrics, options)
