"""The routes of the proxy: who is answered by the stable version and who by the canary.

Comes in: settings and a weight. Goes out: Envoy's route configurations as files that a running proxy takes up at
once, without losing a request. Called by `serving.proxy.envoy` and by the follower of the canary.

Sticky by user: Envoy hashes the user's header or cookie instead of drawing lots. The canary stands first and the
weights always add up to the same, so a user who is on the canary stays there when its weight grows.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from serving.durable import write_durably
from serving.proxy.settings import ProxySettings

HTTP_ROUTES, GRPC_ROUTES = "http_routes", "grpc_routes"
STABLE, CANARY = "stable", "canary"
HEALTH_PATH = "/-/healthy"
_REQUEST_ID = "x-request-id"
_WHOLE = 10_000  # Weights are whole numbers, so a share is exact to a hundredth of a percent.
_RETRIED = "connect-failure,refused-stream,reset-before-request,retriable-status-codes"
_RETRIED_GRPC = "connect-failure,refused-stream,reset-before-request,unavailable"


def write_routes(settings: ProxySettings, weight: float) -> bool:
    """Write the routes for a share of users on the canary; a running proxy follows within moments.

    Args:
        settings: The settings; `routes_dir` is created if missing.
        weight: Share of the users, 0 to 1.

    Returns:
        Whether anything changed.
    """
    settings.routes_dir.mkdir(parents=True, exist_ok=True)
    written = [_replace(route_file(settings, HTTP_ROUTES), http_routes(settings, weight))]
    if settings.grpc_stable is not None:
        written.append(_replace(route_file(settings, GRPC_ROUTES), grpc_routes(settings, weight)))
    return any(written)


def route_file(settings: ProxySettings, name: str) -> Path:
    """Where a route configuration stands."""
    return settings.routes_dir / f"{name}.json"


def http_routes(settings: ProxySettings, weight: float) -> dict[str, Any]:
    """Route configuration of the HTTP listener."""
    healthy = {"match": {"path": HEALTH_PATH}, "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}}}
    action = _action(settings, _RETRIED)
    chosen = [_chosen(settings, label, action) for label in (CANARY, STABLE)]
    by_name = {"name": settings.user_header, "present_match": True}
    by_cookie = {"name": "cookie", "string_match": {"safe_regex": {"regex": _cookie_pattern(settings)}}}
    return _configuration(
        HTTP_ROUTES,
        [
            healthy,
            *(chosen if settings.clients_may_choose else []),
            _split(settings, weight, action, [by_name], {"header": {"header_name": settings.user_header}}),
            _split(settings, weight, action, [by_cookie], {"cookie": {"name": settings.user_cookie}}),
            # Envoy makes a hash policy's cookie only for balancers that hash, so a stranger gets the id of his first
            # request as his cookie; the same text has the same hash.
            {
                **_split(settings, weight, action, [], {"header": {"header_name": _REQUEST_ID}}),
                "response_headers_to_add": [_cookie(settings)],
            },
        ],
    )


def grpc_routes(settings: ProxySettings, weight: float) -> dict[str, Any]:
    """Route configuration of the gRPC listener."""
    action = {**_action(settings, _RETRIED_GRPC), "max_stream_duration": {"grpc_timeout_header_max": _limit(settings)}}
    has_canary = settings.grpc_canary is not None
    # Where one upstream has both versions, only the client can say which one, inside its message.
    share = weight if has_canary else 0.0
    chosen = [_chosen(settings, label, action, "grpc_") for label in (CANARY, STABLE)]
    by_name = {"name": settings.user_header, "present_match": True}
    named = _split(settings, share, action, [by_name], {"header": {"header_name": settings.user_header}}, "grpc_")
    strangers = _split(settings, share, action, [], {"header": {"header_name": _REQUEST_ID}}, "grpc_")
    return _configuration(
        GRPC_ROUTES, [*(chosen if settings.clients_may_choose and has_canary else []), named, strangers]
    )


def _configuration(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    host = {"name": name, "domains": ["*"], "routes": routes}
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": [host],
    }


def _split(
    settings: ProxySettings,
    weight: float,
    action: dict[str, Any],
    headers: list[dict[str, Any]],
    user: dict[str, Any],
    prefix: str = "",
) -> dict[str, Any]:
    """The route of requests with these headers, split by the hash of what tells users apart."""
    canary = round(weight * _WHOLE)
    clusters = [
        {**_labelled(settings, label), "name": f"{prefix}{label}", "weight": share}
        for label, share in ((CANARY, canary), (STABLE, _WHOLE - canary))
    ]
    # Without a canary's upstream of its own there is no such cluster in gRPC.
    known = [cluster for cluster in clusters if cluster["weight"] or cluster["name"] != f"grpc_{CANARY}"]
    split = {"clusters": known, "use_hash_policy": True}
    match = {"prefix": "/", **({"headers": headers} if headers else {})}
    return {"match": match, "route": {**action, "weighted_clusters": split, "hash_policy": [user]}}


def _chosen(settings: ProxySettings, label: str, action: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    asked = {"name": settings.label_header, "string_match": {"exact": label}}
    return {
        "match": {"prefix": "/", "headers": [asked]},
        "route": {**action, "cluster": f"{prefix}{label}"},
        **_labelled(settings, label),
    }


def _labelled(settings: ProxySettings, label: str) -> dict[str, Any]:
    """Tell the server and the client which label it is, whatever the client said."""
    header = {"header": {"key": settings.label_header, "value": label}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {"request_headers_to_add": [header], "response_headers_to_add": [header]}


def _cookie(settings: ProxySettings) -> dict[str, Any]:
    secure = "; Secure" if settings.tls is not None else ""
    value = (
        f"{settings.user_cookie}=%REQ({_REQUEST_ID})%; Max-Age={settings.cookie_days * 86400}; Path=/; HttpOnly; "
        f"SameSite=Lax{secure}"
    )
    return {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}


def _cookie_pattern(settings: ProxySettings) -> str:
    return f"(.*;)? *{re.escape(settings.user_cookie)}=[^; ].*"


def _action(settings: ProxySettings, retried: str) -> dict[str, Any]:
    limits = settings.limits
    retry = {
        "retry_on": retried,
        "retriable_status_codes": [503],
        "num_retries": limits.retries,
        "per_try_timeout": f"{limits.attempt_seconds:g}s",
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }
    return {"timeout": _limit(settings), **({"retry_policy": retry} if limits.retries else {})}


def _limit(settings: ProxySettings) -> str:
    return f"{settings.limits.timeout_seconds:g}s"


def _replace(path: Path, configuration: dict[str, Any]) -> bool:
    text = json.dumps({"resources": [configuration]}, indent=1) + "\n"
    if path.is_file() and path.read_text("utf-8") == text:
        return False
    # Envoy watches the directory for files that are moved into place.
    write_durably(path, text)
    return True
