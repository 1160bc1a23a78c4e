"""The names of the techniques: `pqat60` in, what to do and how far out.

Called by the config (to refuse a wrong name early) and by `compressing.compress`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from trainer.errors import TrainerError

Family = Literal["prune", "channels", "cluster", "qat", "pqat", "cqat", "pcqat", "distill"]
Schedule = Literal["polynomial", "constant", "scan", "2by4"]

# Every valid form of a name; % stands for a percentage, # for a number of clusters.
FORMS = (
    "prune%",
    "prune%const",
    "pruneauto",
    "prune2by4",
    "channels%",
    "cluster#",
    "qat",
    "pqat%",
    "cqat#",
    "pcqat%x#",
    "distill",
)
PERCENT = (1, 99)
# Zero takes one of the clusters where sparsity is kept, so two would leave a single value.
CLUSTERS = (3, 256)
TYPICAL = {"%": 70, "#": 16}


@dataclass(frozen=True)
class Technique:
    """One technique.

    Attributes:
        name: as in the config.
        family: the name without its numbers.
        sparsity: share of zeros (or of removed channels) wanted, 0 to 1; None where the technique has none.
        schedule: how pruning gets there; None if nothing is pruned.
        clusters: number of different values a kernel may hold; None if nothing is clustered.
    """

    name: str
    family: Family
    sparsity: float | None = None
    schedule: Schedule | None = None
    clusters: int | None = None

    @property
    def quantizes(self) -> bool:
        """Whether the result is quantization-aware."""
        return self.family.endswith("qat")


def parse(name: str) -> Technique:
    """Return the technique of a name.

    Raises:
        TrainerError: if there is no such technique; it names the nearest one.
    """
    for form in FORMS:
        pattern = re.escape(form).replace("%", r"([1-9]\d?)").replace(r"\#", r"([1-9]\d{0,2})")
        found = re.fullmatch(pattern, name, re.ASCII)
        if found is None:
            continue
        numbers = dict(zip(re.findall("[%#]", form), map(int, found.groups()), strict=True))
        if "#" not in numbers or CLUSTERS[0] <= numbers["#"] <= CLUSTERS[1]:
            return _technique(name, form, numbers)
    raise TrainerError(
        f"there is no technique {name!r}; did you mean {_nearest(name)!r}? Expected prune70, prune70const, pruneauto, "
        f"prune2by4, channels30, cluster16, qat, pqat70, cqat16, pcqat70x16 or distill, with {PERCENT[0]} to "
        f"{PERCENT[1]} percent and {CLUSTERS[0]} to {CLUSTERS[1]} clusters"
    )


def _technique(name: str, form: str, numbers: dict[str, int]) -> Technique:
    family: Family = re.match("[a-z]+?(?=[%#]|auto|2by4|$)", form)[0]  # type: ignore[index, assignment]
    schedule: Schedule | None = "polynomial" if family in ("prune", "pqat", "pcqat") else None
    for ending, other in (("const", "constant"), ("auto", "scan"), ("2by4", "2by4")):
        if form.endswith(ending):
            schedule = other  # type: ignore[assignment]
    sparsity = numbers["%"] / 100 if "%" in numbers else None
    return Technique(name, family, sparsity, schedule, numbers.get("#"))


def _nearest(name: str) -> str:
    """Return the valid name that is nearest: its form, and the given numbers as far as they are allowed."""
    if re.search(r"2\s?(by|of|x|:|/|-)\s?4$", name):
        return "prune2by4"
    numbers = [int(digits[:6]) for digits in re.findall(r"[0-9]+", name)]
    plain = re.sub(r"[0-9]+", "", name)
    bare = {re.sub("[%#]", "", form): form for form in FORMS}
    match = difflib.get_close_matches(plain, bare, n=1, cutoff=0.0)
    form = bare[match[0]]
    limits = {"%": PERCENT, "#": CLUSTERS}
    filled = form
    for sign in re.findall("[%#]", form):
        low, high = limits[sign]
        number = min(max(numbers.pop(0), low), high) if numbers else TYPICAL[sign]
        filled = filled.replace(sign, str(number), 1)
    return filled
