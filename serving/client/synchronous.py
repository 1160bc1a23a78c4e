"""The client for programs without an event loop.

Comes in: inputs of a model. Goes out: its outputs. Called by users, notebooks and scripts; safe from several threads,
which share the connections.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

from serving.client.address import TlsFiles
from serving.client.answers import Prediction
from serving.client.asynchronous import AsyncClient
from serving.client.errors import Unavailable
from serving.client.retries import RetryBudget
from serving.server.servable import DEFAULT_SIGNATURE, VersionState
from serving.signature import Signature

T = TypeVar("T")


class Client:
    """`AsyncClient` behind plain calls: same arguments, same errors; runs it on a loop in a thread of its own.

    Example:
        >>> with Client("http://localhost:8501", "pets") as client:
        ...     client.predict({"image_bytes": [png]})["label"]
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
        self._make = lambda: AsyncClient(
            address, model, timeout_seconds=timeout_seconds, retries=retries, headers=headers, tls=tls
        )
        self.model = model
        self._lock = threading.Lock()
        self._closed = False
        self._start()

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Prediction:
        """Run a signature of the model; see `AsyncClient.predict`."""
        return self._run(
            lambda client: client.predict(
                inputs,
                version=version,
                label=label,
                signature=signature,
                outputs=outputs,
                timeout_seconds=timeout_seconds,
            )
        )

    def predict_images(
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
        """Classify encoded images, many in one request; see `AsyncClient.predict_images`."""
        return self._run(
            lambda client: client.predict_images(
                images,
                version=version,
                label=label,
                signature=signature,
                input_name=input_name,
                batch=batch,
                on_error=on_error,
                timeout_seconds=timeout_seconds,
            )
        )

    def status(self, *, version: int | None = None) -> list[VersionState]:
        """Ask where the versions of the model stand, or one of them; servers overlook labels here, see `resolve`."""
        return self._run(lambda client: client.status(version=version))

    def resolve(self, label: str | None = None) -> int:
        """Ask for the number of the version that a label points to; of the newest available one without a label."""
        return self._run(lambda client: client.resolve(label))

    def metadata(self, *, version: int | None = None, label: str | None = None) -> dict[str, Signature]:
        """Ask for the signatures of the model, by name."""
        return self._run(lambda client: client.metadata(version=version, label=label))

    def reload(self, model_config: Any) -> None:
        """Let the server take over another configuration of its models; gRPC only."""
        self._run(lambda client: client.reload(model_config))

    def close(self) -> None:
        """Close the connections and end the thread; closing twice is allowed."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._process == os.getpid():
            asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
            self._stop()

    def __enter__(self) -> Client:
        """Give the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def _start(self) -> None:
        self._process = os.getpid()
        self._client = self._make()
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run_loop, args=(self._loop,), name="model-client", daemon=True)
        thread.start()
        # Also ends the thread of a client that nobody closed.
        self._stop = weakref.finalize(self, _stop_loop, self._loop, thread)

    def _run(self, call: Any) -> Any:
        with self._lock:
            if self._closed:
                raise Unavailable("the client was closed; make a new one.")
            if self._process != os.getpid():
                # The thread and its connections stayed in the process that this one was forked from.
                self._stop.detach()
                self._start()
            coroutine: Coroutine[Any, Any, Any] = call(self._client)
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _stop_loop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if thread.is_alive():
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(timeout=5.0)
