"""Importing TFX's launcher without all of TFX's components.

Comes in: nothing. Goes out: a `tfx.components` that is loaded when somebody asks for one of its names. The launcher
needs a module of that package, and the package itself imports every component with TFMA, TFDV and scikit-learn: a third
of what a node's process costs before it begins. Called first thing by `run-node`.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

_PACKAGE = "tfx.components"


def load_components_lazily() -> None:
    """Put a package in the place of `tfx.components` whose own code runs only when one of its names is asked for.

    Its submodules can be imported as ever. Does nothing where the package is loaded already.
    """
    if _PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return
    loader, package = spec.loader, importlib.util.module_from_spec(spec)

    def load(name: str) -> Any:
        if name.startswith("__"):  # asked for by the import system
            raise AttributeError(name)
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = load
    sys.modules[_PACKAGE] = package
    sys.modules["tfx"].__dict__["components"] = package
