"""Checks a mobile bundle anywhere: no TensorFlow, no network, nothing but the folder.

Comes in: a folder from anywhere. Goes out: `Finding`s: what holds, what does not, what could not be checked and
why. Called by `python -m serving.edge verify`, `slipway edge verify`, and before a bundle is published.

Structure and sums need the standard library only; looking at the sample images needs numpy and Pillow, and
running the models on them an interpreter, in a process of its own.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from serving import manifest as manifests
from serving.edge import content_checks as checks
from serving.edge import samples
from serving.edge.answers import Answers, collect, find_runtime
from serving.edge.card import CARD_FILE, FileCard, ModelCard
from serving.edge.folder import BundleFolder
from serving.edge.samples import Expected
from serving.errors import BundleError, ManifestError
from serving.installed import installed
from serving.manifest import MANIFEST_FILE, check_path

SUMS_FILE = "SHA256SUMS"
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)\Z")
_MAX_IMAGE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        status: `passed`, `failed`, or `skipped` if it could not be checked.
        check: What was checked, in one word.
        message: What was found, in a sentence.
    """

    status: Literal["passed", "failed", "skipped"]
    check: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.message}"


@dataclass
class _Findings:
    """Collects findings; a check passes if it reported no problem."""

    items: list[Finding] = field(default_factory=list)

    def check(self, name: str, good: str, look: Callable[[], list[str]]) -> bool:
        try:
            problems = look()
        except (BundleError, ManifestError) as error:
            problems = [str(error)]
        except OSError as error:
            problems = [f"{error.filename} cannot be read: {error.strerror}."]
        self.items += [Finding("failed", name, problem) for problem in problems]
        if not problems:
            self.items.append(Finding("passed", name, good))
        return not problems

    def skip(self, name: str, reason: str) -> None:
        self.items.append(Finding("skipped", name, reason))

    @property
    def failed(self) -> bool:
        return any(finding.status == "failed" for finding in self.items)


def verify_bundle(
    path: str | os.PathLike[str], *, runtime: str = "auto", timeout_seconds: float = 300
) -> list[Finding]:
    """Check whether a bundle holds what it promises.

    Args:
        path: The bundle, published or not.
        runtime: What runs the models on the samples: `ai_edge_litert`, `tflite_runtime`, `tensorflow`, `auto` for
            the first of them that is installed, `none` to leave it out.
        timeout_seconds: How long the models may run.

    Returns:
        Findings, in the order of the checks. The bundle is good if none is `failed`.

    Raises:
        BundleError: The folder is no bundle at all, or there is no such runtime.
    """
    root = Path(path)
    _check_is_bundle(root)
    chosen = None if runtime == "none" else find_runtime(runtime)
    found = _Findings()
    folders: list[BundleFolder] = []

    def plain_files() -> list[str]:
        folders.append(BundleFolder.open(root))
        return []

    if not found.check("files", "only plain files with safe names", plain_files):
        found.skip("everything else", "a folder with links or unsafe names is not looked at any further.")
        return found.items
    folder = folders[0]
    found.check("sums", f"every file is as {SUMS_FILE} says", lambda: _check_sums(folder))
    if MANIFEST_FILE in os.listdir(root):
        found.check("manifest", "every file is as it was published", lambda: manifests.verify(root))
    else:
        found.skip("manifest", f"there is no {MANIFEST_FILE}: the bundle was built, but not published.")
    cards: list[ModelCard] = []

    def readable_card() -> list[str]:
        cards.append(folder.card())
        return _check_published_as(root, cards[0])

    if not found.check("card", "the model card is complete and well-formed", readable_card) and not cards:
        found.skip("models, samples", f"{CARD_FILE} does not say what they should be.")
        return found.items
    _check_content(folder, cards[0], found)
    _check_answers(folder, cards[0], found, (runtime, chosen), timeout_seconds)
    return found.items


def _check_is_bundle(root: Path) -> None:
    if not root.is_dir():
        raise BundleError(f"{root} is no folder; expected a mobile bundle.")
    try:
        names = os.listdir(root)
    except OSError as error:
        raise BundleError(f"{root} cannot be listed: {error.strerror}.") from error
    if not {CARD_FILE, SUMS_FILE} & set(names):
        numbers = sorted(int(name) for name in names if name.isascii() and name.isdigit())
        hint = f" It looks like a directory of versions: verify {root / str(numbers[-1])}." if numbers else ""
        raise BundleError(f"{root} is no mobile bundle: neither {CARD_FILE} nor {SUMS_FILE} is in it.{hint}")


def _check_sums(folder: BundleFolder) -> list[str]:
    listed: dict[str, str] = {}
    for number, line in enumerate(folder.text(SUMS_FILE).removesuffix("\n").split("\n"), start=1):
        match = _SUM_LINE.match(line)
        if match is None or match[2] in listed:
            return [f"line {number} of {SUMS_FILE} is {line[:100]!r}; expected a SHA-256 and a file, each once."]
        check_path(match[2])
        listed[match[2]] = match[1]
    apart = {SUMS_FILE, *_documents(folder.root)}
    present = {path: entry.sha256 for path, entry in folder.entries.items() if path not in apart}
    return [
        *(f"{path} is missing" for path in sorted(set(listed) - set(present))),
        *(f"{path} was added" for path in sorted(set(present) - set(listed))),
        *(f"{path} was changed" for path in sorted(set(present) & set(listed)) if present[path] != listed[path]),
    ]


def _documents(root: Path) -> set[str]:
    """What was put beside a bundle when it was published; the manifest has the checksums."""
    if MANIFEST_FILE not in os.listdir(root):
        return set()
    try:
        return {entry.path for entry in manifests.read(root).documents}
    except ManifestError:
        return set()  # a finding of its own


def _check_published_as(root: Path, card: ModelCard) -> list[str]:
    """Problems between the card and the manifest of a published bundle."""
    if MANIFEST_FILE not in os.listdir(root):
        return []
    try:
        manifest = manifests.read(root)
    except ManifestError:
        return []  # Found before.
    same = manifest.name == card.name and manifest.labels == card.labels
    return (
        [] if same else [f"{CARD_FILE} is of {card.name!r}, but {manifest.name!r} was published, or the labels differ"]
    )


def _check_content(folder: BundleFolder, card: ModelCard, found: _Findings) -> None:
    good = f"{len(card.labels)} labels, the same as in the card"
    found.check("labels", good, lambda: checks.labels(folder, card))
    found.check("documents", "the README and all examples are there", lambda: checks.documents(folder))
    found.check("models", "the card names every model file", lambda: checks.unknown_models(folder, card))
    for file in card.files:
        good = f"{file.path} is the file of the card, and its metadata agrees"
        found.check("model", good, functools.partial(checks.model, folder, card, file))
    if card.personalization is not None:
        good = f"{card.personalization.path} can train, infer, save and restore"
        found.check("model", good, functools.partial(checks.personalization, folder, card.personalization))
    good = "every sample has its image and an answer of each file"
    found.check("samples", good, lambda: checks.sample_images(folder, card))


def _check_answers(
    folder: BundleFolder,
    card: ModelCard,
    found: _Findings,
    runtime: tuple[str, str | None],
    timeout_seconds: float,
) -> None:
    wanted, chosen = runtime
    missing = [name for name in ("numpy", "PIL") if not installed(name)]
    if found.failed:
        found.skip("answers", "the models were not run, since something above does not hold.")
    elif wanted == "none":
        found.skip("answers", "the models were not run, as asked.")
    elif chosen is None:
        found.skip("answers", "no interpreter of .tflite files is installed; `pip install ai-edge-litert` to run them.")
    elif missing:
        found.skip("answers", f"{' and '.join(missing)} to read the images are not installed.")
    else:
        expected = folder.expected()
        good = f"{len(card.files)} files give the expected answers to {len(expected.samples)} samples with {chosen}"
        found.check("answers", good, lambda: _compare(folder, card, expected, chosen, timeout_seconds))


def _compare(
    folder: BundleFolder,
    card: ModelCard,
    expected: Expected,
    runtime: str,
    timeout_seconds: float,
) -> list[str]:
    size = (card.image.height, card.image.width, card.image.channels)
    for sample in expected.samples:
        path = f"{samples.FOLDER}/{sample.image}"
        try:
            pixels = samples.read_png(folder.content(path, _MAX_IMAGE), card.image.channels)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error
        if pixels.shape != size:
            return [f"{path} has {pixels.shape[:2]} pixels; expected {size[:2]}"]
    answers = collect(folder.root, card, [sample.image for sample in expected.samples], runtime, timeout_seconds)
    return [problem for file in card.files for problem in _compare_file(file, expected, answers[file.path])]


def _compare_file(file: FileCard, expected: Expected, given: Answers) -> list[str]:
    if given.probabilities is None:
        return [f"{file.path}: {given.problem}"]
    problems = []
    for sample, row in zip(expected.samples, given.probabilities, strict=True):
        promised = sample.answers[file.path]
        if len(row) != len(promised):
            return [f"{file.path} gives {len(row)} probabilities, expected {len(promised)}"]
        differences = [abs(is_so - should_be) for is_so, should_be in zip(row, promised, strict=True)]
        # Written so that a value that is no number counts as different.
        if not all(difference <= file.tolerance for difference in differences):
            problems.append(
                f"{file.path} differs by {max(differences):.4f} from the expected answer to {sample.image}; "
                f"{file.tolerance} is allowed"
            )
    return problems
