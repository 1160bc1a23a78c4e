"""From the name in the config to a source.

Each file of this folder registers a function under the name by which a config calls it; `build_source` is
what the pipeline calls.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable

from transform.errors import DataError
from transform.settings import DataSettings
from transform.sources.base import Source

Factory = Callable[[DataSettings], Source]
_factories: dict[str, Factory] = {}

LAYOUT = """\
    FOLDER/                    or, already split:   FOLDER/
    ├── cats/                                       ├── train/
    │   ├── 1.jpg                                   │   ├── cats/ …
    │   └── more/2.png                              │   └── dogs/ …
    └── dogs/                                       ├── val/  …   (may be missing)
        └── 3.jpg                                   └── test/ …   (may be missing)
One folder per class, whose name is the label; images at any depth below it."""


def register(name: str) -> Callable[[Factory], Factory]:
    """Return a decorator that makes a function `(DataSettings) -> Source` available under a name."""

    def keep(factory: Factory) -> Factory:
        _factories[name] = factory
        return factory

    return keep


def source_names() -> tuple[str, ...]:
    """Return the names of the built-in sources."""
    return tuple(sorted(_factories))


def build_source(settings: DataSettings) -> Source:
    """Return the source that a config asks for.

    A built-in name wins over a folder of the same name; write `./digits` for the folder.

    Raises:
        DataError: if the name is neither built in nor a folder, or its files are not there.
    """
    if "{SPAN" in settings.source:
        from transform.sources.spans import span_source  # which needs this module's LAYOUT by way of the folder source

        return span_source(settings)
    if settings.source in _factories:
        return _factories[settings.source](settings)
    if os.path.isdir(settings.source):
        return _factories["folder"](settings.model_copy(update={"path": settings.source}))
    raise DataError(_unknown(settings.source))


def _unknown(source: str) -> str:
    looks_like_path = os.sep in source or source.startswith((".", "~"))
    if os.path.isfile(source):
        what = f"data.source is {source!r}, a file; expected a folder or a built-in name."
    else:
        what = f"data.source is {source!r}; that is neither a built-in name nor a folder that exists"
        what += f" (looked for {os.path.abspath(source)!r})."
    near = difflib.get_close_matches(source.lower().replace("-", "_"), source_names(), n=1, cutoff=0.5)
    if near and not looks_like_path:
        what += f" Did you mean {near[0]!r}?"
    elif source.startswith("~"):
        what += " '~' is not expanded here; write the path in full."
    elif near_folder := _near_folder(source):
        what += f" Did you mean {near_folder!r}?"
    return f"{what}\nBuilt-in names: {', '.join(source_names())}. A folder should look like this:\n{LAYOUT}"


def _near_folder(source: str) -> str | None:
    parent, name = os.path.split(os.path.normpath(source))
    try:
        folders = [entry.name for entry in os.scandir(parent or ".") if entry.is_dir()]
    except OSError:
        return None
    near = difflib.get_close_matches(name, folders, n=1)
    return os.path.join(parent, near[0]) if near else None
