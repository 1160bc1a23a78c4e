"""`python -m serving.proxy`: write, check or run the proxy's configuration.

Comes in: the settings file. Goes out: `DIRECTORY/envoy.yaml` and the routes; with `run`, Envoy in the place of this
process. Called by people and service managers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from serving.errors import ServingError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.proxy", description="Envoy in front of the servers.")
    parser.add_argument("action", choices=("write", "validate", "run"), help="what to do; each includes the one before")
    parser.add_argument("--config", required=True, help="settings file (YAML)")
    parser.add_argument("--directory", default=".", help="where envoy.yaml goes")
    arguments = parser.parse_args(argv)

    from serving.proxy import envoy
    from serving.proxy.settings import load_settings

    try:
        path = envoy.write(load_settings(arguments.config), arguments.directory)
        print(path)
        if arguments.action in ("validate", "run"):
            envoy.validate(path)
        if arguments.action == "run":
            binary = str(envoy.executable())
            sys.stdout.flush()
            os.execv(binary, [binary, "-c", str(path)])
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
