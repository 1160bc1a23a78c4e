"""A folder that claims to be a bundle, of which every file was seen to be plain.

Comes in: the folder and its files with their hashes. Goes out: contents. Called by `serving.edge.verify` and
`serving.edge.content_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving import manifest as manifests
from serving.edge.card import CARD_FILE, ModelCard
from serving.edge.samples import EXPECTED_FILE, Expected
from serving.errors import BundleError
from serving.manifest import FileEntry

_MAX_TEXT = 16 * 1024 * 1024


@dataclass(frozen=True)
class BundleFolder:
    """One folder.

    Attributes:
        root: Where it is.
        entries: Its files by path, without `manifest.json`.
    """

    root: Path
    entries: dict[str, FileEntry]

    @classmethod
    def open(cls, root: Path) -> BundleFolder:
        """Look at every file of a folder.

        Raises:
            ManifestError: One is a link, no plain file, or has an unsafe name.
        """
        return cls(root, {entry.path: entry for entry in manifests.describe_files(root)})

    def content(self, path: str, limit: int | None = None) -> bytes:
        """Content of a file.

        Raises:
            BundleError: It is missing, or larger than the limit in bytes.
        """
        entry = self.entries.get(path)
        if entry is None:
            raise BundleError(f"{path} is missing.")
        if limit is not None and entry.size > limit:
            raise BundleError(f"{path} has {entry.size:,} bytes; expected {limit:,} at most.")
        return (self.root / path).read_bytes()

    def text(self, path: str) -> str:
        """Text of a file of at most 16 MiB.

        Raises:
            BundleError: It is missing, too large or not UTF-8.
        """
        try:
            return self.content(path, _MAX_TEXT).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BundleError(f"{path} is not UTF-8: {error}.") from error

    def card(self) -> ModelCard:
        """The model card.

        Raises:
            BundleError: It is missing or malformed.
        """
        text = self.text(CARD_FILE)
        try:
            return ModelCard.from_json(text)
        except BundleError as error:
            raise BundleError(f"{CARD_FILE}: {error}") from error

    def expected(self) -> Expected:
        """The expected answers.

        Raises:
            BundleError: They are missing or malformed.
        """
        text = self.text(EXPECTED_FILE)
        try:
            return Expected.from_json(text)
        except BundleError as error:
            raise BundleError(f"{EXPECTED_FILE}: {error}") from error
