"""The lines that tell a person where the server listens and how to ask it.

Comes in: settings and the models that are available. Goes out: lines for the log. Called by `serving.server.running`
when the server is ready.
"""

from __future__ import annotations

from urllib.parse import quote

from serving.server.lifecycle.manager import ModelManager
from serving.server.model_spec import ModelSpec
from serving.server.servable import DEFAULT_SIGNATURE
from serving.server.status import StatusError


def curl_line(models: ModelManager, name: str, address: str) -> str:
    """A command to paste that asks a model, or its status where an example cannot be guessed.

    Args:
        models: Knows the signatures.
        name: Name of the model.
        address: `http://host:port` of the REST API.
    """
    url = f"{address}/v1/models/{quote(name, safe='')}"
    try:
        with models.acquire(ModelSpec(name)) as handle:
            signature = handle.servable.signatures.get(DEFAULT_SIGNATURE)
    except StatusError:
        signature = None
    inputs = list(signature.inputs.values()) if signature is not None else []
    if len(inputs) == 1 and inputs[0].dtype == "string":
        return f"""base64 -w0 IMAGE.png | sed 's/.*/{{"instances": [{{"b64": "&"}}]}}/' | curl -d @- {url}:predict"""
    return f"curl {url}"


def reachable(host: str) -> str:
    """Address under which this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", "", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host
