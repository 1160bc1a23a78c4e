"""`slipway serve`, `gateway`, `deploy` and `warmup`: the published model, answering.

Comes in: a work directory or config, and flags. The servers themselves live in `serving`; these commands find what the
pipeline published and start them on it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import lessons
from pipeline.cli.options import ConfigOption, JsonOption, WorkdirOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.workdir import WorkDir

PASS_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""For `slipway serve`: the flags are those of TensorFlow Serving, and read by the model server."""

# `python -m` would look for the package `serving` in the current folder first, which is the user's.
_START = "import runpy, sys; del sys.path[0]; runpy.run_module('serving.server', run_name='__main__', alter_sys=True)"
_REST_PORT, _GRPC_PORT = 8501, 8500
_OWN_DEFAULTS = f"""\
Where no flag names a model, it is what the newest run published, under the pipeline's name, on --port={_GRPC_PORT} and
--rest_api_port={_REST_PORT}. The defaults below are those of TensorFlow Serving."""
_NAMES_MODEL = ("--model_base_path", "--model_config_file", "--platform_config_file")


def serve(context: typer.Context) -> None:
    """Serve the published model as TensorFlow Serving does: [CONFIG | WORKDIR] [FLAGS]; --help lists the flags."""
    words = list(context.args)
    # An argument in the first place that is no flag says what to serve.
    target = Path(words.pop(0)) if words and not words[0].startswith("-") else None
    asked = {word.split("=")[0] for word in words}
    if "--help" in asked:
        typer.echo(f"{lessons.text('serve')}\n\n{_OWN_DEFAULTS}\n")
    elif "--version" not in asked:
        words = _with_model(target, words)
    # A process of its own: the model server imports only what it needs of TensorFlow, and gets signals itself.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-W", "ignore", "-c", _START, *words])


def _with_model(target: Path | None, flags: list[str]) -> list[str]:
    """The flags, and those that say which model is served where they don't."""
    given = {flag.split("=")[0] for flag in flags}
    if given & set(_NAMES_MODEL):
        if target is not None:
            raise ConfigError(f"got {target} and {', '.join(sorted(given & set(_NAMES_MODEL)))}; expected one of them")
        return flags
    from pipeline.locating import find_workdir, last_run, serving_base

    workdir = find_workdir(*_told_apart(target))
    base, name = serving_base(workdir), last_run(workdir).name
    own = {
        "--model_name": name,
        "--model_base_path": str(base),
        "--port": str(_GRPC_PORT),
        "--rest_api_port": str(_REST_PORT),
    }
    if "--rollout=manual" in flags:
        own["--state_dir"] = str(traffic_state(workdir))
    return [*(f"{flag}={value}" for flag, value in own.items() if flag not in given), *flags]


def _told_apart(target: Path | None) -> tuple[Path | None, Path | None]:
    """Config and work directory, of which at most one is meant."""
    if target is None:
        return None, None
    if not target.exists():
        raise ConfigError(f"{target} does not exist; expected a YAML file or a work directory such as runs/digits")
    return (None, target) if target.is_dir() else (target, None)


def gateway(
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    settings: Annotated[Path | None, typer.Option("--settings", help="The gateway's own YAML file.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port (default 8080).")] = None,
    upstream: Annotated[str | None, typer.Option(help="REST address of the model server.")] = None,
) -> None:
    """Put the web page, keys, limits, feedback and the canary's split in front of a model server."""
    from pydantic import ValidationError

    from serving.gateway import config_file
    from serving.gateway.__main__ import serve as serve_gateway
    from serving.gateway.settings import GatewaySettings

    chosen = config_file.load(settings).model_dump(exclude_unset=True)
    if settings is None or config is not None or workdir is not None:
        _about_workdir(chosen, config, workdir)
    for section, key, value in (("listen", "host", host), ("listen", "port", port), ("upstream", "url", upstream)):
        if value is not None:
            chosen.setdefault(section, {})[key] = value
    try:
        checked = GatewaySettings.model_validate(chosen)
    except ValidationError as error:
        raise ConfigError(f"the gateway cannot be set up: {error.errors()[0]['msg']}") from None
    if code := serve_gateway(checked):
        raise typer.Exit(code)


def _about_workdir(chosen: dict[str, Any], config: Path | None, workdir: Path | None) -> None:
    """Fill in what the work directory knows and the settings don't say."""
    from pipeline.locating import find_workdir, last_run

    found = find_workdir(config, workdir)
    name = last_run(found).name
    chosen.setdefault("upstream", {}).setdefault("model", name)
    chosen.setdefault("page", {}).setdefault("title", name)
    chosen.setdefault("data_dir", found.root / "gateway")
    traffic = traffic_state(found)
    if (traffic / "traffic.json").exists():
        chosen.setdefault("traffic", {}).setdefault("state_dir", traffic)


def deploy(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value such as replicas=3 or host=models.example.com."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that were changed by hand.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write Dockerfiles, compose, Kubernetes and KServe files, alerts and a dashboard for the published model."""
    import dataclasses
    import json

    from pipeline.locating import find_workdir, last_run, serving_base
    from serving.deploy.generating import generate
    from serving.deploy.settings import settings

    found = find_workdir(config, workdir)
    values: dict[str, object] = {"name": last_run(found).name, "models": str(serving_base(found))}
    for word in set_ or []:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--set {word}: expected KEY=VALUE, such as --set replicas=3")
        values[_setting(key)] = value
    with working("writing the files"):
        outcome = generate(settings(**values), out, force=force)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(outcome), indent=1))
        return
    typer.echo(f"{out}: {len(outcome.written)} files written, {len(outcome.unchanged)} unchanged")
    typer.echo(f"read {out / 'README.md'} first")


def _setting(key: str) -> str:
    """Return the name of a setting of the files, if there is one.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    import difflib

    from serving.deploy.settings import DeploySettings

    known = sorted(DeploySettings.model_fields)
    if key in known:
        return key
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise ConfigError(f"--set {key}: the files have no such setting{hint} They are {', '.join(known)}")


def warmup(
    logs: Annotated[Path, typer.Argument(help="What `slipway serve --request_log_dir=...` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    model: Annotated[str, typer.Option("--model", help="Name of the model.")],
    count: Annotated[int, typer.Option("--count", help="Most requests, up to 1000.")] = 100,
) -> None:
    """Make a warm-up file of logged requests, for assets.extra/tf_serving_warmup_requests of a version."""
    from serving.server.request_log_records import write_warmup

    with working("reading the log"):
        written = write_warmup(logs, model, out, count)
    typer.echo(f"{out}: {written} requests of {model}")


def traffic_state(workdir: WorkDir) -> Path:
    """Where the state of the canary of a work directory is."""
    return workdir.root / "traffic"
