"""The model config file of a rollout: exactly the versions wanted, with the labels `stable` and `canary`.

Comes in: the state, or a base path with published versions. Goes out: `STATE_DIR/models.config`, TensorFlow
Serving's text format, which a model server polls (`--model_config_file_poll_wait_seconds=1`) and reads when it
starts. Called by `slipway serve --rollout=manual` (`ensure`) and by the controller.

Both labels always exist: without a canary both point to the stable version. So a request that was routed a moment
before a rollout ended still finds its label.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving import manifest as manifests
from serving.durable import write_durably
from serving.errors import ManifestError
from serving.traffic import history
from serving.traffic.state import CANARY, STABLE, STATE_FILE, TrafficError, TrafficFile, TrafficState, new_salt
from serving.versions import PublishedVersion, served, versions

CONFIG_FILE = "models.config"
_LOG = logging.getLogger("slipway.serving")


@dataclass(frozen=True)
class Served:
    """What a model server is told: these versions, under these labels."""

    versions: tuple[int, ...]
    labels: Mapping[str, int]


def only_stable(state: TrafficState) -> Served:
    """The stable version alone."""
    return Served((state.stable,), {STABLE: state.stable, CANARY: state.stable})


def both_on_stable(state: TrafficState) -> Served:
    """Both versions loaded, both labels on the stable one."""
    return Served(_pair(state), {STABLE: state.stable, CANARY: state.stable})


def side_by_side(state: TrafficState) -> Served:
    """Both versions, each under its label."""
    assert state.canary is not None, "the caller has a canary"
    return Served(_pair(state), {STABLE: state.stable, CANARY: state.canary})


def both_on_canary(state: TrafficState) -> Served:
    """Both versions loaded, both labels on the canary."""
    assert state.canary is not None, "the caller has a canary"
    return Served(_pair(state), {STABLE: state.canary, CANARY: state.canary})


def _pair(state: TrafficState) -> tuple[int, ...]:
    return tuple(sorted({state.stable, *(() if state.canary is None else (state.canary,))}))


def wanted(state: TrafficState) -> Served:
    """What a model server that starts now has to serve."""
    if state.canary is None:
        return only_stable(state)
    if state.phase == "starting" or state.phase == "aborting":
        return both_on_stable(state)
    return both_on_canary(state) if state.phase == "promoting" else side_by_side(state)


def render(model: str, base_path: str, told: Served) -> str:
    """The config in protobuf's text format (`tensorflow.serving.ModelServerConfig`)."""
    numbers = "".join(f"        versions: {number}\n" for number in told.versions)
    labels = "".join(
        f'    version_labels {{ key: "{label}" value: {number} }}\n' for label, number in sorted(told.labels.items())
    )
    return (
        "model_config_list {\n  config {\n"
        f"    name: {_quoted(model)}\n    base_path: {_quoted(base_path)}\n"
        '    model_platform: "tensorflow"\n'
        f"    model_version_policy {{\n      specific {{\n{numbers}      }}\n    }}\n{labels}  }}\n}}\n"
    )


def _quoted(text: str) -> str:
    """A string of the text format; octal escapes are understood by every reader of it."""
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in os.fsencode(text))
    return f'"{"".join(plain)}"'


def write_config(state_dir: str | os.PathLike[str], text: str) -> bool:
    """Replace the config file if it says something else; the caller holds the lock.

    Returns:
        Whether it was replaced.
    """
    path = Path(state_dir) / CONFIG_FILE
    try:
        if path.read_text("utf-8") == text:
            return False
    except (OSError, UnicodeDecodeError):
        pass  # A damaged file is replaced like a missing one.
    write_durably(path, text)
    return True


def ensure(base_path: str | os.PathLike[str], model_name: str, state_dir: str | os.PathLike[str]) -> Path:
    """Make the state directory fit to start a model server from, and say where the config file is.

    The first time, the newest intact version becomes stable. Later the state is taken up as it was, so that a
    restart changes nothing for users; only a canary that has vanished or was damaged meanwhile is given up.

    Args:
        base_path: Directory of the versions, as `serving.publish` makes it.
        model_name: Name of the model.
        state_dir: Where the state lives; created if missing.

    Raises:
        TrafficError: There is no intact version, the stable one is gone, or the directory belongs to another
            model.
    """
    base, directory = Path(base_path).resolve(), Path(state_dir)
    file = TrafficFile(directory)
    with file.locked():
        if not (directory / STATE_FILE).exists():
            newest = served(base)
            if newest is None:
                raise TrafficError(f"{base} holds no intact version of {model_name!r}; publish a model first.")
            fresh = TrafficState(model=model_name, base_path=str(base), stable=newest.number, salt=new_salt())
            reason = (f"version {newest.number} is the newest intact version",)
            state = fresh.decided("pin", reason, by="serve", now=time.time())
        else:
            state = _taken_up(file.read(), base, model_name)
        file.write(state)
        history.catch_up(directory, state)
        write_config(directory, render(state.model, state.base_path, wanted(state)))
    return directory / CONFIG_FILE


def _taken_up(state: TrafficState, base: Path, model_name: str) -> TrafficState:
    if state.model != model_name:
        raise TrafficError(
            f"the state is of model {state.model!r}, not {model_name!r}; give each model a state directory of its own."
        )
    if state.base_path != str(base):
        _LOG.info("the versions of %s moved from %s to %s", model_name, state.base_path, base)
        state = state.changed(base_path=str(base))
    if problems := version_problems(base, state.stable):
        raise TrafficError(
            f"version {state.stable} of {model_name!r}, which is stable, cannot be served: {'; '.join(problems)}. "
            f"Restore it, or remove {STATE_FILE} from the state directory to pin the newest intact version."
        )
    if state.canary is not None and (problems := version_problems(base, state.canary)):
        reason = tuple(problems)
        gone: dict[str, object] = {"canary": None, "weight": 0.0, "shadow": None, "phase": "idle"}
        return state.decided("rolled-back", reason, by="serve", now=time.time(), **gone)
    return state


def version_problems(base: str | os.PathLike[str], number: int) -> list[str]:
    """Why a version must not be served, one sentence each; reads all of its files. Empty if it is intact."""
    path = Path(base) / str(number)
    if not path.is_dir():
        return [f"version {number} is missing from {base}"]
    try:
        found = manifests.read(path)
        problems = manifests.verify(path, found)
    except (ManifestError, OSError) as error:
        return [str(error)]
    if found.version != number:
        problems.append(f"the manifest of {path} is of version {found.version}")
    return problems


def version_present(base: str | os.PathLike[str], number: int) -> bool:
    """Whether a version's directory is there with its manifest; cheap, for every turn of a loop."""
    return (Path(base) / str(number) / "manifest.json").is_file()


def intact_version(base: str | os.PathLike[str], number: int | None, *, than: int) -> PublishedVersion:
    """The version to try.

    Args:
        base: Directory of the versions.
        number: Which one; by default the newest intact one.
        than: The stable version, which cannot be its own canary.

    Raises:
        TrafficError: It is not there, damaged, or the stable one.
    """
    known = versions(base)
    intact = [version for version in known if version.ok]
    described = _listing(known)
    if number is None:
        newest = max(intact, key=lambda version: version.number, default=None)
        if newest is None or newest.number <= than:
            raise TrafficError(
                f"{base} has no intact version newer than {than}, which is stable; it holds {described}. "
                "Publish a new model, or name an older version to try."
            )
        return newest
    if number == than:
        raise TrafficError(f"version {number} is stable already; there is nothing to try. {base} holds {described}.")
    found = [version for version in known if version.number == number]
    good = next((version for version in found if version.ok), None)
    if good is None and found:
        raise TrafficError(f"version {number} is damaged: {'; '.join(found[0].problems)}. {base} holds {described}.")
    if good is None:
        raise TrafficError(f"version {number} is not published; {base} holds {described}.")
    return good


def _listing(known: Sequence[PublishedVersion]) -> str:
    return ", ".join(f"{v.number}{'' if v.ok else ' (damaged)'}" for v in known) or "no version"


__all__ = [
    "CONFIG_FILE",
    "Served",
    "both_on_canary",
    "both_on_stable",
    "ensure",
    "intact_version",
    "only_stable",
    "render",
    "side_by_side",
    "version_present",
    "version_problems",
    "wanted",
    "write_config",
]
