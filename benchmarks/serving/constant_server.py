"""The HTTP server of the embedded server with a constant in place of a model: what HTTP alone costs.

    python -m benchmarks.serving.constant_server FILE PORT

Reads every request whole, as the real server does, and answers with the content of the file.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, cast

import uvloop

from serving.server.metrics import ServerMetrics
from serving.server.rest.app import RestApp
from serving.server.rest.http import Response
from serving.server.rest.options import RestOptions
from serving.server.rest.serving import start_rest


class ConstantApp:
    """Stands where `RestApp` does."""

    def __init__(self, body: bytes) -> None:
        """Answer with `body`."""
        self.options = RestOptions()
        self.metrics = ServerMetrics()
        self._response = Response(200, body)

    async def answer(self, *_: Any) -> Response:
        """Answer."""
        return self._response


async def serve(body: bytes, port: int) -> None:
    """Serve until the process is ended."""
    await start_rest(cast(RestApp, ConstantApp(body)), "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(Path(sys.argv[1]).read_bytes(), int(sys.argv[2])))
