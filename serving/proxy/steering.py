"""The proxy follows the canary.

Comes in: the state of the traffic. Goes out: routes with its weight. Called by the canary's controller with every
state; it writes only what has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from serving.proxy.routes import write_routes
from serving.proxy.settings import load_settings

if TYPE_CHECKING:
    from serving.traffic.state import TrafficState


def follower(settings_file: str | os.PathLike[str]) -> Callable[[TrafficState], None]:
    """A listener for the controller that writes the routes of a proxy.

    Raises:
        ProxyError: The settings cannot be used.
    """
    settings = load_settings(settings_file)

    def follow(state: TrafficState) -> None:
        write_routes(settings, state.weight)

    return follow
