"""Where examples come from: one source a file, by name.

`build_source(settings)` returns the source a config asks for; `register(name)` adds one.
"""

from __future__ import annotations

from transform.sources import cifar10, digits, fashion_mnist, folder
from transform.sources.base import Listing, Source, Unreadable
from transform.sources.registry import build_source, register, source_names
from transform.sources.stat_cache import StatCache

__all__ = [
    "Listing",
    "Source",
    "StatCache",
    "Unreadable",
    "build_source",
    "cifar10",
    "digits",
    "fashion_mnist",
    "folder",
    "register",
    "source_names",
]
