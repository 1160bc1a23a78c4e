"""Resolves pyproject.toml with all extras into `requirements.lock`, with every SHA-256 (`make lock`).

Versions that are in the lock stay as they are where they still fit; arguments go to `uv pip compile`, so that
`--upgrade` or `--upgrade-package NAME` moves them. The lock names no index: whichever serves the file, its
hash decides.
"""

from __future__ import annotations

import sys
from pathlib import Path

from environment import index, installer
from environment.commands import Runner, inherited_environment, to_stderr
from environment.failures import SetupError, sentence_for

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Write the lock; returns the exit code."""
    tools = ROOT / ".tools"
    env = inherited_environment()
    env.update(index.variables_for_uv(env))
    for additional in ("UV_INDEX", "UV_INDEX_STRATEGY", "UV_FIND_LINKS"):
        env.pop(additional, None)  # an additional index may hold some files of a version and hide the others
    runner = Runner(tools / "lock.log", env)
    try:
        uv = installer.obtain_uv(tools, [sys.executable, "python3"], env, runner)
        command = [uv, "pip", "compile", "--all-extras", "--generate-hashes", "--no-emit-index-url"]
        command += ["--python", sys.executable, "--custom-compile-command", "make lock", "--quiet"]
        outcome = runner.run(
            [*command, *arguments, "-o", str(ROOT / "requirements.lock"), str(ROOT / "pyproject.toml")]
        )
        if outcome.code != 0:
            raise SetupError(sentence_for(outcome.output, "resolving the requirements"))
    except SetupError as error:
        to_stderr(f"error: {error} (details: .tools/lock.log)")
        return SetupError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
