"""`slipway predict`: answers of the served model for single images or a whole folder."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import ConfigOption, JsonOption, WorkdirOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError
from transform.progress import report

if TYPE_CHECKING:
    from serving.classifier import Prediction

_IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp"})
_FIELDS = ("image", "label", "probability", "class_id", "error")


def predict(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.", show_default=False)] = None,
    batch: Annotated[
        Path | None, typer.Option("--batch", help="A folder whose images (at any depth) are predicted.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Result of --batch: a .csv or .jsonl file.")] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="A model directory (default: the served version).")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes to show.")] = 3,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Classify images with the served model."""
    if bool(images) == bool(batch) or bool(batch) != bool(out):
        raise ConfigError(
            "expected image files, or --batch FOLDER together with --out FILE; see `slipway predict --help`"
        )
    writer = _row_writer(out) if out is not None else None
    folder = model if model is not None else _served(config, workdir)
    if images and not any(image.exists() for image in images):
        raise ConfigError(f"{', '.join(map(str, images))}: no such file; expected pictures")
    with contextlib.ExitStack() as stack:
        with working(f"loading the model in {folder}"):
            from serving.classifier import Classifier

            classifier = stack.enter_context(Classifier.open(folder))
        if batch is not None and out is not None and writer is not None:
            failed, total = _predict_folder(classifier, batch, out, writer)
            typer.echo(f"{out}: {total:,} images, {failed:,} of them unreadable, by the model in {folder}")
        else:
            with working("predicting"):
                answers = list(classifier.predict_paths(images or [], top=top))
            failed, total = sum(answer.error is not None for _, answer in answers), len(answers)
            _show(answers, folder, as_json)
    if failed == total or (failed and batch is None):
        raise typer.Exit(2)


def _served(config: Path | None, workdir: Path | None) -> Path:
    """Return the folder of the served version."""
    from pipeline.locating import find_workdir, serving_base
    from serving.publish import served

    base = serving_base(find_workdir(config, workdir))
    version = served(base)
    if version is None:
        raise ConfigError(f"{base} holds no intact version; `slipway versions` shows what is wrong with them")
    return version.path


def _show(answers: list[tuple[Path, Prediction]], folder: Path, as_json: bool) -> None:
    """Print the answers as a table or as JSON."""
    if as_json:
        rows = [{**_row(path, answer), "top": [list(pair) for pair in answer.top]} for path, answer in answers]
        typer.echo(json.dumps({"model": str(folder), "predictions": rows}, indent=1))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"By the model in {folder}", title_justify="left", header_style="bold")
    for name in ("image", "label", "probability", "next"):
        table.add_column(name, overflow="fold")
    for path, answer in answers:
        if answer.error is not None:
            table.add_row(Text(str(path)), Text("unreadable", style="red"), "", Text(answer.error))
            continue
        others = ", ".join(f"{label} {p:.1%}" for label, p in answer.top[1:])
        table.add_row(Text(str(path)), Text(str(answer.label), style="bold"), f"{answer.probability:.1%}", Text(others))
    Console(highlight=False).print(table)


def _predict_folder(
    classifier: Any, folder: Path, out: Path, writer: Callable[[IO[str]], Callable[[dict[str, Any]], Any]]
) -> tuple[int, int]:
    """Write the answers for a folder; the file appears when it is complete.

    Returns:
        How many images could not be read, and how many there are.
    """
    paths = list(_images_below(folder, out))
    if not paths:
        raise ConfigError(f"{folder} holds no images; expected files ending in {', '.join(sorted(_IMAGE_ENDINGS))}")
    part = out.with_name(f".{out.name}.{os.getpid()}")
    failed = 0
    try:
        with open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            write = writer(file)
            with working("predicting"):
                for done, (path, answer) in enumerate(classifier.predict_paths(paths), 1):
                    failed += answer.error is not None
                    write(_row(path.relative_to(folder), answer))
                    report(done, len(paths), "images")
        part.replace(out)
    except OSError as error:
        raise ConfigError(f"{out} can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return failed, len(paths)


def _images_below(folder: Path, out: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; expected one with images, or name the images themselves")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _IMAGE_ENDINGS and not path.name.startswith(".") and path.is_file() and path != out:
            yield path


def _row_writer(out: Path) -> Callable[[IO[str]], Callable[[dict[str, Any]], Any]]:
    """Return what writes rows in the format that the file's ending asks for."""
    if out.suffix == ".csv":

        def as_csv(file: IO[str]) -> Callable[[dict[str, Any]], Any]:
            writer = csv.DictWriter(file, _FIELDS)
            writer.writeheader()
            return writer.writerow

        return as_csv
    if out.suffix == ".jsonl":
        return lambda file: lambda row: file.write(json.dumps(row) + "\n")
    raise ConfigError(f"--out is {out}; expected a file ending in .csv or .jsonl")


def _row(path: Path, answer: Prediction) -> dict[str, Any]:
    return {
        "image": str(path),
        "label": answer.label,
        "probability": None if answer.probability is None else round(answer.probability, 6),
        "class_id": answer.class_id,
        "error": answer.error,
    }
