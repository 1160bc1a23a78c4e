"""`slipway init DIR`: a folder of images in, a commented config out.

The command line calls `write_config`; `inspect_folder` alone tells what the folder holds.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import choices
from pipeline.choices import Choice
from pipeline.config.messages import printable
from pipeline.config.show import schema_hint, yaml_value
from pipeline.errors import ConfigError
from pipeline.inspection import FolderFacts, inspect_folder

__all__ = ["FolderFacts", "config_text", "inspect_folder", "write_config"]

_MOST_NAMES = 12
_MOST_UNREADABLE = 5


def write_config(folder: str | os.PathLike[str], out: str | os.PathLike[str], force: bool = False) -> FolderFacts:
    """Look at a folder of images and write a config for it.

    Args:
        folder: see `inspect_folder`.
        out: the YAML file to write.
        force: whether an existing file may be replaced.

    Returns:
        What the folder holds.

    Raises:
        ConfigError: if the file exists, its folder does not, or the folder of images cannot be used.
    """
    file = Path(out)
    if file.is_dir():
        raise ConfigError(f"{file} is a folder; expected the name of a YAML file to write")
    if file.exists() and not force:
        raise ConfigError(f"{file} exists; choose another name, or replace it with --force")
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is no folder; create it, or choose another place for {file.name}")
    facts = inspect_folder(folder)
    _publish(file, config_text(facts, file), force)
    return facts


def config_text(facts: FolderFacts, file: Path) -> str:
    """Return the commented YAML for a folder.

    Args:
        facts: what the folder holds.
        file: where the text will stand; a folder beside or below it is named relative to it.
    """
    size = choices.size(facts)
    lines = [
        schema_hint(file),
        *_comment(_summary(facts)),
        "",
        *_line("name", Choice(choices.name_for(facts), "names the runs, the folders and the pushed model"), 0),
        "",
        "data:",
        *_line(
            "source",
            Choice(_source(facts, file), "the folder; relative to this file unless it starts with /"),
        ),
        *_split_lines(facts),
        *_line("max_unreadable", choices.most_unreadable(facts)),
        "",
        "transform:",
        *_line("size", size),
        *_line("channels", choices.channels(facts)),
        "",
        "model:",
        *_line(
            "name",
            Choice("cnn_small", "trains on any laptop; cnn_deep and resnet8 are slower and often better"),
        ),
        *_line("dropout", choices.dropout(facts)),
        "",
        "train:",
        *_line("epochs", choices.epochs(facts, *size.value)),
        *_line("batch_size", choices.batch_size(facts)),
        *_line("augment", _AUGMENT),
        "",
        "tune:",
        *_line("mode", Choice("off", "search tries other hyperparameters first, at a few minutes more")),
        "",
        "evaluate:",
        *_line("top_k", choices.top_k(facts)),
        *_line("slices", choices.slices(facts)),
        "  gates:",
        "    accuracy:",
        *_line("min", choices.lowest_accuracy(facts), 6),
        *_line("max_drop_vs_baseline", choices.largest_drop(facts), 6),
        "",
        "compress:",
        *_line("variants", _VARIANTS),
        "  budget:",
        *_line("max_accuracy_drop", choices.largest_loss(facts), 4),
        *_line("max_worst_class_drop", choices.largest_class_loss(facts), 4),
    ]
    return "\n".join(lines) + "\n"


_VARIANTS = Choice(
    ["tflite_float16", "tflite_int8", "onnx_float32"],
    "forms to ship beside the SavedModel: for phones with a GPU, for phones without, for other servers;\n"
    "each is measured against the float model, and [] leaves all of this out",
)

_AUGMENT = Choice(
    ["shift"],
    "random shifts suit nearly all images; add flip if an image in the mirror keeps its class: true for\n"
    "animals and things, wrong for digits, letters and road signs; rotate, cutout and mixup are there, too",
)


def _source(facts: FolderFacts, file: Path) -> str:
    base = Path(os.path.abspath(file.parent))
    if not facts.path.is_relative_to(base):
        return str(facts.path)
    # Without ./ a folder `digits` would be the built-in source.
    return f"./{facts.path.relative_to(base).as_posix()}"


def _summary(facts: FolderFacts) -> Iterator[str]:
    sizes = (
        f"all {facts.size[0]} x {facts.size[1]}"
        if facts.one_size
        else (
            f"from {facts.smallest[0]} x {facts.smallest[1]} to {facts.largest[0]} x {facts.largest[1]}, "
            f"median {facts.size[0]} x {facts.size[1]} (height x width)"
        )
    )
    formats = ", ".join(f"{kind} {count}" for kind, count in facts.formats.items())
    yield f"Written by `slipway init` for {facts.path}"
    yield f"{facts.images:,} images in {len(facts.counts)} classes: {_names(facts.counts)}"
    if facts.splits:
        yield f"Already split: {', '.join(f'{split} {count:,}' for split, count in facts.splits.items())}"
    hurried = ", since more took too long" if facts.hurried else ""
    yield f"Of {facts.sampled:,} images looked at{hurried}: {sizes}; formats: {formats}"
    if facts.imbalance >= 3:
        yield f"Note: the largest class has {facts.imbalance:.0f} times the images of the smallest; look at"
        yield "the metrics of each class and at macro_f1, not at accuracy alone."
    small = {label: count for label, count in facts.counts.items() if count < choices.SMALL_CLASS}
    if small:
        yield f"Note: too few images to learn from or to judge by: {_names(small)}"
    for reason, count in facts.ignored.items():
        yield f"Passed over: {count:,} ({reason})"
    for file, reason in facts.unreadable[:_MOST_UNREADABLE]:
        yield f"Cannot be read: {file} ({reason})"
    if len(facts.unreadable) > _MOST_UNREADABLE:
        yield f"Cannot be read: {len(facts.unreadable) - _MOST_UNREADABLE} more"
    yield "`slipway config show` prints every setting, those that are not here with their defaults."


def _names(counts: dict[str, int]) -> str:
    shown = [f"{label} {count:,}" for label, count in list(counts.items())[:_MOST_NAMES]]
    return ", ".join(shown) + (f" and {len(counts) - _MOST_NAMES} more" if len(counts) > _MOST_NAMES else "")


def _split_lines(facts: FolderFacts) -> list[str]:
    if {"train", "eval", "test"} <= facts.splits.keys():
        return ["  # the folder is split already, so there is no `split` here"]
    if facts.splits:
        given = " and ".join(facts.splits)
        why = f"the folder gives {given}; what is missing is taken from its train part, in these proportions"
    else:
        why = "decided by the content of each image, so it stays the same when files are added or renamed"
    return _line("split", Choice(choices.split_shares(facts), why))


def _line(key: str, choice: Choice, indent: int = 2) -> list[str]:
    prefix = " " * indent
    return [
        *(f"{prefix}{line}" for line in _comment(choice.why.split("\n"))),
        f"{prefix}{key}: {yaml_value(choice.value)}",
    ]


def _comment(sentences: Iterator[str] | list[str]) -> list[str]:
    return [f"# {printable(sentence).replace(chr(10), ' ')}" for sentence in sentences]


def _publish(file: Path, text: str, force: bool) -> None:
    """Write beside and rename, so that nobody sees half a file; a link fails where one has appeared."""
    try:
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.chmod(draft, 0o644)
            if force:
                os.replace(draft, file)
            else:
                os.link(draft, file)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
    except FileExistsError:
        raise ConfigError(f"{file} exists; choose another name, or replace it with --force") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from None
