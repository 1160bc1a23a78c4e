"""The garbage collector kept away from requests.

Comes in: the moments at which a server has imported its libraries and at which a model was dropped. Goes out: nothing.
Called by `serving.server.loading` and by the version manager.

TensorFlow and the libraries around it leave more than 80,000 live objects, and every full collection walks all of them
with the interpreter lock held: hundreds of milliseconds in which nobody is answered. They never become garbage, so they
are taken out of the collector's sight once. A loaded model adds fewer than 1,000 objects; these stay in sight, so that
what an unloaded model leaves behind is found.
"""

from __future__ import annotations

import ctypes
import gc
import threading

# Objects that requests allocate and free leave the counters where they were; what is left over is small.
_THRESHOLDS = (100_000, 50, 1000)
_lock = threading.Lock()
_frozen = False


def freeze_imports() -> None:
    """Hide everything that is alive now from the collector; only the first call of a process does it.

    Call it when the libraries are imported and before the first model is loaded.
    """
    global _frozen
    with _lock:
        if _frozen:
            return
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
        _frozen = True


def collect_unloaded() -> None:
    """Free what a model that was closed left behind in reference cycles, such as its graph.

    What is free then goes back to the operating system: glibc keeps memory for each thread, and threads that load, try
    out and close models come and go, so that with every new version a little more of it would lie idle.
    """
    gc.collect()
    # Other C libraries have no such function, or need none.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
