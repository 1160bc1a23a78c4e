"""`slipway canary`: a new version, tried on some users before all of them get it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigOption, JsonOption, WorkdirOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from serving.traffic.commands import CanaryStatus
    from serving.traffic.settings import TrafficSettings

app = typer.Typer(help="A new version on trial: start, watch, promote, abort.", no_args_is_help=True)

ServerOption = Annotated[
    list[str] | None,
    typer.Option("--server", help="Address of a model server, such as grpc://127.0.0.1:8500 (repeatable)."),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", help="YAML with guards and steps (default: traffic.yaml in the state directory)."),
]


@app.command()
def start(
    version: Annotated[
        int | None,
        typer.Argument(help="Version to try (default: the newest).", autocompletion=completing.versions),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option("--weight", min=0, max=1, help="Share of the users; repeated, the steps of the rollout."),
    ] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Ask it too for the other users, and compare.")] = False,
    manual: Annotated[bool, typer.Option("--manual", help="Promote and roll back by command only.")] = False,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    server: ServerOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load a version beside the stable one, and send some users there once it answers."""
    from serving.traffic import commands

    found = _settings(config, workdir, server, settings)
    with working("loading the version beside the stable one"):
        started = commands.start(found, version, steps=weight, shadow=shadow, automatic=False if manual else None)
    _show(started, as_json)


@app.command()
def status(
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    server: ServerOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who answers whom, what the guards say and which version is better."""
    from serving.traffic import commands

    found = _settings(config, workdir, server, settings)
    with working("asking the model servers"):
        standing = commands.status(found)
    _show(standing, as_json)


@app.command()
def promote(
    force: Annotated[bool, typer.Option("--force", help="Also against the guards.")] = False,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    server: ServerOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the canary to everybody."""
    from serving.traffic import commands

    found = _settings(config, workdir, server, settings)
    with working("giving the canary to everybody"):
        promoted = commands.promote(found, force=force)
    _show(promoted, as_json)


@app.command()
def abort(
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "by command",
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    server: ServerOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give everybody back the stable version."""
    from serving.traffic import commands

    found = _settings(config, workdir, server, settings)
    with working("giving everybody back the stable version"):
        aborted = commands.abort(found, reason=reason)
    _show(aborted, as_json)


@app.command("rollback")
def roll_back(
    to: Annotated[int | None, typer.Option("--to", help="Version (default: the one that was stable before).")] = None,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    server: ServerOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an earlier version stable again, after a promotion that was regretted."""
    from serving.traffic import commands

    found = _settings(config, workdir, server, settings)
    with working("loading the earlier version, and giving it to everybody"):
        rolled_back = commands.roll_back(found, to)
    _show(rolled_back, as_json)


@app.command()
def watch(
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    server: ServerOption = None,
    settings: SettingsOption = None,
) -> None:
    """Carry rollouts on by themselves until interrupted: next steps, promotion, roll-back."""
    import signal
    import threading

    from serving.traffic import controller

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    controller.watch(_settings(config, workdir, server, settings), stop)


def _settings(
    config: Path | None, workdir: Path | None, server: list[str] | None, settings: Path | None
) -> TrafficSettings:
    from pipeline.cli.serving import traffic_state
    from pipeline.locating import find_workdir
    from serving.traffic.commands import find_settings

    if settings is not None and config is None and workdir is None:
        return find_settings(None, settings, server)
    state_dir = traffic_state(find_workdir(config, workdir))
    if not (state_dir / "traffic.json").exists():
        raise ConfigError(
            f"{state_dir} holds no state of a rollout; start the model server with `slipway serve --rollout=manual`, "
            "which stays on the version in service until a canary is promoted"
        )
    return find_settings(state_dir, settings, server)


def _show(status: CanaryStatus, as_json: bool) -> None:
    from pipeline.cli.runs_screen import console
    from serving.traffic.terminal import status_table

    if as_json:
        typer.echo(json.dumps(status.to_dict(), indent=1))
    else:
        console().print(status_table(status))
