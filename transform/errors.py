"""The error of this room: data, or settings about data, that the user has to change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """Data that cannot be used as it stands; the message says what to do about it."""

    exit_code: int = 2


def unknown_name(what: str, name: str, valid: Iterable[str]) -> DataError:
    """Return the error for a name that stands in no registry.

    Args:
        what: the kind of thing, for example `"source"`.
        name: what was asked for.
        valid: the names that exist.

    Returns:
        An error that lists the valid names and the nearest one.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return DataError(f"There is no {what} {name!r}.{hint} Valid names: {', '.join(names)}.")
