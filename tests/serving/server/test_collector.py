"""The garbage collector overlooks imports and still finds what unloaded models leave."""

from __future__ import annotations

import subprocess
import sys
import weakref

from serving.server.collector import collect_unloaded

_SCRIPT = """
import gc
from serving.server.collector import freeze_imports
import json, email
before = gc.get_freeze_count()
freeze_imports()
frozen = gc.get_freeze_count()
later = [[] for _ in range(1000)]
freeze_imports()
assert before == 0 and frozen > 1000 and gc.get_freeze_count() <= frozen, (before, frozen)
assert gc.get_threshold() == (100_000, 50, 1000)
assert any(item is later for item in gc.get_objects())
"""


def test_imports_are_frozen_once_and_models_are_not() -> None:
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, timeout=120)


def test_cycles_of_a_dropped_model_are_freed() -> None:
    class Graph:
        pass

    graph = Graph()
    graph.operations = [graph]  # type: ignore[attr-defined]
    kept = weakref.ref(graph)
    del graph
    collect_unloaded()
    assert kept() is None


_ALLOCATING = """
from serving.server.collector import collect_unloaded

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

# Large enough for the C library, small enough to be no mapping of its own; what stays lies between what goes.
blocks = [b"x" * 100_000 + b"%d" % number for number in range(2_000)]
kept = blocks[::20]
full = resident_mb()
del blocks
freed = resident_mb()
collect_unloaded()
print(full - freed, full - resident_mb())
"""


def test_memory_of_a_dropped_model_goes_back_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", _ALLOCATING], check=True, timeout=120, capture_output=True, text=True)
    by_itself, afterwards = map(float, run.stdout.split())
    assert by_itself < 50 and afterwards > 100
