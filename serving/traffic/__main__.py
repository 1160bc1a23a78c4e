"""`python -m serving.traffic`: `watch` runs the controller until it is told to stop, `pin` prepares a state directory.

Comes in: the settings file; for `pin`, where the versions are. Goes out: the rollout, carried on, with log lines on
stderr; the path of the model config file. Called by a service manager; `watch` ends on SIGTERM and SIGINT with exit
code 0.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence

from serving.errors import ServingError
from serving.traffic.rollout import ensure


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.traffic", description="Carries canary rollouts on.")
    commands = parser.add_subparsers(dest="command", required=True)
    watching = commands.add_parser("watch", help="advance, promote and roll back automatically")
    watching.add_argument("--config", required=True, help="settings file (YAML)")
    pinning = commands.add_parser("pin", help="make the newest intact version stable, unless there is a state already")
    pinning.add_argument("--base-path", required=True, help="folder of the published versions")
    pinning.add_argument("--model", required=True, help="name of the model")
    pinning.add_argument("--state-dir", required=True, help="where the state lives; made if missing")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        if arguments.command == "pin":
            print(ensure(arguments.base_path, arguments.model, arguments.state_dir))
        else:
            _watch(arguments.config)
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _watch(config: str) -> None:
    from serving.traffic.controller import watch
    from serving.traffic.settings import load_settings

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch(load_settings(config), stop)


if __name__ == "__main__":
    sys.exit(main())
