"""Import of the few TensorFlow modules that load and run a graph, without the rest of TensorFlow.

`import tensorflow` costs about 5 CPU seconds, nearly all of it for Keras, tf.data and the distribution
strategies. A Session needs the C++ library and a handful of Python modules: 0.9 CPU seconds. Called at the
start of short-lived processes of our own (`serving.infra_probe`), never inside a process that may want the
whole of TensorFlow later.
"""

from __future__ import annotations

import importlib.util
import sys
import types


def install() -> bool:
    """Let `tensorflow.*` submodules be imported without running TensorFlow's own `__init__`.

    Puts an empty package named `tensorflow`, which points at the installed files, into `sys.modules`. Names
    of the public API (`tensorflow.function`, ...) do not exist afterwards in this process.

    Returns:
        True if the stand-in is in place; False if TensorFlow is already imported or is not installed, in
        which case nothing was changed.
    """
    if "tensorflow" in sys.modules:
        return False
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.submodule_search_locations is None:
        return False
    package = types.ModuleType("tensorflow", "Stand-in that gives access to submodules only.")
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    package.__file__ = spec.origin
    sys.modules["tensorflow"] = package
    return True
