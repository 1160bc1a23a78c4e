"""Command line of the model server, read as TensorFlow's flag library reads it, but strictly.

Comes in: the arguments. Goes out: `ParsedFlags`. Called by `serving.server.running` and `slipway serve`.

A value is given as `--name=value`; a boolean also bare. Of a flag that stands twice the last one counts. What
TensorFlow's library would pass over with a message (an unknown flag, a value in the next argument) is an error here.
"""

from __future__ import annotations

import difflib
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from serving.errors import ServingError
from serving.server.config.flag_table import FLAGS, Effect, Flag, Value

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}\Z")
_LIMITS = {"int32": 2**31, "int64": 2**63}


class FlagError(ServingError):
    """A command line that the server does not understand."""


@dataclass(frozen=True)
class ParsedFlags:
    """Values of the flags that were given; the others have their defaults.

    Attributes:
        given: Value by name, in the order of the command line.
    """

    given: Mapping[str, Value] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Value:
        """Value of a flag, or its default."""
        return self.given[name] if name in self.given else FLAGS[name].default

    def __contains__(self, name: str) -> bool:
        """Whether the flag was given."""
        return name in self.given

    def text(self, name: str) -> str:
        """Value of a text flag."""
        return str(self[name])

    def integer(self, name: str) -> int:
        """Value of an integer flag whose default is not computed."""
        value = self[name]
        assert isinstance(value, int)
        return value

    def number(self, name: str) -> float:
        """Value of a floating-point flag."""
        value = self[name]
        assert isinstance(value, (int, float))
        return float(value)

    def boolean(self, name: str) -> bool:
        """Value of a boolean flag."""
        return self[name] is True

    def without_effect(self) -> Iterator[Flag]:
        """Flags that were given another value than the default, although they change nothing here."""
        for name, value in self.given.items():
            if FLAGS[name].effect is Effect.NOTHING and value != FLAGS[name].default:
                yield FLAGS[name]


def parse(arguments: Sequence[str]) -> ParsedFlags:
    """Read a command line without the program's name.

    Raises:
        FlagError: A flag is unknown, its value is missing or of another type, or an argument is no flag.
    """
    given: dict[str, Value] = {}
    for argument in arguments:
        flag, text = _split(argument)
        given.pop(flag.name, None)
        given[flag.name] = _value(flag, text)
    return ParsedFlags(given)


def check_supported(flags: ParsedFlags) -> None:
    """Refuse values that the embedded server cannot honor.

    Raises:
        FlagError: A flag that accepts only its default was given another value.
    """
    for name, value in flags.given.items():
        flag = FLAGS[name]
        if flag.effect is Effect.DEFAULT_ONLY and value != flag.default:
            raise FlagError(
                f"--{name}={_shown(value)} cannot be honored by the embedded server: {flag.reason}. "
                f"Leave the flag out, or run the real server with --engine=tfserving."
            )


def _split(argument: str) -> tuple[Flag, str | None]:
    """Flag of an argument and the text of its value; None for a bare flag."""
    if not argument.startswith("--") or argument == "--":
        raise FlagError(f"{argument!r} is no flag; expected --name=value (a value stands behind `=`, with no space).")
    name, equals, text = argument[2:].partition("=")
    if name in FLAGS:
        return FLAGS[name], text if equals else None
    if name.startswith("no") and name[2:] in FLAGS and FLAGS[name[2:]].kind == "bool":
        raise FlagError(f"unknown flag --{name}; to turn it off write --{name[2:]}=false.")
    normalized = name.replace("-", "_").lower()
    near = [normalized] if normalized in FLAGS else difflib.get_close_matches(normalized, FLAGS, n=1, cutoff=0.5)
    hint = f"; did you mean --{near[0]}?" if near else "."
    raise FlagError(f"unknown flag --{name}{hint} --help lists all {len(FLAGS)} flags.")


def _value(flag: Flag, text: str | None) -> Value:
    if flag.kind == "bool":
        if text is None or text == "true":
            return True
        if text == "false":
            return False
        raise FlagError(f"--{flag.name} is {text!r}, expected true or false.")
    if text is None:
        raise FlagError(f"--{flag.name} has no value; write --{flag.name}=VALUE.")
    if flag.kind == "string":
        if flag.choices and text not in flag.choices:
            raise FlagError(f"--{flag.name} is {text!r}, expected {' or '.join(flag.choices)}.")
        return text
    return _float(flag, text) if flag.kind == "float" else _integer(flag, text)


def _integer(flag: Flag, text: str) -> int:
    limit = _LIMITS[flag.kind]
    if not _INTEGER.match(text) or not -limit <= int(text) < limit:
        raise FlagError(f"--{flag.name} is {text!r}, expected an integer of {flag.kind[3:]} bits.")
    return int(text)


def _float(flag: Flag, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FlagError(f"--{flag.name} is {text!r}, expected a number.")
    return value


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def usage(program: str = "slipway serve") -> str:
    """Help text: the flags of TensorFlow Serving, then ours, with types and defaults."""
    lines = [
        f"usage: {program} [--name=value ...]",
        "",
        "Serves TensorFlow models over gRPC and REST with the contract of TensorFlow Serving 2.16.",
        "",
        "Flags of tensorflow_model_server:",
    ]
    lines += [line for flag in FLAGS.values() if not flag.own for line in _describe(flag)]
    lines += ["", "Flags of Slipway:"]
    lines += [line for flag in FLAGS.values() if flag.own for line in _describe(flag)]
    return "\n".join(lines) + "\n"


def _describe(flag: Flag) -> list[str]:
    default = "" if flag.default is None or flag.default == "" else f" (default {_shown(flag.default)})"
    choices = f" One of {', '.join(flag.choices)}." if flag.choices else ""
    note = "" if flag.effect is Effect.APPLIES else f" [{flag.effect.value}: {flag.reason}]"
    text = f"{flag.help}{choices}{note}{default}"
    return [
        f"  --{flag.name}  {flag.kind}",
        *textwrap.wrap(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6),
    ]
