"""The templates of the deployment files.

Comes in: `DeploySettings`. Goes out: text by path. Called by `serving.deploy.generating`.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from serving.deploy.settings import TFSERVING_GPU_IMAGE, TFSERVING_IMAGE, DeploySettings
from serving.errors import UnavailableError

_ENDING = ".j2"
# Codes that the server is to blame for; the rest are mistakes of clients.
_FAULTS = "UNKNOWN|INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|DATA_LOSS|RESOURCE_EXHAUSTED"


def render(settings: DeploySettings) -> dict[str, str]:
    """Fill every template.

    Args:
        settings: what the templates show.

    Returns:
        Text by path relative to the folder of the deployment.

    Raises:
        UnavailableError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise UnavailableError(
            "deployment files need the package jinja2; install the extra: pip install 'tfx-slipway[gateway]'."
        ) from error
    root = resources.files(__package__) / "templates"
    # Marks of our own, because Prometheus, Grafana and YAML use braces and `<<` themselves.
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
        variable_start_string="@{", variable_end_string="}@", block_start_string="<%", block_end_string="%>",
        comment_start_string="<#", comment_end_string="#>", autoescape=False,
    )  # fmt: skip
    values = {
        "settings": settings,
        "tfserving": TFSERVING_IMAGE,
        "tfserving_gpu": TFSERVING_GPU_IMAGE,
        "faults": _FAULTS,
    }
    return {
        path.removesuffix(_ENDING): environment.from_string(text).render(values) for path, text in _templates(root, "")
    }


def _templates(folder: Any, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _templates(entry, f"{path}/")
        elif path.endswith(_ENDING):
            found.append((path, entry.read_text("utf-8")))
    return found
