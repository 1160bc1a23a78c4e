"""What a run runs with, in words: the commit, versions of libraries, the machine.

Comes in: nothing. Goes out: a mapping for the run's record and the report. Called when a run begins.
"""

from __future__ import annotations

import os
import platform
import sys

from pipeline.fingerprint import git_commit
from pipeline.stage_keys import library_versions


def environment() -> dict[str, str]:
    """Return name to value, in the order in which a person reads them. No host name, no user name."""
    return {
        "commit": git_commit(),
        "Python": platform.python_version(),
        **library_versions(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
    }
