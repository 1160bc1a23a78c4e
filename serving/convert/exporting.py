"""One model to one file: what `slipway export MODEL --format FORM --out FILE` does.

Comes in: a SavedModel, the name of a form and a path. Goes out: the converted model at that path, or the reason why
there is none. Called by the command line.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.convert import running
from serving.convert.forms import Form
from serving.convert.forms import form as form_named
from serving.convert.job import Conversion, Outcome
from serving.errors import ConversionError
from serving.measure.images import ImageBatches
from serving.measure.images import representative as sample_of

REPRESENTATIVE_IMAGES = 200


def export_model(
    saved_model: Path | str,
    form: str,
    out: Path | str,
    representative: ImageBatches | None = None,
    *,
    signature: str | None = None,
    seed: int = 0,
    count: int = REPRESENTATIVE_IMAGES,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    timeout_seconds: float = 300,
) -> Outcome:
    """Convert a model and put the result at a path, as a whole or not at all.

    Args:
        saved_model: Directory of the SavedModel.
        form: Name of the form.
        out: The file to write; a directory for forms that are one. OpenVINO's weights go beside it, with the ending
            `.bin`.
        representative: Images to calibrate with; a sample of them is drawn.
        signature: Signature of the source; None chooses.
        seed: Seed of the sample.
        count: Images in the sample.
        options: More for the converter, such as `budget` of mixed precision.
        overwrite: Whether a file that is there already may be replaced.
        timeout_seconds: Time limit of the conversion.

    Returns:
        What came of it; `path` is `out` if ok.

    Raises:
        ServingError: Unknown form, no representative images for a form that needs them, or `out` exists.
    """
    wanted = form_named(form)
    target = Path(os.path.abspath(out))
    _check_target(target, wanted, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        job = Conversion(
            form=form,
            saved_model=Path(saved_model),
            out_dir=scratch / "made",
            representative=None,
            signature=signature,
            options={**(options or {}), "seed": seed},
        )
        if representative is not None:
            file = sample_of(representative, count, seed).save(scratch / "representative.npz")
            job = dataclasses.replace(job, representative=file)
        outcome = running.convert(job, timeout_seconds)
        if not outcome.ok:
            return outcome
        for made, place in _places(scratch / "made", target, wanted):
            _put(made, place, overwrite)
        return dataclasses.replace(outcome, path=target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_target(target: Path, wanted: Form, overwrite: bool) -> None:
    if wanted.runtime == "saved_model":
        raise ConversionError("saved_model is what is exported from; expected another form.")
    ending = Path(wanted.file_name).suffix
    if ending and target.suffix != ending:
        raise ConversionError(f"{target} does not end in {ending}; expected that of the form {wanted.name}.")
    if target.is_dir() and wanted.file_name:
        raise ConversionError(f"{target} is a directory; expected a path for {wanted.file_name}.")
    for place in (target, target.with_suffix(".bin")) if ending == ".xml" else (target,):
        if os.path.lexists(place) and not overwrite:
            raise ConversionError(f"{place} exists already; choose another path, or ask to overwrite it.")


def _places(made: Path, target: Path, wanted: Form) -> list[tuple[Path, Path]]:
    """What was made and where it goes; the file that is loaded comes last, so that it never lacks its company."""
    if not wanted.file_name:
        return [(made, target)]
    entries = sorted(made.iterdir(), key=lambda entry: entry.name == wanted.file_name)
    return [(entry, target.with_suffix(entry.suffix)) for entry in entries]


def _put(made: Path, place: Path, overwrite: bool) -> None:
    if made.is_dir():
        if overwrite and place.exists():
            shutil.rmtree(place)
        made.rename(place)
    elif overwrite:
        os.replace(made, place)
    else:
        try:
            # Unlike a rename, a link fails if somebody else made the file in the meantime.
            os.link(made, place)
        except FileExistsError as error:
            raise ConversionError(f"{place} exists already; choose another path, or ask to overwrite it.") from error
