"""The composition root: from a command line to a running model server, and down again.

Comes in: the flags of `tensorflow_model_server` and ours. Goes out: an exit code. Called by `python -m serving.server`
and `slipway serve`.

    flags -> settings -> manager -> batcher -> data plane -> REST, gRPC

Like the real server it listens only when every model has a version available, and ends with exit code 255 if one has
none that loads. Mistakes of the user end with 2. SIGTERM and SIGINT stop it: no new connections, every request that was
accepted is answered, models are closed, exit code 0. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.server.config.flags import ParsedFlags, parse, usage
from serving.server.config.settings import ServerSettings, settings_from_flags
from serving.server.status import Code, StatusError

EXIT_NOT_AVAILABLE = 255
"""Exit code of the real server when a model does not become available."""
CONTRACT = "2.16.1"
"""Release of TensorFlow Serving whose contract is honored."""
_FULL_TENSORFLOW = "SLIPWAY_FULL_TENSORFLOW"
_OWN_THREADS = "TF_OVERRIDE_GLOBAL_THREADPOOL"
_FEW_MODELS = 8
_log = logging.getLogger("slipway.serving")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped.

    Args:
        arguments: Flags; by default those of the process.

    Returns:
        0 after a stop by signal, 2 for a mistake in flags or files, 255 if a model did not become available.
    """
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def _main(arguments: list[str]) -> int:
    if "--help" in arguments:
        print(usage(), end="")
        return 0
    flags = parse(arguments)
    if flags.boolean("version"):
        print(_versions())
        return 0
    if flags.text("engine") == "tfserving":
        from serving.server import tfserving

        return tfserving.run(flags)
    set_up_logging()
    _use_lean_tensorflow(arguments)
    if flags.text("rollout") == "manual":
        flags = with_rollout(flags)
    settings = settings_from_flags(flags)
    for flag in flags.without_effect():
        _log.info("--%s changes nothing here: %s", flag.name, flag.reason)
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    return asyncio.run(serve(settings))


def _versions() -> str:
    from importlib import metadata

    from serving.publish import installed_version

    return (
        f"TensorFlow ModelServer: {CONTRACT} (contract honored by slipway {installed_version()})\n"
        f"TensorFlow Library: {metadata.version('tensorflow')}"
    )


def set_up_logging() -> None:
    """Show the lines of the server on standard error, unless somebody has arranged otherwise."""
    if not _log.handlers and not logging.getLogger().handlers:
        logging.basicConfig(
            level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s", force=False
        )


def _use_lean_tensorflow(arguments: list[str]) -> None:
    """Import the few modules of TensorFlow that serving needs; begin again with all of it where that fails."""
    # What matters is raised as an exception; at its start TensorFlow logs errors that are none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ.get(_FULL_TENSORFLOW) == "1":
        return
    from serving import lean_tensorflow

    if not lean_tensorflow.install():
        return
    try:
        import tensorflow.python.client.session
        import tensorflow.python.framework.importer  # noqa: F401
        import tensorflow_serving.apis.prediction_log_pb2  # noqa: F401
    except (ImportError, AttributeError) as error:
        _log.warning("starting again with the whole of TensorFlow, for a part does not load alone: %s", error)
        os.environ[_FULL_TENSORFLOW] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "serving.server", *arguments])


def with_rollout(flags: ParsedFlags) -> ParsedFlags:
    """Replace the model of the flags by a model config file that pins the version in service.

    Raises:
        ServingError: The flags name no base path, or there is no intact version below it.
    """
    from serving.traffic import rollout

    if flags.text("model_config_file") or not flags.text("model_base_path"):
        raise ServingError(
            "--rollout=manual keeps a model config file of its own; give --model_name and --model_base_path instead of "
            "--model_config_file."
        )
    base = Path(flags.text("model_base_path"))
    state_dir = Path(flags.text("state_dir") or base / ".slipway" / "traffic")
    file = rollout.ensure(base, flags.text("model_name"), state_dir)
    given = {name: value for name, value in flags.given.items() if name not in ("model_name", "model_base_path")}
    # The file comes before the first version is loaded, and its labels with it.
    given |= {"model_config_file": str(file), "allow_version_labels_for_unavailable_models": True, "rollout": "latest"}
    given.setdefault("model_config_file_poll_wait_seconds", 1)
    return ParsedFlags(given)


def with_own_threads(settings: ServerSettings) -> ServerSettings:
    """Give each Session threads of its own, and let small models be loaded a second time for one thread.

    Only for a few models, since otherwise the threads would be many, and not where their number was set; must come
    before the first Session.
    """
    if settings.load.intra_op_threads or settings.load.inter_op_threads:
        return settings
    if len(settings.models.model_config_list.config) > _FEW_MODELS or len(os.sched_getaffinity(0)) == 1:
        return settings
    if os.environ.setdefault(_OWN_THREADS, "1") != "1":
        return settings
    return dataclasses.replace(settings, load=dataclasses.replace(settings.load, pair=True))


async def serve(settings: ServerSettings) -> int:
    """Serve until a signal comes.

    Returns:
        The exit code.

    Raises:
        ServingError: The models are misconfigured, or an address cannot be listened on.
    """
    from serving.server.collector import collect_unloaded
    from serving.server.lifecycle.manager import ModelManager
    from serving.server.metrics import ServerMetrics

    _check_ports(settings)
    settings = with_own_threads(settings)
    stop = _stop_on_signals()
    metrics = ServerMetrics()
    manager = ModelManager(settings.lifecycle, functools.partial(_load, settings, metrics), collect_unloaded)
    try:
        names = manager.start(settings.models)
    except StatusError as error:
        raise ServingError(error.message) from error
    try:
        failure = await _wait_for_models(manager, names, stop)
        if failure:
            _log.error("Failed to start server. Error: UNKNOWN: %s", failure)
            return EXIT_NOT_AVAILABLE
        if not stop.is_set():
            await _serve_until(stop, settings, manager, metrics, names)
        return 0
    finally:
        if not await asyncio.get_running_loop().run_in_executor(None, manager.stop):
            _log.warning("some models were still in use when the time was up")


def _load(settings: ServerSettings, metrics: Any, name: str, version: int, path: Path) -> Any:
    """Load a version, and count how that went."""
    from serving.server.loading import load

    start = time.perf_counter()
    try:
        loaded = load(path, settings.load)
    except BaseException:
        metrics.load(str(path), False, (time.perf_counter() - start) * 1e6)
        raise
    metrics.load(str(path), True, loaded.load_seconds * 1e6)
    if loaded.warmup_seconds is not None:
        metrics.warmup(str(path), Code.OK, loaded.warmup_seconds * 1e6)
    return loaded.servable


async def _wait_for_models(manager: Any, names: set[str], stop: asyncio.Event) -> str:
    """Wait until all models are available or a signal comes; what failed, in words."""
    loop = asyncio.get_running_loop()
    waiting = loop.run_in_executor(None, manager.wait_until_available, names)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        await loop.run_in_executor(None, manager.stop, 1)
    stopping.cancel()
    return str(await waiting)


async def _serve_until(
    stop: asyncio.Event, settings: ServerSettings, manager: Any, metrics: Any, names: set[str]
) -> None:
    from serving.server import gauges
    from serving.server.batching import Batcher
    from serving.server.data_plane import DataPlane, PlaneOptions
    from serving.server.lifecycle.config_file import ConfigFilePoller

    batcher = Batcher(settings.batching, metrics)
    plane = DataPlane(batcher, metrics, PlaneOptions(check_method_names=settings.check_method_names))
    metrics.collect_from(gauges.version_gauges(manager))
    metrics.collect_from(gauges.queue_gauges(batcher))
    async with contextlib.AsyncExitStack() as parts:
        _keep_request_log(settings, plane, metrics, parts)
        parts.push_async_callback(batcher.drain)
        await _listen(settings, plane, manager, metrics, parts)
        if settings.model_config_file is not None and settings.config_poll_seconds > 0:
            poller = ConfigFilePoller(settings.model_config_file, settings.config_poll_seconds, manager.apply)
            poller.start()
            parts.callback(poller.stop)
        _greet(settings, manager, names)
        await stop.wait()
        _log.info("shutting down: finishing the requests that were accepted")
    _log.info("shut down")


def _keep_request_log(settings: ServerSettings, plane: Any, metrics: Any, parts: contextlib.AsyncExitStack) -> None:
    if settings.request_log is None:
        return
    from serving.server.request_log import RequestLog

    log = RequestLog(settings.request_log.directory, settings.request_log.sampling_rate, metrics=metrics)
    plane.observers.append(log)
    parts.callback(log.close)


async def _listen(
    settings: ServerSettings, plane: Any, manager: Any, metrics: Any, parts: contextlib.AsyncExitStack
) -> None:
    """Start both transports; they stop side by side when `parts` is left."""
    from serving.server.grpc_api.options import GrpcOptions
    from serving.server.grpc_api.server import start_grpc
    from serving.server.rest.app import rest_app
    from serving.server.rest.options import RestOptions
    from serving.server.rest.serving import start_rest

    servers: list[Any] = []

    async def stop_all() -> None:
        grace = max(settings.rest.timeout_ms / 1000, 1)
        await asyncio.gather(*(server.stop(grace) for server in servers))

    parts.push_async_callback(stop_all)
    grpc = settings.grpc
    addresses = [_joined(settings.host, grpc.port)] if grpc.port else []
    addresses += [f"unix:{grpc.socket_path}"] if grpc.socket_path else []
    options = GrpcOptions(
        addresses=tuple(addresses),
        tls=grpc.tls,
        health=grpc.health,
        tensor_content=grpc.tensor_content,
        channel_arguments=grpc.channel_arguments,
        max_threads=grpc.max_threads,
    )
    servers.append(await start_grpc(plane, manager, metrics, options))
    for address in addresses:
        _log.info("Running gRPC ModelServer at %s ...", address)
    rest = settings.rest
    if rest.port:
        limits = RestOptions(rest.timeout_ms, rest.cors, rest.max_body_bytes, rest.max_pixels, rest.metrics_path)
        servers.append(await start_rest(rest_app(plane, manager, metrics, limits), settings.host, rest.port))
        _log.info("Exporting HTTP/REST API at:%s ...", _joined(settings.host, rest.port))


def _greet(settings: ServerSettings, manager: Any, names: set[str]) -> None:
    from serving.server.greeting import curl_line, reachable

    if settings.rest.port:
        address = f"http://{reachable(settings.host)}:{settings.rest.port}"
        for name in sorted(names):
            _log.info("ask %s:  %s", name, curl_line(manager, name, address))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopped(number: int) -> None:
        if stop.is_set():
            _log.warning("ended by a second signal, without finishing requests")
            os._exit(128 + number)
        _log.info("received %s", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped, number)
    return stop


def _check_ports(settings: ServerSettings) -> None:
    """Find out before models are loaded that a port is taken."""
    for name, port in (("--port", settings.grpc.port), ("--rest_api_port", settings.rest.port)):
        if not port:
            continue
        try:
            family, _, _, _, address = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise ServingError(
                f"{name}={port}: cannot listen on {_joined(settings.host, port)}: {error.strerror}. Choose another "
                "port or --host, or stop the process that holds it."
            ) from error


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
