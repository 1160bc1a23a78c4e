"""The folder of results that the Optimizer leaves: table, picture, picks, samples, evaluations.

Comes in: what `pipeline.optimizing.optimize` found. Goes out: files, and what later stages and the command line read
from them. Imports neither TensorFlow nor matplotlib.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from serving.certify.pareto import front
from serving.certify.picks import Pick, Target
from serving.certify.table import Row, read_json, write_csv, write_json

if TYPE_CHECKING:
    from serving.measure.images import ImageBatches

TABLE_FILE, CSV_FILE = "results.json", "results.csv"
DETAILS_FILE = "details.json"
"""What conversions and techniques tell about their work, by variant."""
SAMPLES_FILE = "samples.npz"
"""A few images of the report split with their labels, for the mobile bundle."""
LABELS_FILE = "labels.txt"
PICTURE = "front"
"""The picture of cost and accuracy, as .svg and .png."""
PERSONALIZATION_FILE = "personalization.tflite"
"""The file that goes on learning on the device, if the config asks for one and the model allows it."""
EVALUATIONS = "evaluations"
"""TFMA's files of every picked form, in a folder of its name."""


@dataclass(frozen=True)
class Certificate:
    """What the variants of a model cost and reach, and which of them ship."""

    rows: list[Row]
    picks: dict[Target, Pick]
    about: dict[str, Any]
    """The model, the machine, the budget and the splits."""

    @property
    def front(self) -> list[str]:
        """Names of the variants on the Pareto front."""
        return front(self.rows)

    def model_version(self, reference: str) -> str:
        """Return what tells this model from others of its name: the beginning of the float form's checksum."""
        return (next(row for row in self.rows if row.variant == reference).sha256 or "")[:12]

    def sentence(self, reference: str) -> str:
        """Return the finding as one sentence: how many forms passed, and what each target gets."""
        refusal = self.about.get("personalization", "")
        learning = f"; no file that learns on the device: {refusal}" if refusal else ""
        made = [row for row in self.rows if row.variant != reference]
        passed = [row for row in made if row.ok]
        if not passed:
            reasons = "; ".join(f"{row.variant} {row.status}: {row.reason}" for row in made[:3])
            return f"none of {len(made)} forms passed, so the float form ships ({reasons}){learning}"
        ships = ", ".join(f"{target} {pick.variant}" for target, pick in self.picks.items())
        return f"{len(passed)} of {len(made)} forms passed; {ships}{learning}"


def write(certificate: Certificate, details: Mapping[str, Any], labels: Sequence[str], folder: Path) -> None:
    """Write the table, the picture, the details and the labels.

    Args:
        certificate: what was found.
        details: what conversions and techniques tell, by variant.
        labels: class names by index.
        folder: gets the files.
    """
    about = {
        **certificate.about,
        "picks": {target: asdict(pick) for target, pick in certificate.picks.items()},
        "front": certificate.front,
    }
    write_json(certificate.rows, folder / TABLE_FILE, about)
    write_csv(certificate.rows, folder / CSV_FILE)
    (folder / DETAILS_FILE).write_text(json.dumps(details, indent=1) + "\n", encoding="utf-8")
    (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def write_samples(images: ImageBatches, count: int, seed: int, folder: Path) -> None:
    """Write a few images, as many of each class as it allows."""
    from serving.measure.images import representative

    representative(images, count, seed).save(folder / SAMPLES_FILE)


def labels(folder: Path) -> tuple[str, ...]:
    """Return the class names in a folder of results, by index."""
    return tuple((folder / LABELS_FILE).read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def find(outputs: Iterable[str]) -> Path | None:
    """Return the folder of results among the outputs of a run's Optimizer; None if it made none."""
    return next((Path(output) for output in outputs if Path(output, TABLE_FILE).is_file()), None)


def read(folder: Path) -> Certificate:
    """Read what `write` wrote.

    Raises:
        ServingError: the table is missing or damaged.
    """
    rows, about = read_json(folder / TABLE_FILE)
    picks = {cast(Target, target): Pick(**pick) for target, pick in about.pop("picks").items()}
    about.pop("front")
    return Certificate(rows, picks, about)
