"""`slipway compile` and `slipway submit`: the pipeline for Airflow, Vertex AI or Kubeflow Pipelines."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigArgument, SetOption, WorkdirOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.loading import LoadedConfig
    from pipeline.workdir import WorkDir

TARGETS = ("airflow", "kubeflow", "vertex")

TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        help=f"What runs the pipeline: {', '.join(TARGETS)}.",
        autocompletion=completing.one_of(completing.targets),
    ),
]
SpanOption = Annotated[int | None, typer.Option("--span", min=0, help="Train on the data up to this span.")]


def compile_(
    config: ConfigArgument,
    target: TargetOption,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the files; it is made.")],
    set_: SetOption = None,
    workdir: WorkdirOption = None,
    schema: Annotated[
        str | None, typer.Option("--schema", help="Version of Vertex AI's format: 2.0 or 2.1 (default: the config's).")
    ] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Then run every container of the specification here (vertex, kubeflow).")
    ] = False,
    rehearsal_dir: Annotated[
        Path | None, typer.Option("--rehearsal-dir", metavar="DIR", help="Its files (default: DIR/rehearsal).")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds that a rehearsed container may take.")] = (
        3600
    ),
) -> int:
    """Write the files with which another orchestrator runs the pipeline, and print their paths."""
    from pipeline.cli.noise import noise_to
    from pipeline.config.loading import load
    from pipeline.workdir import WorkDir

    target = check_target(target)
    if schema is not None and target != "vertex":
        raise ConfigError(f"--schema: {target} has no such choice; it belongs to --target vertex")
    if rehearse and target == "airflow":
        raise ConfigError("--rehearse: an Airflow DAG holds no containers; it belongs to --target vertex or kubeflow")
    loaded = load(config, set_ or [])
    place = WorkDir.of(loaded.config.name, workdir)
    place.create()
    _make(out)
    with noise_to(place.logs / "compile.log") as screen:
        with working(f"compiling for {target}", screen.err):
            files = _compile(target, loaded, place, out, schema)
        print("\n".join(map(str, files)), file=screen.out)
        if not rehearse:
            return 0
        with working("running the containers of the specification", screen.err):
            return _rehearse(target, loaded, files[0], rehearsal_dir or out / "rehearsal", timeout, screen.out.write)


def submit(
    config: ConfigArgument,
    target: TargetOption,
    set_: SetOption = None,
    workdir: WorkdirOption = None,
    span: SpanOption = None,
    run_id: Annotated[
        str | None,
        typer.Option("--run-id", metavar="ID", help="Name of the run (vertex, kubeflow; default: from its content)."),
    ] = None,
) -> None:
    """Start a run on another orchestrator, or create its schedule there."""
    from pipeline.cli.noise import noise_to
    from pipeline.config.loading import load
    from pipeline.workdir import WorkDir

    target = check_target(target)
    if run_id is not None and target == "airflow":
        raise ConfigError("--run-id: Airflow names its runs itself; leave it out")
    in_config = [] if target == "airflow" or span is None else [f"data.spans.to={span}"]
    loaded = load(config, [*(set_ or []), *in_config])
    place = WorkDir.of(loaded.config.name, workdir)
    place.create()
    with noise_to(place.logs / "submit.log") as screen, working(f"sending to {target}", screen.err):
        if target == "airflow":
            from pipeline.runners import airflow

            print(airflow.submit(loaded, span=span, overrides=tuple(set_ or ())), file=screen.out)
            return
        files = place.root / "submitted" / target
        _make(files)
        if target == "vertex":
            from pipeline.runners import vertex

            print(vertex.submit(loaded, files, job_id=run_id), file=screen.out)
        else:
            from pipeline.runners import kubeflow

            print(kubeflow.submit(loaded, files, job_id=run_id), file=screen.out)


def check_target(name: str) -> str:
    """Return a target's name in its own spelling.

    Raises:
        ConfigError: there is no such target.
    """
    key = name.lower().replace("_", "").replace("-", "").removesuffix("ai")
    if key in TARGETS:
        return key
    if key == "local":
        raise ConfigError("--target: the local runner needs no compiling; `slipway run` runs the pipeline here")
    near = difflib.get_close_matches(key, TARGETS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"--target: received {name!r}; expected one of {', '.join(TARGETS)}{hint}")


def _make(folder: Path) -> None:
    """Make a folder for the files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} can't be made: {error.strerror}; choose another folder") from error


def _compile(target: str, loaded: LoadedConfig, place: WorkDir, out: Path, schema: str | None) -> list[Path]:
    if target == "airflow":
        from pipeline.runners.airflow import compile_airflow

        return compile_airflow(loaded, place, out)
    if target == "vertex":
        from pipeline.runners.vertex import compile_vertex

        return compile_vertex(loaded, out, schema)
    from pipeline.runners.kubeflow import compile_kubeflow

    return compile_kubeflow(loaded, out)


def _rehearse(
    target: str, loaded: LoadedConfig, spec: Path, folder: Path, timeout: float, write: Callable[[str], object]
) -> int:
    """Run the containers of a specification on this machine; return the exit code."""
    from pipeline.runners.remote import paths_here
    from pipeline.runners.vertex import rehearse

    settings = loaded.config.vertex if target == "vertex" else loaded.config.kubeflow
    result = rehearse(spec, folder, here=paths_here(loaded.config, settings), timeout_seconds=timeout)
    write(f"{result.table()}\n")
    if result.ok:
        return 0
    return 3 if any(task.state == "refused" for task in result.tasks) else 1
