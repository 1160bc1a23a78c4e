"""`python -m serving.gateway [--config FILE]` and `python -m serving.gateway keys add|list|revoke`.

Prints the address it listens on. SIGTERM and SIGINT finish what was accepted. Wrong settings, and a port that is
taken, end with exit code 2.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from serving.errors import ServingError
from serving.gateway import config_file, secret_files
from serving.gateway.errors import GatewayError
from serving.gateway.keys import Key, KeyStore
from serving.gateway.settings import GatewaySettings, Listen, Role

_log = logging.getLogger("slipway.serving")

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What the system says of an address that no interface of this machine has."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        Exit code: 0, or 2 for what the user can mend.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = config_file.load(options.config)
        if options.command == "keys":
            return _keys(settings, options)
        return serve(settings)
    except ServingError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def serve(settings: GatewaySettings) -> int:
    """Serve until a signal ends it.

    Returns:
        Exit code: 0, or 1 if it could not start.

    Raises:
        GatewayError: the settings name files that cannot be used, a port that is taken or a host that is not here.
    """
    import uvicorn

    from serving.gateway.app import build_app

    listen = settings.listen
    if not listen.is_loopback and settings.access.anonymous:
        _log.warning(
            "%s is open to the network and access.anonymous lets everybody in; set it to [] to demand keys", listen.host
        )
    config = uvicorn.Config(
        build_app(settings),
        loop="uvloop",
        http="httptools",
        proxy_headers=bool(listen.trusted_proxies),
        forwarded_allow_ips=list(listen.trusted_proxies),
        timeout_graceful_shutdown=listen.shutdown_seconds,
        timeout_keep_alive=30,
        access_log=False,
        server_header=False,
        log_config=None,
    )
    sockets = _listening(listen)
    # uvicorn raises the signal again when everything accepted is finished; being asked to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                where = _joined(listen.host, port)
                print(f"http://{where} is ready: web page and API (/openapi.json); Ctrl-C ends it", flush=True)

    server = Announcing(config)
    port = sockets[0].getsockname()[1]
    try:
        server.run(sockets=sockets)
    except SystemExit as ended:
        # uvicorn's own code for a failed start is 3, which would read as the refusal of a gate.
        return 1 if ended.code else 0
    return 0 if server.started else 1


def _listening(listen: Listen) -> list[socket.socket]:
    """Listen at every address of the host, as uvicorn would, which cannot say how to mend what goes wrong.

    Raises:
        GatewayError: the port is taken, or the host is not this machine.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in _addresses(listen):
            try:
                sockets.append(socket.create_server(address, family=family))
            except OSError as error:
                # `localhost` may name an address of IPv6 on a machine that has none.
                if error.errno not in _NOT_HERE:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except OSError as error:
        for each in sockets:
            each.close()
        raise _cannot_listen(listen, error) from error
    return sockets


def _addresses(listen: Listen) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "this is no name of a host") from error
    return [(family, address) for family, _, _, _, address in found]


def _cannot_listen(listen: Listen, error: OSError) -> GatewayError:
    unknown = isinstance(error, socket.gaierror)
    # Python adds the address to the system's own words.
    reason = error.strerror if unknown else os.strerror(error.errno or 0)
    what = f"cannot listen on {_joined(listen.host, listen.port)}: {reason}"
    if unknown or error.errno in _NOT_HERE:
        return GatewayError(
            f"--host={listen.host}: {what}. Give an address of this machine, such as 127.0.0.1 "
            "(`listen.host` in the settings)."
        )
    return GatewayError(
        f"--port={listen.port}: {what}. Choose another port or --host (`listen` in the settings), or stop the "
        "process that holds it."
    )


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _stopped(*_: object) -> None:
    raise SystemExit(0)


def _keys(settings: GatewaySettings, options: argparse.Namespace) -> int:
    store = KeyStore(settings.keys_file, secret_files.load_or_make(settings.pepper_file))
    if options.action == "add":
        key, secret = store.add(options.name, options.role or ["predict"], options.days)
        print(f"key {key.id} for {key.name!r}; this is shown only once:", file=sys.stderr)
        print(secret)
    elif options.action == "revoke":
        print(f"key {store.revoke(options.id).id} opens nothing any more")
    else:
        for key in store.list():
            print(_line(key))
    return 0


def _line(key: Key) -> str:
    state = "valid" if key.is_valid(time.time()) else "revoked" if key.revoked else "expired"
    created = time.strftime("%Y-%m-%d", time.gmtime(key.created))
    expires = "" if key.expires is None else f" until {time.strftime('%Y-%m-%d', time.gmtime(key.expires))}"
    return f"{key.id}  {state:8} {','.join(key.roles):14} {created}{expires}  {key.name}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.gateway", description="The gateway to a model server.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML; without it the defaults count")
    commands = parser.add_subparsers(dest="command", title="commands", description="without one the gateway runs")
    keys = commands.add_parser("keys", help="API keys").add_subparsers(dest="action", required=True)
    add = keys.add_parser("add", help="make a key and print it, once")
    add.add_argument("name", help="who it is for")
    add.add_argument("--role", action="append", choices=get_args(Role), help="may be repeated; default predict")
    add.add_argument("--days", type=float, help="until it expires; default never")
    keys.add_parser("list", help="all keys, without their secrets")
    keys.add_parser("revoke", help="let a key open nothing any more").add_argument("id", help="12 hexadecimal digits")
    return parser


if __name__ == "__main__":
    sys.exit(main())
