"""`GET /`: the web page, a template with a style sheet and a script of our own.

Everything comes from this server, so that the page works without the internet and under a strict content security
policy. Registered by `app`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

from serving.gateway.settings import GatewaySettings

_FOLDER = Path(__file__).parent / "page"
_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def routes(settings: GatewaySettings) -> APIRouter:
    """Return the routes; the files are read once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    router = APIRouter(include_in_schema=False)
    files = {name: (_FOLDER / name).read_bytes() for name in _TYPES}
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()[:12]
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("index.html").render(
        title=settings.page.title,
        assets=digest,
        max_bytes=settings.images.max_bytes,
        keeps_pictures=settings.feedback.images,
    )

    @router.get("/")
    async def index() -> Response:
        return Response(html, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-cache"})

    @router.get("/assets/{version}/{name}")
    async def asset(request: Request, version: str, name: str) -> Response:
        if name not in files or version != digest:
            return Response("not found\n", 404, media_type="text/plain")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(files[name], media_type=_TYPES[name], headers=headers)

    return router
