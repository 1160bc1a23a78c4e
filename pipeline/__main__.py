"""`slipway` and `python -m pipeline`: the entry point, which sets up the process and turns errors into exit codes.

Exit codes: 0 done, 1 a bug (with a stack trace), 2 something the user has to change, 3 a gate refused, 130 interrupted.
"""

from __future__ import annotations

import os
import sys


def set_up_process() -> None:
    """Set what libraries read from the environment; before any of them is imported."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TF-MOT and tf.Transform's layer need Keras 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # for worker processes; our own below
    # jsonschema, which TFX's dependencies import, compiles a grammar of web addresses by it, 4 CPU seconds in every
    # process, for a check that nobody here asks for; without the package it leaves that check out.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    set_up_process()
    from pipeline.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
