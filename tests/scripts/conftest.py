"""A machine made of shell scripts: fake interpreters, a fake uv and a clone for the set-up to work on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from environment.commands import Runner

FACTS = '{"path": "%s", "implementation": "%s", "version": [%s], "bits": 64, "missing": [%s], "headers": %s}'

# `uv venv` and `uv pip` leave what the real ones do as far as the set-up looks at it. FAKE_UV_FAILS names the
# subcommand that fails, with the words of FAKE_UV_SAYS.
FAKE_UV = """#!/bin/sh
echo "$@" >> "$FAKE_UV_CALLS"
case "$*" in
  --version) echo "uv 0.13.9"; exit 0 ;;
  "$FAKE_UV_FAILS"*) [ -z "$FAKE_UV_FAILS" ] || { echo "$FAKE_UV_SAYS"; exit 1; } ;;
esac
case "$1" in
  venv) for last in "$@"; do :; done; mkdir -p "$last/bin"; ln -s "$FAKE_PYTHON" "$last/bin/python" ;;
esac
"""


class FakeMachine:
    """PATH, HOME and a clone below one folder; of the real machine only `sh`, `mkdir` and `ln` are seen."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "path"
        self.home = folder / "home"
        self.clone = folder / "clone"
        self.calls = folder / "calls"
        for place in (self.path, self.home, self.clone):
            place.mkdir()
        for name in ("requirements.lock", "pyproject.toml", "setup.py"):
            (self.clone / name).write_text(f"{name}==1\n", encoding="utf-8")
        self.calls.write_text("", encoding="utf-8")
        self.env = {
            "PATH": str(self.path),
            "HOME": str(self.home),
            "FAKE_UV_CALLS": str(self.calls),
            "FAKE_UV_FAILS": "",
            "FAKE_UV_SAYS": "",
        }
        for tool in ("sh", "mkdir", "ln"):
            source = next(
                os.path.join(place, tool) for place in ("/bin", "/usr/bin") if os.path.exists(f"{place}/{tool}")
            )
            (self.path / tool).symlink_to(source)

    def program(self, path: Path, text: str) -> Path:
        """Write an executable script."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.startswith("#!") else "#!/bin/sh\n" + text + "\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def python(
        self,
        path: Path,
        version: str = "3, 10, 13",
        implementation: str = "CPython",
        missing: str = "",
        headers: str = "true",
    ) -> Path:
        """Write an interpreter that answers the probe with these facts and knows no module."""
        facts = FACTS % (path, implementation, version, missing, headers)
        return self.program(path, f"case \"$1\" in -I) echo '{facts}' ;; *) exit 1 ;; esac")

    def uv(self) -> Path:
        """Put a uv on PATH."""
        self.env["FAKE_PYTHON"] = sys.executable
        return self.program(self.path / "uv", FAKE_UV)

    def uv_calls(self) -> list[str]:
        """The command lines that uv has seen, without its version being asked."""
        return [line for line in self.calls.read_text(encoding="utf-8").splitlines() if line != "--version"]

    def runner(self) -> Runner:
        """A runner that writes into the clone and tells nobody."""
        return Runner(self.clone / ".tools/log", self.env, say=lambda line: None)


@pytest.fixture
def fake(tmp_path: Path) -> FakeMachine:
    """A machine with nothing on it."""
    return FakeMachine(tmp_path)
