"""Makes sure of a C++ compiler: one package of the lock (pyfarmhash, which TFDV imports) is source only.

In comes the environment; out go CC and CXX for the installation. Where the machine has no compiler, the one
that the package index offers as a package (zig) is fetched into the clone's tools, hash-checked like
everything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from environment.commands import Runner
from environment.failures import SetupError, sentence_for

PINNED_COMPILER = Path(__file__).with_name("compiler.txt")
C_COMPILERS = ("gcc", "cc", "clang")
CXX_COMPILERS = ("g++", "c++", "clang++")

# libc++ is header-only for what is compiled here. Not linking it spares compiling all of it first (6
# minutes).
WRAPPER = """#!/bin/sh
case " $* " in
  *" -shared "*) exec "{zig}" {language} {when_linking} "$@" ;;
  *) exec "{zig}" {language} "$@" ;;
esac
"""


def compiler_variables(env: Mapping[str, str]) -> dict[str, str] | None:
    """CC and CXX of this machine, `None` where a C++ compiler is missing; what the user has set stays."""
    variables = {}
    for name, programs in (("CC", C_COMPILERS), ("CXX", CXX_COMPILERS)):
        if env.get(name):
            continue
        found = [program for program in programs if shutil.which(program, path=env.get("PATH"))]
        if not found:
            return None
        variables[name] = found[0]
    return variables


def fetch_compiler(uv: str, python: str, tools: Path, runner: Runner) -> dict[str, str]:
    """Install zig into `tools` and return CC and CXX that call it.

    Raises:
        SetupError: if it cannot be installed.
    """
    runner.say("      no C++ compiler here; fetching one (100 MB)")
    folder = tools / "compiler"
    zig = folder / "ziglang" / "zig"
    if not zig.exists():
        command = [uv, "pip", "install", "--require-hashes", "--only-binary", ":all:", "--no-deps"]
        outcome = runner.run([*command, "--python", python, "--target", str(folder), "-r", str(PINNED_COMPILER)])
        if outcome.code != 0:
            raise SetupError(sentence_for(outcome.output, "fetching a C++ compiler"))
    return {
        "CC": _wrapper(folder / "slipway-cc", zig, "cc", ""),
        "CXX": _wrapper(folder / "slipway-c++", zig, "c++", "-nostdlib++"),
    }


def _wrapper(path: Path, zig: Path, language: str, when_linking: str) -> str:
    path.write_text(WRAPPER.format(zig=zig, language=language, when_linking=when_linking), encoding="utf-8")
    os.chmod(str(path), 0o755)
    return str(path)
