"""A writer of config files for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

MINIMAL = "name: demo\ndata: {source: digits}\ntransform: {size: [8, 8]}\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a text to `my.yaml` and returns its path."""

    def write_text(text: str) -> Path:
        file = tmp_path / "my.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write_text


@pytest.fixture
def minimal(write: Callable[[str], Path]) -> Path:
    """Return a config file that holds only what has no default."""
    return write(MINIMAL)
