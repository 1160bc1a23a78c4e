"""Pictures, a gateway in process, and a way to ask it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.gateway.app import build_app
from serving.gateway.settings import GatewaySettings
from tests.serving.gateway.fakes import FakeClient

COLORS = {"cat": (255, 30, 30), "dog": (30, 255, 30), "owl": (30, 30, 255)}


def picture(kind: str = "owl", form: str = "PNG", size: tuple[int, int] = (24, 16), **options: Any) -> bytes:
    """A picture of one color with some structure, which the fake model knows."""
    pixels = np.full((size[1], size[0], 3), COLORS[kind], np.uint8)
    pixels[::2, ::3] //= 2
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


class Asker:
    """A gateway in process; every request runs on one event loop of its own."""

    def __init__(self, settings: GatewaySettings, client: Any) -> None:
        self.client = client
        self.app = build_app(settings, client)
        self.parts = self.app.state.parts
        self.loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 4711), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway.test")

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.run(self.http.request(method, path, **options))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def close(self) -> None:
        self.run(self.http.aclose())
        if self.app.state.jobs is not None:
            self.run(self.app.state.jobs.close())
        self.run(self.parts.close())
        self.loop.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Asker]]:
    """A function that builds gateways from sections of settings; `client=` gives another model server."""
    made: list[Asker] = []

    def build(client: Any = None, **sections: Any) -> Asker:
        values = {"data_dir": tmp_path / "data", **sections}
        made.append(Asker(GatewaySettings.model_validate(values), client or FakeClient()))
        return made[-1]

    yield build
    for one in made:
        one.close()
