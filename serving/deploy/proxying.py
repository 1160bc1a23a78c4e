"""The configuration of Envoy in a deployment.

Comes in: `DeploySettings`. Goes out: the bootstrap and the routes as text by path. Called by
`serving.deploy.generating`; the configuration itself comes from `serving.proxy`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from serving.deploy.settings import DeploySettings
from serving.proxy import envoy, routes
from serving.proxy.settings import ProxySettings, Upstream

_INSIDE = Path("/etc/envoy")
"""Where the container finds the files."""


def render(settings: DeploySettings) -> dict[str, str]:
    """Text by path, for the gateways as the only upstream: they split the traffic between versions themselves."""
    proxy = ProxySettings(
        model=settings.name,
        stable=Upstream(hosts=("gateway:8080",), health_path="/readyz"),
        routes_dir=_INSIDE,
        http_port=8000,
    )
    with tempfile.TemporaryDirectory(prefix="slipway-deploy-") as scratch:
        beside = proxy.model_copy(update={"routes_dir": Path(scratch)})
        routes.write_routes(beside, 0.0)
        route_files = {path.name: path.read_text("utf-8") for path in Path(scratch).iterdir()}
        bootstrap = envoy.write(beside, scratch).read_text("utf-8").replace(scratch, str(_INSIDE))
    return {f"compose/envoy/{name}": text for name, text in {**route_files, envoy.BOOTSTRAP_FILE: bootstrap}.items()}
