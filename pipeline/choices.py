"""Sensible settings for a folder of images, each with the reason for it.

The facts about a folder come in, values with a comment go out. `pipeline.initialize` writes them down.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from pipeline.inspection import FolderFacts

SMALLEST_SIDE, LARGEST_SIDE, STEP = 32, 160, 16
SMALLEST_INPUT = 8  # what the models take
FEWEST_EPOCHS, MOST_EPOCHS, ENOUGH_EPOCHS = 3, 40, 8
PIXELS_OF_A_RUN = 450_000_000
"""Pixels over all epochs: some four minutes, at two million a second for `cnn_small` on two cores."""

FEW_IMAGES = 2000
SMALL_CLASS = 10


@dataclass(frozen=True)
class Choice:
    """A value and why it was chosen; `why` may have several lines."""

    value: Any
    why: str


def name_for(facts: FolderFacts) -> str:
    """Return the folder's name as a valid name of a pipeline."""
    ascii_name = unicodedata.normalize("NFKD", facts.path.name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", ascii_name).strip("-_")[:63].strip("-_") or "images"


def train_images(facts: FolderFacts) -> int:
    """Return about how many images the train split will hold."""
    if not facts.splits:
        return max(1, round(facts.images * split_shares(facts)["train"]))
    rest = facts.splits.get("train", 0)
    shares = split_shares(facts)
    missing = sum(share for split, share in shares.items() if split != "train" and split not in facts.splits)
    return max(1, round(rest * shares["train"] / (shares["train"] + missing)))


def test_images(facts: FolderFacts) -> int:
    """Return about how many images the test split will hold."""
    given = facts.splits.get("test")
    return given if given else max(1, round(facts.images * split_shares(facts)["test"]))


def split_shares(facts: FolderFacts) -> dict[str, float]:
    """Return the shares of the splits: more to eval and test where there are few images."""
    few = facts.images < FEW_IMAGES
    return {"train": 0.7, "eval": 0.15, "test": 0.15} if few else {"train": 0.8, "eval": 0.1, "test": 0.1}


def size(facts: FolderFacts) -> Choice:
    """Return height and width: the images' own where that is possible, else what trains in minutes."""
    height, width = facts.size
    usable = min(height, width) >= SMALLEST_INPUT and max(height, width) <= LARGEST_SIDE
    if facts.one_size and usable and _epochs_for(facts, height, width) >= FEWEST_EPOCHS:
        return Choice([height, width], f"all sampled images are {height} x {width}: nothing is resized")
    side = _rounded(math.sqrt(height * width))
    why = f"height and width; the median image is {height} x {width}, "
    why += f"a multiple of {STEP} from {SMALLEST_SIDE} to {LARGEST_SIDE} keeps training short"
    affordable = side
    while affordable > SMALLEST_SIDE and _epochs_for(facts, affordable, affordable) < ENOUGH_EPOCHS:
        affordable -= STEP
    if affordable < side:
        why += f";\n{side} would show more, but {train_images(facts):,} such images take long on two cores"
    return Choice([affordable, affordable], why)


def _rounded(side: float) -> int:
    return min(LARGEST_SIDE, max(SMALLEST_SIDE, STEP * round(side / STEP)))


def _epochs_for(facts: FolderFacts, height: int, width: int) -> float:
    return PIXELS_OF_A_RUN / (train_images(facts) * height * width)


def channels(facts: FolderFacts) -> Choice:
    """Return 1 where every sampled image is gray, else 3."""
    readable = facts.sampled - len(facts.unreadable)
    if facts.gray == readable:
        return Choice(1, "all sampled images are gray")
    mixed = f"; {facts.gray} of {readable} sampled images are gray and become color" if facts.gray else ""
    return Choice(3, f"color{mixed or ' (if color says nothing about the class, 1 is faster)'}")


def epochs(facts: FolderFacts, height: int, width: int) -> Choice:
    """Return as many epochs as fit into some minutes of training on two cores."""
    wanted = round(min(MOST_EPOCHS, max(FEWEST_EPOCHS, _epochs_for(facts, height, width))))
    return Choice(
        wanted,
        f"about {train_images(facts):,} images are learned from; more epochs help until eval gets worse",
    )


def batch_size(facts: FolderFacts) -> Choice:
    """Return a batch size that leaves some dozens of steps in an epoch."""
    wanted = min(128, max(16, 2 ** round(math.log2(max(train_images(facts) / 50, 1)))))
    return Choice(wanted, "examples a step; small sets need small batches to get enough steps in an epoch")


def dropout(facts: FolderFacts) -> Choice:
    """Return more dropout for few images."""
    if train_images(facts) < FEW_IMAGES:
        return Choice(0.3, "with few images a model learns them by heart; dropout works against it")
    return Choice(0.2, "share of features dropped while training")


def top_k(facts: FolderFacts) -> Choice:
    """Return a k that is smaller than the number of classes."""
    return Choice(max(1, min(3, len(facts.counts) - 1)), "a guess counts if the label is among this many best")


def slices(facts: FolderFacts) -> Choice:
    """Return a slice per class where the report stays readable."""
    if len(facts.counts) > 100:
        return Choice([], f"label would report {len(facts.counts)} classes one by one")
    return Choice(["label"], "report the metrics of every class as well")


def lowest_accuracy(facts: FolderFacts) -> Choice:
    """Return a gate a tenth of the way from guessing to perfection."""
    guess = facts.majority
    least = math.floor(100 * (guess + 0.1 * (1 - guess))) / 100
    why = f"guessing the largest class always gives {guess:.2f}, so this only refuses a model that learned\n"
    return Choice(least, why + "nothing; raise it after the first run to what you need")


def largest_drop(facts: FolderFacts) -> Choice:
    """Return two standard errors of the accuracy on the test split, at least one percent."""
    images = test_images(facts)
    drop = min(0.2, max(0.01, math.ceil(100 * 2 * math.sqrt(0.09 / images)) / 100))
    return Choice(drop, f"against the last model that passed; with about {images:,} test images less is chance")


def most_unreadable(facts: FolderFacts) -> Choice:
    """Return the share of unreadable files to put up with: none, unless the sample holds some."""
    bad = len(facts.unreadable)
    if not bad:
        return Choice(0.0, "no unreadable file was found; one that turns up stops the run")
    share = bad / facts.sampled
    return Choice(
        min(1.0, math.ceil(100 * (2 * share + 1 / facts.sampled)) / 100),
        f"{bad} of {facts.sampled} sampled files cannot be read (see above); mend them and set this to 0",
    )


def largest_loss(facts: FolderFacts) -> Choice:
    """Return what a form may lose in accuracy: a point, and the width of the interval that so few images leave."""
    images = test_images(facts)
    loss = min(0.3, max(0.015, math.ceil(100 * (0.01 + 8 / images)) / 100))
    return Choice(loss, f"by the lower end of the 95 percent interval; about {images:,} eval images leave it that wide")


def largest_class_loss(facts: FolderFacts) -> Choice:
    """Return what a form may lose in one class: two images, at least five points."""
    images = test_images(facts) / len(facts.counts)
    loss = min(0.5, max(0.05, math.ceil(100 * 2 / images) / 100))
    return Choice(loss, f"two of the about {round(images):,} images of a class, or five points")
