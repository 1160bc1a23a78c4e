"""The kinds of content that can be published: how each is recognized, and where its labels stand.

Comes in: a directory, or the files of a manifest. Goes out: whether it is of a kind. Called by
`serving.publish`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serving.errors import PublishError, ServingError
from serving.manifest import FileEntry


@dataclass(frozen=True)
class ContentKind:
    """One kind.

    Attributes:
        name: For people, with its article left out.
        markers: Files of which one makes a directory one of this kind.
        labels_file: File with one label a line, if there is one.
    """

    name: str
    markers: tuple[str, ...]
    labels_file: str

    def check(self, source: Path) -> None:
        """Refuse a directory of another kind.

        Raises:
            PublishError: None of the markers is in it.
        """
        if not any((source / marker).is_file() for marker in self.markers):
            found = sorted(os.listdir(source))[:6] if source.is_dir() else "no such directory"
            raise PublishError(
                f"{source} is no {self.name}: expected {self.markers[0]} in it, found {found or 'nothing'}."
            )

    def check_base(self, base: Path, files: Iterable[FileEntry]) -> None:
        """Refuse to publish where a version of another kind is in service.

        Raises:
            PublishError: The served version, with these files, is of another kind.
        """
        if not {entry.path for entry in files} & set(self.markers):
            raise PublishError(
                f"{base} does not hold {self.name}s; whoever reads it would find something else. "
                "Give each kind a base directory of its own."
            )

    def read_labels(self, source: Path) -> list[str]:
        """The labels in a directory; none if it has no labels file.

        Raises:
            ServingError: The file cannot be read.
        """
        path = source / self.labels_file
        try:
            return path.read_text("utf-8").splitlines() if path.is_file() else []
        except (OSError, UnicodeDecodeError) as error:
            raise ServingError(f"{path} cannot be read: {error}. Expected one label per line, UTF-8.") from error


SAVED_MODEL = ContentKind("SavedModel", ("saved_model.pb", "saved_model.pbtxt"), "assets.extra/labels.txt")
EDGE_BUNDLE = ContentKind("mobile bundle", ("model_card.json",), "labels.txt")
SERVER_FORMS = ContentKind("server package", ("forms.json",), "labels.txt")
