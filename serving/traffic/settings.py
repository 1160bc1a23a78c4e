"""Settings of the controller, from a YAML file.

Comes in: a file, or keyword arguments. Goes out: a frozen `TrafficSettings`, strict on unknown keys. Called by the
command line, `python -m serving.traffic watch` and the gateway.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from serving.traffic.state import Guards, Share, TrafficError


class TrafficSettings(BaseModel):
    """Where the model servers are and how a canary is rolled out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_dir: Path
    """Directory with `traffic.json` and `models.config`, as `slipway serve --rollout=manual` makes it."""
    servers: Annotated[tuple[str, ...], Field(min_length=1)] = ("http://127.0.0.1:8501",)
    """Every model server: grpc://host:8500 to tell it at once, http://host:8501 if it polls the config file."""
    steps: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.05, 0.25, 0.5, 1.0)
    """Shares of the users on the canary, one after the other; 0 is for shadow traffic only."""
    automatic: bool = True
    """Whether the controller advances, promotes and rolls back by itself."""
    guards: Guards = Field(default_factory=Guards)
    """Limits that a canary must keep to."""
    poll_seconds: float = Field(1.0, gt=0)
    """How often the controller looks."""
    load_timeout_seconds: float = Field(600.0, gt=0)
    """How long a canary may take to load; TensorFlow Serving itself tries again for several minutes."""
    lost_seconds: float = Field(30.0, gt=0)
    """How long a server that answers may lack the canary before it is given up; a restart takes some seconds."""
    call_timeout_seconds: float = Field(5.0, gt=0)
    """Limit of one question to a model server."""
    proxy: Path | None = None
    """Settings of the Envoy proxy whose weights follow; None if the gateway splits the traffic."""

    @field_validator("servers")
    @classmethod
    def _servers_are_addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        from serving.client.address import parse_address

        for address in addresses:
            parse_address(address)
        return addresses

    @field_validator("steps")
    @classmethod
    def _steps_grow(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
            raise ValueError(f"steps are {steps}; each must be larger than the one before")
        return steps

    def with_steps(self, steps: Sequence[float]) -> TrafficSettings:
        """The same with other steps.

        Raises:
            TrafficError: They are no growing shares.
        """
        return checked_settings({**self.model_dump(), "steps": tuple(steps)}, "the steps")


def load_settings(path: str | os.PathLike[str]) -> TrafficSettings:
    """Read settings; relative paths in them start at the file's directory.

    Raises:
        TrafficError: The file cannot be read, is no YAML, or has an unknown key or a value that makes no sense.
    """
    from ruamel.yaml import YAML, YAMLError

    file = Path(path)
    try:
        values = YAML(typ="safe").load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise TrafficError(
            f"{file} cannot be read: {error}. Expected YAML with the settings of the traffic."
        ) from error
    if not isinstance(values, dict):
        raise TrafficError(f"{file} holds {type(values).__name__}; expected a mapping with at least `state_dir`.")
    for key in ("state_dir", "proxy"):
        if isinstance(values.get(key), str):
            values[key] = str(file.resolve().parent / values[key])
    return checked_settings(values, str(file))


def checked_settings(values: dict[str, Any], source: str = "the settings") -> TrafficSettings:
    """Build settings from plain values.

    Raises:
        TrafficError: A key is unknown or a value makes no sense; all problems are listed.
    """
    try:
        return TrafficSettings.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        known = ", ".join(TrafficSettings.model_fields)
        raise TrafficError(f"{source} cannot be used:\n{problems}\nKnown keys: {known}.") from error
