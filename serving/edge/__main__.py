"""`python -m serving.edge verify BUNDLE`: checks a mobile bundle on any machine.

Comes in: the folder. Goes out: a line for each finding, and an exit code: 0 it holds what it promises, 2 it is
no bundle, 3 it does not hold what it promises.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from serving.edge.answers import RUNTIMES
from serving.edge.verify import verify_bundle
from serving.errors import Refused, ServingError

_MARKS = {"passed": "ok     ", "skipped": "skipped", "failed": "FAILED "}


_SKIPPED = {0: "", 1: "; one check was skipped"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; by default those of the process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.edge", description="Mobile bundles.")
    verify = parser.add_subparsers(dest="command", required=True).add_parser(
        "verify", help="check whether a bundle holds what it promises"
    )
    verify.add_argument("bundle", help="folder of the bundle")
    verify.add_argument(
        "--runtime",
        choices=("auto", "none", *RUNTIMES),
        default="auto",
        help="what runs the models on the samples; auto takes the first that is installed",
    )
    verify.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="limit for running the models")
    verify.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(arguments)
    try:
        findings = verify_bundle(options.bundle, runtime=options.runtime, timeout_seconds=options.timeout)
    except ServingError as error:
        print(f"slipway: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(_MARKS[finding.status], finding)
    failed = sum(finding.status == "failed" for finding in findings)
    skipped = sum(finding.status == "skipped" for finding in findings)
    verdict = f"does not hold what it promises (problems: {failed})" if failed else "holds what it promises"
    print(f"{options.bundle} {verdict}{_SKIPPED.get(skipped, f'; {skipped} checks were skipped')}.", file=sys.stderr)
    return Refused.exit_code if failed else 0


if __name__ == "__main__":
    sys.exit(main())
