"""The commands about forms of a model: `slipway optimize`, `export`, `benchmark` and `edge verify`."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigArgument, ConfigOption, JsonOption, SetOption, WorkdirOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError

edge = typer.Typer(help="Mobile bundles.", no_args_is_help=True)

DataOption = Annotated[
    str | None,
    typer.Option("--data", metavar="SOURCE", help="Labeled images: a folder per class, or a built-in name."),
]
ImagesOption = Annotated[int | None, typer.Option("--images", min=1, help="How many of them at most.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Draws the images.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def optimize(
    config: ConfigArgument,
    set_: SetOption = None,
    workdir: WorkdirOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make, measure and certify the forms of the model; what is up to date already comes from the cache.

    Makes the forms that the section `compress` lists, or those that need no training if it lists none.
    """
    from pipeline.cli.running import run
    from pipeline.config.loading import load
    from serving.convert.forms import DEFAULT_FORMS

    overrides = list(set_ or [])
    if not load(config, overrides).config.compress.variants:
        overrides.append(f"compress.variants=[{', '.join(DEFAULT_FORMS)}]")
    run(config, overrides, workdir, quiet=quiet, as_json=as_json)


def export(
    model: Annotated[Path, typer.Argument(help="The directory of a SavedModel, such as a published version.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="Form to convert to, such as tflite_int8.",
            autocompletion=completing.one_of(completing.forms),
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File (or directory) to write.")],
    data: DataOption = None,
    images: ImagesOption = None,
    seed: SeedOption = 7,
    signature: Annotated[str | None, typer.Option(help="Signature to convert (default: the fitting one).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert a model to another form, also one that Slipway didn't train. Nothing is certified."""
    from pipeline.cli.noise import noise_to
    from pipeline.optimizing.labeled import TRAIN, read_images
    from serving.convert import forms
    from serving.convert.exporting import REPRESENTATIVE_IMAGES, export_model
    from serving.convert.tftrt_segments import coverage_sentence
    from serving.forms.inspection import input_shape

    wanted = forms.form(form)
    if wanted.needs_representative and data is None:
        raise ConfigError(
            f"{form} needs images to find its ranges; name some by --data: a folder per class, best of the images "
            "that the model was trained on, or a built-in name such as digits"
        )
    count = images or REPRESENTATIVE_IMAGES
    with noise_to(Path(os.devnull)) as screen, working(f"making {form}", screen.err):
        sample = None
        if wanted.needs_representative and data is not None:
            sample = read_images(data, input_shape("saved_model", model, signature), max(count, 1000), seed, TRAIN)
        outcome = export_model(
            model, form, out, sample, signature=signature, seed=seed, count=count, overwrite=overwrite
        )
    if as_json:
        typer.echo(outcome.to_json())
    if outcome.path is None:
        ended = "failed" if outcome.status == "failed" else "was skipped"
        known = coverage_sentence(outcome.details)
        raise ConfigError(f"{form} {ended}: {' '.join(part for part in (outcome.reason, known) if part)}")
    if not as_json:
        size = sum(file.stat().st_size for file in [outcome.path, *outcome.path.rglob("*")] if file.is_file())
        typer.echo(f"{outcome.path}: {wanted.description}; {size:,} bytes. `slipway benchmark` measures it.")


def benchmark(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help="SavedModels, .tflite, .onnx and .xml files, of which the first is what others are compared with; or "
            "a work directory, for the forms of its last run."
        ),
    ] = None,
    data: DataOption = None,
    images: Annotated[int, typer.Option("--images", min=1, help="How many images at most.")] = 2_000,
    seed: SeedOption = 7,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds of the time measurement.")] = 200,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the table (CSV, JSON).")] = None,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure models against each other in one process, or again the forms of the last run.

    Accuracy needs --data; without it the answers of the first model to random images take the labels' place.
    """
    from pipeline.cli.noise import noise_to
    from pipeline.optimizing import benchmarking
    from serving.certify.table import write_csv, write_json

    paths = models or []
    if len(paths) == 1 and (paths[0] / "runs").is_dir():
        paths, workdir = [], paths[0]
    named = benchmarking.named_models(paths) if paths else benchmarking.models_of_run(config, workdir)
    with noise_to(Path(os.devnull)) as screen, working(f"measuring {len(named)} models", screen.err):
        found = benchmarking.benchmark(named, data, images, seed, rounds)
    if out is not None:
        write_csv(found.rows, out / "benchmark.csv")
        write_json(found.rows, out / "benchmark.json", found.about)
    if as_json:
        rows = [dataclasses.asdict(row) for row in found.rows]
        typer.echo(json.dumps({**found.about, "rows": rows}, indent=1))
        return
    from rich.console import Console

    from serving.certify.terminal import results_table

    console = Console(highlight=False)
    console.print(results_table(found.rows, front=found.front, title=found.title, width=console.width))
    if out is not None:
        typer.echo(f"{out / 'benchmark.csv'} and {out / 'benchmark.json'}")


@edge.command("verify")
def verify(
    bundle: Annotated[Path, typer.Argument(help="The folder of a bundle, such as a published version.")],
    runtime: Annotated[
        str,
        typer.Option(help="Runs the models on the samples: auto, none, ai_edge_litert, tflite_runtime, tensorflow."),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Check a mobile bundle: sums, card, metadata, and the answers to its samples. Needs no TensorFlow."""
    from serving.edge.__main__ import main

    words = ["verify", str(bundle), "--runtime", runtime, *(["--json"] if as_json else [])]
    with working("checking the bundle"), contextlib.redirect_stdout(io.StringIO()) as said:
        code = main(words)
    typer.echo(said.getvalue(), nl=False)
    if code:
        raise typer.Exit(code)
