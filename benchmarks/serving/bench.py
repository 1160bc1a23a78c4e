"""`make bench`: what serving costs, CPU time of the server for each request beside wall time.

Measures the bare Session call in a process of its own, the embedded server, its HTTP part alone with a constant of the
same size for an answer, and the servers one would use instead, all interleaved in one run. What is compared with each
other is measured one after another, and a ratio is the median of the rounds' own ratios: on a shared machine a minute
may differ from the next by a factor of two. Clients are wrk and h2load. Writes one row for each cell and round to
`benchmarks/results/serving.csv`, with machine, date and what else kept the cores busy.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.serving import load, servers
from serving.measure.machine import describe

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "serving.csv"
FIELDS = (
    "date", "cpu", "cores", "load", "others_cpu", "stolen_cpu", "round", "what", "payload", "clients", "requests",
    "errors", "rps", "p50_ms", "p95_ms", "p99_ms", "cpu_us",
)  # fmt: skip
_BUSY = 0.25  # Share of the cores that others may use before the figures are called doubtful.


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a server or the bare call, a payload, and how many clients (bare call: batch size)."""

    what: str
    payload: str
    clients: int

    @property
    def name(self) -> str:
        """All three in words."""
        return f"{self.what} {self.payload} {self.clients}"


class InProcess:
    """The bare Session call, in a child process."""

    def __init__(self, directory: Path) -> None:
        """Start the child and wait until it has loaded the model."""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.serving.in_process", str(directory)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        if self._answer().strip() != "ready":
            raise SystemExit("the process of the bare call did not start")

    def measure(self, cell: Cell, seconds: float) -> tuple[load.Outcome, float]:
        """Call for some time; the outcome and the CPU seconds."""
        assert self.process.stdin is not None
        print(cell.payload, cell.clients, seconds, file=self.process.stdin, flush=True)
        found = json.loads(self._answer())
        p50, p95, p99 = np.percentile(found["latencies"], [50, 95, 99])
        return load.Outcome(found["requests"], 0, found["wall"], p50, p95, p99), found["cpu"]

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def stop(self) -> None:
        """End the child."""
        self.process.kill()
        self.process.wait()


class Bench:
    """All servers, and the rows measured so far."""

    def __init__(self, scratch: Path, seconds: float) -> None:
        """Measure each cell for `seconds`; files go to `scratch`."""
        self.rows: list[dict[str, object]] = []
        self.scratch = scratch
        self._seconds = seconds
        self._machine = {"date": time.strftime("%Y-%m-%d"), "cpu": describe(1)["cpu"], "cores": os.cpu_count()}
        self.servers: dict[str, servers.Server] = {}
        self.bodies: dict[str, list[Path]] = {}
        self.in_process: InProcess | None = None

    def cells(self) -> Iterator[Cell]:
        """What one round measures; cells of one payload and one number of clients follow each other."""
        for clients in (1, 8, 32):
            for kind in ("image", "float"):
                if clients != 8:
                    yield Cell("Session call", kind, clients)
                for server in self.servers.values():
                    for payload in server.urls:
                        if payload.endswith(kind):
                            yield Cell(server.name, payload, clients)

    def warm_up(self, cell: Cell) -> None:
        """Load a server as for a measurement and forget it: each new batch size is compiled at its first use."""
        if cell.what in self.servers:
            url = self.servers[cell.what].urls[cell.payload]
            load.run(cell.payload, url, self.bodies[cell.payload], cell.clients, self._seconds, self.scratch)

    def measure(self, cell: Cell, number: int) -> None:
        """Measure a cell and keep the row."""
        start, (busy, stolen) = time.monotonic(), _used_seconds()
        load_average = os.getloadavg()[0]
        if cell.what == "Session call":
            assert self.in_process is not None
            outcome, cpu = self.in_process.measure(cell, self._seconds)
            own = cpu
        else:
            server = self.servers[cell.what]
            bodies, url = self.bodies[cell.payload], server.urls[cell.payload]
            start, (busy, stolen) = time.monotonic(), _used_seconds()
            cpu, children = server.cpu_seconds(), _children_seconds()
            outcome = load.run(cell.payload, url, bodies, cell.clients, self._seconds, self.scratch)
            cpu = server.cpu_seconds() - cpu
            own = cpu + _children_seconds() - children
        (busy_now, stolen_now), whole = _used_seconds(), (time.monotonic() - start) * (os.cpu_count() or 1)
        others = max((busy_now - busy - own) / whole, 0.0)
        self._keep(cell, number, outcome, cpu, load_average, (others, (stolen_now - stolen) / whole))

    def _keep(
        self,
        cell: Cell,
        number: int,
        outcome: load.Outcome,
        cpu: float,
        load_average: float,
        taken: tuple[float, float],
    ) -> None:
        """Make the row; `taken` are the shares of the cores that other processes and the host took."""
        others, stolen = taken
        # Nothing finished: a share of unfinished work is no cost of a request.
        micros = round(1e6 * cpu / outcome.requests) if outcome.requests else ""
        figures = {
            "rps": round(outcome.requests / outcome.seconds, 1), "p50_ms": round(outcome.p50, 2),
            "p95_ms": round(outcome.p95, 2), "p99_ms": round(outcome.p99, 2), "cpu_us": micros,
        }  # fmt: skip
        row: dict[str, object] = {
            **self._machine, "load": round(load_average, 2), "others_cpu": round(others, 2),
            "stolen_cpu": round(stolen, 2), "round": number, "what": cell.what, "payload": cell.payload,
            "clients": cell.clients, "requests": outcome.requests, "errors": outcome.errors, **figures,
        }  # fmt: skip
        self.rows.append(row)
        words = ", ".join(f"{key} {value}" for key, value in figures.items())
        print(
            f"{number} {cell.name}: {words}, errors {outcome.errors}, others {others:.0%}, host {stolen:.0%}",
            flush=True,
        )

    def by_round(self, what: str, payload: str, clients: int, field: str = "cpu_us") -> dict[object, float]:
        """A figure of a cell in each round in which it is known."""
        wanted = (what, payload, clients)
        found = [row for row in self.rows if (row["what"], row["payload"], row["clients"]) == wanted]
        return {row["round"]: float(str(row[field])) for row in found if row[field] != ""}

    def write(self, path: Path) -> None:
        """Replace the results file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(self.rows)


def summarize(bench: Bench) -> None:
    """Print the ratios that the project promises."""
    for payload, base, target in (
        ("REST image", "image", 1.5), ("gRPC image", "image", 2.5),
        ("gRPC float", "float", 2.5), ("REST float", "float", 2.5),
    ):  # fmt: skip
        name = f"CPU of {payload} at 32 clients / Session call"
        _ratio(name, bench.by_round("slipway", payload, 32), bench.by_round("Session call", base, 32), target)
    others = [(name, "REST image", "REST image", 30) for name in servers.FASTAPI]
    for what, payload, ours, least in (*others, ("MLServer", "V2 float", "REST float", 3)):
        for clients in (1, 8, 32):
            name = f"CPU of {what}, {payload} at {clients} clients / slipway"
            cost = bench.by_round("slipway", ours, clients)
            _ratio(name, bench.by_round(what, payload, clients), cost, least, least=True)
    for kind in ("image", "float"):
        _latency(bench, kind)
    p50, p99 = (bench.by_round("slipway", "REST float", 8, field) for field in ("p50_ms", "p99_ms"))
    _ratio("p99 / p50 of REST float at 8 clients", p99, p50, 10)
    doubtful = [row for row in bench.rows if float(str(row["others_cpu"])) + float(str(row["stolen_cpu"])) > _BUSY]
    if doubtful:
        print(
            f"{len(doubtful)} of {len(bench.rows)} cells were measured while others used the cores: not to be trusted"
        )


def _latency(bench: Bench, kind: str) -> None:
    """Compare p50 at one client with that of the direct call and of HTTP alone together."""
    payload = f"REST {kind}"
    direct = bench.by_round("Session call", kind, 1, "p50_ms")
    http = bench.by_round(servers.CONSTANT, payload, 1, "p50_ms")
    both = {number: direct[number] + http[number] for number in direct.keys() & http.keys()}
    name = f"p50 of {payload} at 1 client / (Session call + HTTP alone)"
    _ratio(name, bench.by_round("slipway", payload, 1, "p50_ms"), both, 1.3)


def _ratio(
    name: str, value: Mapping[object, float], base: Mapping[object, float], target: float, least: bool = False
) -> None:
    """Print the median of the rounds' ratios, their range, and the medians that they were made of."""
    rounds = [number for number in value if base.get(number)]
    if not rounds:
        return
    ratios = [value[number] / base[number] for number in rounds]
    above, below = (statistics.median(figures[number] for number in rounds) for figures in (value, base))
    word = "at least" if least else "at most"
    print(
        f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; medians {above:g} and "
        f"{below:g}; target {word} {target:g})"
    )


def _used_seconds() -> tuple[float, float]:
    """CPU time that all processes of the machine have used so far, and what a host of virtual machines kept from it."""
    user, nice, system, _, _, irq, soft, stolen = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    )
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + soft) / ticks, stolen / ticks


def _children_seconds() -> float:
    """CPU time of the clients that have ended, and of this process."""
    times = os.times()
    return times.children_user + times.children_system + times.user + times.system


def set_up(bench: Bench, stack: ExitStack, options: argparse.Namespace) -> None:
    """Export the model, start what is measured and write the bodies."""
    directory = bench.scratch / "cnn" / "1"
    directory.parent.mkdir()
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.serving.model", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    bench.in_process = InProcess(directory)
    stack.callback(bench.in_process.stop)
    if options.in_process_only:
        return
    load.require_programs()
    pictures = [file.read_bytes() for file in sorted((directory / "assets.extra" / "pictures").iterdir())]
    pixels = np.random.default_rng(7).random((len(pictures), 32, 32, 3), dtype=np.float32)
    (bench.scratch / "bodies").mkdir()
    bench.bodies = load.write_bodies(bench.scratch / "bodies", pictures, pixels)
    started = [servers.start_slipway(directory.parent, bench.scratch / "slipway.log")]
    for name, keras in servers.FASTAPI.items():
        started.append(servers.start_fastapi(name, directory, bench.scratch / f"fastapi-{keras}.log"))
    if options.mlserver is None:
        print("MLServer is skipped: no --mlserver DIRECTORY for its environment was given")
    else:
        environment = options.mlserver.absolute()
        own = bench.scratch / "mlserver"
        own.mkdir()
        started.append(servers.start_mlserver(directory, environment, own, bench.scratch / "mlserver.log"))
    for server in started:
        stack.callback(server.stop)
    for server in started:
        server.wait_until_ready()
    answer = bench.scratch / "answer.json"
    answer.write_bytes(servers.ask(started[0].urls["REST image"], bench.bodies["REST image"][0].read_bytes()))
    started.insert(1, servers.start_constant(answer, bench.scratch / "constant.log"))
    stack.callback(started[1].stop)
    started[1].wait_until_ready()
    bench.servers = {server.name: server for server in started}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each cell is measured")
    parser.add_argument("--seconds", type=float, default=5, help="how long each cell is measured")
    parser.add_argument("--mlserver", type=Path, help="environment for MLServer, made with uv if it is not there")
    parser.add_argument("--in-process-only", action="store_true", help="measure the bare call only, write no results")
    parser.add_argument("--only", default="", help="measure only cells whose name contains this; several with commas")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    bench = Bench(scratch, options.seconds)
    with ExitStack() as stack:
        set_up(bench, stack, options)
        parts = options.only.split(",")
        cells = [cell for cell in bench.cells() if any(part in cell.name for part in parts)]
        for cell in cells:
            bench.warm_up(cell)
        for number in range(1, options.rounds + 1):
            for cell in cells:
                if cell.what == "Session call" or cell.what in bench.servers:
                    bench.measure(cell, number)
            if not options.in_process_only and not options.only:
                bench.write(RESULTS)
        summarize(bench)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
