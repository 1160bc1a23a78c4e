"""A model server that needs no model, and a clock that a test turns."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from serving.traffic.controller import Controller
from serving.traffic.model_servers import ServerError, Standing, Unreachable
from serving.traffic.outcomes import Outcomes
from serving.traffic.rollout import CONFIG_FILE
from serving.traffic.settings import TrafficSettings
from serving.traffic.state import Guards, TrafficState
from serving.traffic.stepping import Listener, Stepper


class Clock:
    """Unix seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeServer:
    """Keeps to the rules of TensorFlow Serving: a label needs an available version, and the old one stays until then.

    With `polls_every` it is told nothing and reads the file at every so many questions, as a server with REST only.

    Args:
        state_dir: Where it finds its configuration when it starts.
        load_turns: How often it is asked before a new version is available.
        address: What it is called.
    """

    def __init__(self, state_dir: Path, *, load_turns: int = 2, address: str = "grpc://fake:8500") -> None:
        self.state_dir, self.load_turns, self.address = state_dir, load_turns, address
        self.loading: dict[int, int] = {}
        self.available: set[int] = set()
        self.broken: dict[int, str] = {}
        self.labels: dict[str, int] = {}
        self.down = False
        self.questions = self.polls_every = 0
        self.calls: list[str] = []
        self.unserved: list[str] = []
        self.on_tell: Callable[[], None] = lambda: None
        self.start()

    def start(self) -> None:
        """Start again with what the file says, everything loaded."""
        versions, labels = parse((self.state_dir / CONFIG_FILE).read_text())
        self.loading, self.available, self.labels = {}, set(versions), labels
        self.calls.append("start")

    def standings(self, label: str | None = None) -> dict[int, Standing]:
        self._up()
        self.questions += 1
        if self.polls_every and self.questions % self.polls_every == 0:
            self._take((self.state_dir / CONFIG_FILE).read_text())
        for version in list(self.loading):
            self.loading[version] -= 1
            if self.loading[version] <= 0:
                del self.loading[version]
                if version not in self.broken:
                    self.available.add(version)
        found = {version: Standing("AVAILABLE") for version in self.available}
        found |= {version: Standing("LOADING") for version in self.loading}
        found |= {
            version: Standing("END", text) for version, text in self.broken.items() if version not in self.loading
        }
        if label is None:
            return found
        return {self.labels[label]: found[self.labels[label]]} if label in self.labels else {}

    def tell(self, config: str) -> None:
        self._up()
        if not self.polls_every:
            self._take(config)

    def _take(self, config: str) -> None:
        versions, labels = parse(config)
        unavailable = [label for label, version in labels.items() if version not in self.available]
        if unavailable:
            raise ServerError(f"FAILED_PRECONDITION: labels {unavailable} point to versions that are not available")
        self.labels = labels
        for version in set(versions) - self.available - set(self.loading):
            self.loading[version] = self.load_turns
        self.available &= set(versions)
        self.calls.append(f"{versions} {labels['stable']} {labels['canary']}")
        if not set(self.labels.values()) <= self.available:
            self.unserved.append(self.calls[-1])
        self.on_tell()

    def answer(self, label: str) -> int:
        """The version that answers a label; fails as a request would."""
        self._up()
        version = self.labels[label]
        assert version in self.available, f"{label} points to {version}, which is not available"
        return version

    def _up(self) -> None:
        if self.down:
            raise Unreachable(self.address, "UNAVAILABLE: Connection refused")


def parse(config: str) -> tuple[list[int], dict[str, int]]:
    """Versions and labels of a config, from its text."""
    versions = [int(number) for number in re.findall(r"versions: (\d+)", config)]
    labels = {key: int(value) for key, value in re.findall(r'key: "(\w+)" value: (\d+)', config)}
    return versions, labels


class Scene:
    """A state directory, a server, a clock and counters of answers."""

    def __init__(self, state_dir: Path, *, steps: tuple[float, ...] = (0.05, 0.25, 0.5, 1.0), **guards: object) -> None:
        self.state_dir, self.clock = state_dir, Clock()
        self.settings = TrafficSettings(
            state_dir=state_dir,
            steps=steps,
            guards=Guards.model_validate({"minimum_samples": 200, "minimum_seconds": 30, **guards}),
            load_timeout_seconds=60,
        )
        self.server = FakeServer(state_dir)
        self.seen: list[TrafficState] = []
        self.controller = self.another()
        self.outcomes = Outcomes(state_dir, flush_seconds=0)

    def another(self, *, by: str = "command", listeners: tuple[Listener, ...] = ()) -> Controller:
        """A controller of another process."""
        stepper = Stepper(
            self.settings,
            servers=[self.server],
            listeners=[self.seen.append, *listeners],
            by=by,
            clock=self.clock,
        )
        return Controller(self.settings, stepper, sleep=self.clock.sleep)

    @property
    def state(self) -> TrafficState:
        return self.controller.stepper.file.read()

    def answers(self, label: str, version: int, count: int, **given: object) -> None:
        """Count answers of a version: `failures` of them failed, in `milliseconds`, of `classes` in turn."""
        failures = int(given.get("failures", 0))  # type: ignore[call-overload]
        classes = given.get("classes", (0, 1, 2))
        for number in range(count):
            ok = number >= failures
            slow = 1.0 + (number % 20) / 20
            self.outcomes.record(
                label,
                version,
                ok,
                200 if ok else 500,
                float(given.get("milliseconds", 10.0)) * slow,  # type: ignore[arg-type]
                classes[number % len(classes)],  # type: ignore[arg-type, index]
                0.5 + 0.4 * ((number * 7 % 100) / 100) - float(given.get("doubt", 0.0)),  # type: ignore[arg-type]
                f"request-{label}-{number}",
            )
        self.outcomes.flush()
