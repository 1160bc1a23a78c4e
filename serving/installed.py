"""Whether an optional package is there, without importing it.

Comes in: an importable name. Goes out: yes or no. Called by whatever has a part that may be missing.
"""

from __future__ import annotations

import importlib.util


def installed(package: str) -> bool:
    """Whether a package can be found.

    Args:
        package: its importable name, without dots.
    """
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        # An import hook that forbids the package, or a stand-in for it in sys.modules.
        return False
