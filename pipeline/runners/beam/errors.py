"""What can go wrong with workers, in words; the command line prints the sentence."""

from __future__ import annotations


class WorkerError(RuntimeError):
    """A worker died, can't be reached or runs other code.

    Nothing of the stage counts then: the next run does it again, and finds everything before it in the cache.
    """

    exit_code: int = 1
