from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transform.errors import DataError
from transform.ledger import Ledger
from transform.settings import SplitSettings


def digests(*values: int) -> np.ndarray:
    out = np.zeros((len(values), 16), np.uint8)
    out[:, 7] = values
    return out


def test_what_was_dealt_is_found_and_nothing_else() -> None:
    ledger = Ledger.empty(SplitSettings()).updated(digests(3, 1, 2), np.array([0, 2, -1]))
    assert len(ledger) == 2
    assert ledger.lookup(digests(1, 2, 3, 4)).tolist() == [2, -1, 0, -1]


def test_an_update_replaces_and_keeps() -> None:
    ledger = Ledger.empty(SplitSettings()).updated(digests(1, 2), np.array([0, 1]))
    ledger = ledger.updated(digests(2, 3), np.array([2, 1]))
    assert ledger.lookup(digests(1, 2, 3)).tolist() == [0, 2, 1]


def test_a_saved_ledger_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "below" / "ledger.npz"
    Ledger.empty(SplitSettings()).updated(digests(1, 2), np.array([0, 1])).save(path)
    ledger = Ledger.load(path, SplitSettings())
    assert ledger.lookup(digests(1, 2)).tolist() == [0, 1]
    assert ledger.fits(SplitSettings())
    assert not ledger.fits(SplitSettings(seed=8))
    assert [file.name for file in path.parent.iterdir()] == ["ledger.npz"]


def test_no_file_is_an_empty_ledger(tmp_path: Path) -> None:
    assert len(Ledger.load(tmp_path / "none.npz", SplitSettings())) == 0


def test_a_failed_save_leaves_the_old_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.npz"
    ledger = Ledger.empty(SplitSettings()).updated(digests(1), np.array([1]))
    ledger.save(path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        ledger.updated(digests(2), np.array([0])).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"cut"])
def test_a_damaged_ledger_is_not_dealt_over(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "ledger.npz"
    Ledger.empty(SplitSettings()).updated(digests(1), np.array([1])).save(path)
    path.write_bytes(path.read_bytes()[:100] if damage == b"cut" else damage)
    with pytest.raises(DataError, match=r"is damaged .* Restore it"):
        Ledger.load(path, SplitSettings())


def test_a_ledger_that_holds_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.npz"
    np.savez(path, settings=np.array([object()]), digests=digests(1), splits=np.array([1], np.int8))
    with pytest.raises(DataError, match="damaged"):
        Ledger.load(path, SplitSettings())
