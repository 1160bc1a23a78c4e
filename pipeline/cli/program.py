"""How to call this program again from where the user stands."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def program() -> str:
    """Return `slipway` where the shell finds it under that name, else the path by which it was called."""
    called = Path(sys.argv[0])
    if called.name != "slipway" or shutil.which("slipway"):
        return "slipway"
    near = os.path.relpath(called)
    return near if not near.startswith("..") else str(called.absolute())
