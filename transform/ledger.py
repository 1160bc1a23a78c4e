"""The split ledger: which example was ever dealt to which split.

Kept beside the pipeline's work directory and passed in and out as data. As long as it is there, more data
never moves an example from one split to another.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transform.digests import group_equal
from transform.errors import DataError
from transform.settings import SplitSettings


@dataclass(frozen=True)
class Ledger:
    """Digests and the splits they were dealt to.

    Attributes:
        settings: the split settings under which they were dealt; others deal anew.
        digests: uint8 [M, 16], sorted, without repetition.
        splits: int8 [M], index into `features.SPLITS`.
    """

    settings: str
    digests: np.ndarray
    splits: np.ndarray

    @classmethod
    def empty(cls, settings: SplitSettings) -> Ledger:
        """Return a ledger in which nothing was dealt yet."""
        return cls(settings.model_dump_json(), np.zeros((0, 16), np.uint8), np.zeros(0, np.int8))

    def __len__(self) -> int:
        return len(self.splits)

    def fits(self, settings: SplitSettings) -> bool:
        """Return whether the ledger was kept under these settings."""
        return self.settings == settings.model_dump_json()

    def lookup(self, digests: np.ndarray) -> np.ndarray:
        """Return the split of each digest, int8 [N]; -1 where it was never dealt."""
        out = np.full(len(digests), -1, np.int8)
        if not len(self) or not len(digests):
            return out
        groups = group_equal(np.concatenate([self.digests, digests]))
        table = np.full(len(groups.starts), -1, np.int8)
        table[groups.member_of[: len(self)]] = self.splits
        return table[groups.member_of[len(self) :]]

    def updated(self, digests: np.ndarray, splits: np.ndarray) -> Ledger:
        """Return a ledger with further entries; where a digest stands in both, the new split counts.

        Args:
            digests: uint8 [N, 16].
            splits: int8 [N]; -1 is not entered.
        """
        dealt = splits >= 0
        every = np.concatenate([digests[dealt], self.digests])
        found = np.concatenate([splits[dealt], self.splits]).astype(np.int8)
        first = group_equal(every).first
        return Ledger(self.settings, every[first], found[first])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ledger, atomically: a reader sees the old one or the new one."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, settings=np.array(self.settings), digests=self.digests, splits=self.splits)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str], settings: SplitSettings) -> Ledger:
        """Read a ledger; where there is none, return an empty one.

        Raises:
            DataError: if the file is damaged. It is not replaced silently, since that would deal anew.
        """
        if not os.path.exists(path):
            return cls.empty(settings)
        try:
            with np.load(path, allow_pickle=False) as stored:
                ledger = cls(str(stored["settings"]), stored["digests"], stored["splits"])
            if ledger.digests.shape != (len(ledger.splits), 16) or ledger.digests.dtype != np.uint8:
                raise ValueError(f"digests of the shape {ledger.digests.shape}")
            if len(ledger) and not (ledger.splits.min() >= 0 and ledger.splits.max() <= 2):
                raise ValueError("a split that does not exist")
            return ledger
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"The split ledger {str(path)!r} is damaged ({error}). Restore it from a copy; or delete "
                "it, and examples are dealt to the splits anew, which spoils comparisons with models "
                "trained before."
            ) from error
