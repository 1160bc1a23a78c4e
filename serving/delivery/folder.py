"""A folder of forms for servers: its table of contents, and whether it holds what it promises.

Comes in: a folder. Goes out: its `Index`, or the sentence that says what is wrong. Called by
`serving.delivery.build` and `serving.delivery.publishing`. The standard library is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving import manifest as manifests
from serving.delivery.card import CARD_FILE, FormCard
from serving.edge import samples, strict_json
from serving.edge.metadata import LABELS_FILE, labels_text
from serving.errors import BundleError

INDEX_FILE = "forms.json"
README_FILE = "README.md"
EXAMPLES = ("classify.py", "model.py")
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One form.

    Attributes:
        target: What it is for.
        folder: Where it is.
        variant: Name of the variant.
        form: Name of the form.
        runtime: Name of the runtime.
    """

    target: str
    folder: str
    variant: str
    form: str
    runtime: str


@dataclass(frozen=True)
class Index:
    """What is in a folder.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        forms: The forms.
        format: Number of this format.
    """

    name: str
    version: str
    forms: tuple[Entry, ...]
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse another format."""
        if self.format != FORMAT:
            raise BundleError(f"the format is {self.format}, expected {FORMAT}; a newer slipway may have written it.")

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal index."""
        return strict_json.encode(self)

    @classmethod
    def from_json(cls, text: str) -> Index:
        """Read JSON text strictly.

        Raises:
            BundleError: As for `strict_json.decode`, or another format.
        """
        return strict_json.decode(cls, text)


def check_folder(folder: Path) -> Index:
    """Compare every part of a folder with every other.

    Args:
        folder: The folder.

    Returns:
        What is in it.

    Raises:
        BundleError: A part is missing or malformed, or two of them contradict each other.
        ManifestError: A file is a link, no plain file, or has an unsafe name.
    """
    entries = {entry.path: entry for entry in manifests.describe_files(folder)}
    index = Index.from_json(_text(folder, INDEX_FILE))
    for path in (LABELS_FILE, README_FILE, samples.EXPECTED_FILE):
        _text(folder, path)
    samples.Expected.from_json(_text(folder, samples.EXPECTED_FILE))
    for entry in index.forms:
        card = _card(folder, entry)
        for file in card.files:
            found = entries.get(f"{entry.folder}/{file.path}")
            if found is None or (found.size, found.sha256) != (file.size, file.sha256):
                what = "is missing" if found is None else "has another size or SHA-256"
                raise BundleError(f"{folder / entry.folder / file.path} {what}; {CARD_FILE} beside it says otherwise.")
        for place in (folder, folder / entry.folder):
            if _text(place, LABELS_FILE) != labels_text(card.labels):
                raise BundleError(f"{place / LABELS_FILE} does not hold the labels of {entry.folder}/{CARD_FILE}.")
        for name in EXAMPLES:
            _text(folder / entry.folder, name)
    return index


def _card(folder: Path, entry: Entry) -> FormCard:
    try:
        manifests.check_path(entry.folder)
        card = FormCard.from_json(_text(folder / entry.folder, CARD_FILE))
    except BundleError as error:
        raise BundleError(f"{folder / entry.folder / CARD_FILE}: {error}") from error
    if (card.target, card.variant, card.form, card.runtime.name) != (
        entry.target, entry.variant, entry.form, entry.runtime,
    ):  # fmt: skip
        raise BundleError(f"{folder / entry.folder / CARD_FILE} is not about what {INDEX_FILE} names.")
    return card


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder / name} cannot be read: {error}.") from error
