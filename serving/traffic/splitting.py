"""Which version label answers a user.

Comes in: the state and a key of the user. Goes out: a `Route`. Called by the gateway for every request.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from serving.traffic.state import CANARY, STABLE, Label, TrafficState

_SPAN = 1 << 64


@dataclass(frozen=True)
class Route:
    """Where a request goes.

    Attributes:
        label: Version label whose answer the user gets.
        shadow: Label that the request is sent to as well, its answer thrown away; None for nobody.
    """

    label: Label
    shadow: Label | None = None


def position(user_key: str, salt: str) -> float:
    """Place of a user between 0 (first on the canary) and 1, always the same for one salt."""
    # The salt is a key, not a prefix: ("ab", "c") and ("a", "bc") must differ.
    digest = hashlib.blake2b(user_key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / _SPAN


def choose(state: TrafficState, user_key: str) -> Route:
    """Choose the label for a user.

    Sticky and monotone: within a rollout a user stays on the canary when the weight grows, and the weight is the
    share of the users, not of the requests.

    Args:
        state: The state.
        user_key: What tells users apart: a user id, an API key's id, a cookie; per request a random one if there
            is nothing else.
    """
    if state.canary is None:
        return Route(STABLE)
    if state.weight > 0 and position(user_key, state.salt) < state.weight:
        return Route(CANARY)
    shadowed = state.shadow == CANARY and state.phase == "running"
    if shadowed and position(user_key, f"shadow{state.salt}") < state.shadow_share:
        return Route(STABLE, shadow=CANARY)
    return Route(STABLE)
