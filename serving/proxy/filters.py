"""The HTTP filters of the proxy, in the order in which a request meets them.

Comes in: settings. Goes out: Envoy's filter chain as plain values. Called by `serving.proxy.envoy`.
"""

from __future__ import annotations

from typing import Any

from serving.proxy.routes import HEALTH_PATH
from serving.proxy.settings import ProxySettings

_TYPES = "type.googleapis.com/envoy.extensions."


def http_filters(settings: ProxySettings) -> list[dict[str, Any]]:
    """All filters: cheap refusals first, the router last."""
    return [
        _rate_limit(settings),
        *([_tokens(settings)] if settings.jwt is not None else []),
        *([_compression()] if settings.compress else []),
        _body_limit(settings),
        _filter("envoy.filters.http.router", "filters.http.router.v3.Router", {}),
    ]


def _filter(name: str, kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}{kind}", **values}}


def _rate_limit(settings: ProxySettings) -> dict[str, Any]:
    limits = settings.limits
    # Tokens come in ten portions a second, so that a full second's worth does not arrive at once.
    portion, interval = max(limits.requests_per_second // 10, 1), "0.1s"
    if limits.requests_per_second < 10:
        interval = f"{1 / limits.requests_per_second:.6f}s"
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return _filter(
        "envoy.filters.http.local_ratelimit",
        "filters.http.local_ratelimit.v3.LocalRateLimit",
        {
            "stat_prefix": "rate",
            "token_bucket": {"max_tokens": limits.burst, "tokens_per_fill": portion, "fill_interval": interval},
            "filter_enabled": always,
            "filter_enforced": always,
            "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
        },
    )


def _tokens(settings: ProxySettings) -> dict[str, Any]:
    assert settings.jwt is not None, "the caller looked"
    provider: dict[str, Any] = {
        "issuer": settings.jwt.issuer,
        "local_jwks": {"filename": str(settings.jwt.jwks)},
        "forward": True,
        "claim_to_headers": [{"header_name": settings.user_header, "claim_name": "sub"}],
    }
    if settings.jwt.audiences:
        provider["audiences"] = list(settings.jwt.audiences)
    rules = [
        {"match": {"path": HEALTH_PATH}},
        {"match": {"prefix": "/"}, "requires": {"provider_name": "main"}},
    ]
    return _filter(
        "envoy.filters.http.jwt_authn",
        "filters.http.jwt_authn.v3.JwtAuthentication",
        {"providers": {"main": provider}, "rules": rules},
    )


def _compression() -> dict[str, Any]:
    gzip = {"name": "gzip", "typed_config": {"@type": f"{_TYPES}compression.gzip.compressor.v3.Gzip"}}
    answers = {"common_config": {"min_content_length": 1024, "content_type": ["application/json", "text/html"]}}
    return _filter(
        "envoy.filters.http.compressor",
        "filters.http.compressor.v3.Compressor",
        {"response_direction_config": answers, "compressor_library": gzip},
    )


def _body_limit(settings: ProxySettings) -> dict[str, Any]:
    return _filter(
        "envoy.filters.http.buffer",
        "filters.http.buffer.v3.Buffer",
        {"max_request_bytes": settings.limits.request_bytes},
    )
