from __future__ import annotations

from transform.errors import DataError, unknown_name


def test_unknown_name_lists_the_valid_ones_and_the_nearest() -> None:
    error = unknown_name("augmentation", "cutuot", ["flip", "cutout"])
    assert isinstance(error, DataError)
    assert error.exit_code == 2
    assert "'cutuot'" in str(error)
    assert "Did you mean 'cutout'?" in str(error)
    assert "cutout, flip" in str(error)
