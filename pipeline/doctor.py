"""`slipway doctor`: what this machine can do, each line with what to do about it.

Nothing comes in; a list of `Check` goes out, to be shown as a table or as JSON. Called by the command line.
Works where TensorFlow or TFX is missing or broken, which is when it is needed: nothing heavy is imported
here, versions are read from the installed metadata, and TensorFlow is asked in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.accelerators import Accelerators, probe_accelerators

if TYPE_CHECKING:
    from rich.console import Console

    from serving.convert.tftrt_probe import TrtStatus

Status = Literal["ok", "missing", "degraded"]

GIGABYTE = 1e9
DISTRIBUTION = "tfx-slipway"
SET_UP = "Run `make setup` in the clone, or `pip install 'tfx-slipway[pipeline]'`."
# name in the table -> distribution
PACKAGES = {
    "TFX": "tfx",
    "TensorFlow": "tensorflow",
    "tf_keras": "tf-keras",
    "TF Transform": "tensorflow-transform",
    "TF Data Validation": "tensorflow-data-validation",
    "TF Model Analysis": "tensorflow-model-analysis",
    "TF-MOT": "tensorflow-model-optimization",
    "TF Serving API": "tensorflow-serving-api",
    "KerasTuner": "keras-tuner",
    "Apache Beam": "apache-beam",
    "ONNX": "onnx",
    "ONNX Runtime": "onnxruntime",
    "OpenVINO": "openvino",
}
NOTABLE_CPU_FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16")


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: what was looked at.
        status: `ok`, `missing`, or `degraded` (there, but not as it should be).
        detail: what was found.
        fix: what to do; empty only where the status is `ok`.
        needed: whether `slipway run` cannot do without it.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""
    needed: bool = False

    def __post_init__(self) -> None:
        if self.status != "ok" and not self.fix:
            raise ValueError(f"the check {self.name!r} is {self.status} and has no fix; expected a sentence")


def check_all() -> list[Check]:
    """Look at everything: 10 s, nearly all of it for TensorFlow's start in its own process."""
    installed = _version("tensorflow") is not None
    found = probe_accelerators() if installed else Accelerators(failure="it is not installed")
    packages = [_unless_it_fails(check, found) for check in check_packages()]
    checks = [
        check_python(),
        *packages,
        check_gpu(found),
        check_tftrt(found),
        check_docker(),
        check_model_server(),
    ]
    return [*checks, *check_data_sets(), check_disk(Path.cwd()), check_memory(), check_cpu()]


def exit_code(checks: Sequence[Check]) -> int:
    """2 if something that `slipway run` needs is missing, else 0."""
    return 2 if any(check.needed and check.status == "missing" for check in checks) else 0


def render(checks: Sequence[Check], console: Console) -> None:
    """Show the table, and below it each fix."""
    from rich.table import Table
    from rich.text import Text

    colors = {"ok": "green", "missing": "red", "degraded": "yellow"}
    table = Table(title="What this machine can do", title_justify="left")
    for heading in ("", "status", "found"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        color = colors[check.status] if check.needed or check.status != "missing" else "yellow"
        table.add_row(Text(check.name), Text(check.status, style=color), Text(check.detail))
    console.print(table)
    for check in checks:
        if check.fix:
            console.print(Text.assemble((check.name, "bold"), f": {check.fix}"), soft_wrap=True)
    ready = exit_code(checks) == 0
    console.print("Everything that `slipway run` needs is here." if ready else "`slipway run` cannot work here yet.")


def to_json(checks: Sequence[Check]) -> str:
    """The checks as JSON, with the verdict `ready`."""
    return json.dumps({"ready": exit_code(checks) == 0, "checks": [asdict(check) for check in checks]}, indent=2)


def check_python(version: tuple[int, int, int] | None = None) -> Check:
    """Python 3.10, the only one that TFX 1.16 and all it needs are built for."""
    found = version or sys.version_info[:3]
    text = ".".join(map(str, found))
    if found[:2] == (3, 10):
        return Check("Python", "ok", f"{text} at {sys.executable}", needed=True)
    return Check("Python", "missing", f"3.10 is needed, this is {text}", "Run `make setup` in the clone.", needed=True)


def check_packages() -> list[Check]:
    """The packages that the pipeline stands on, against the versions that this project names."""
    pins = _pins()
    return [_check_package(name, distribution, pins.get(distribution)) for name, distribution in PACKAGES.items()]


def _check_package(name: str, distribution: str, pin: str | None) -> Check:
    found = _version(distribution)
    if found is None:
        return Check(name, "missing", f"{distribution} is not installed", SET_UP, needed=True)
    if pin and found != pin:
        return Check(name, "degraded", f"{found}, tested with {pin}", SET_UP, needed=True)
    return Check(name, "ok", found, needed=True)


def _unless_it_fails(check: Check, found: Accelerators) -> Check:
    """Installed is not enough for TensorFlow: it must have started in the probe."""
    if check.name != "TensorFlow" or check.status == "missing" or found.tensorflow:
        return check
    return replace(check, status="missing", detail=f"{check.detail}, does not start: {found.failure}", fix=SET_UP)


def _pins() -> dict[str, str]:
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([A-Za-z0-9._-]+)==([^;\s]+)", requirement) for requirement in requirements)
    return {match[1].lower(): match[2] for match in found if match}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_gpu(found: Accelerators, which: Callable[[str], str | None] = shutil.which) -> Check:
    """Whether TensorFlow itself sees a GPU; a driver alone is not enough."""
    if found.gpus:
        return Check("GPU", "ok", ", ".join(found.gpus))
    if found.failure:
        return Check("GPU", "degraded", f"TensorFlow could not be asked: {found.failure}", SET_UP)
    if which("nvidia-smi"):
        fix = "Install TensorFlow's CUDA libraries: `pip install 'tensorflow[and-cuda]==2.16.2'`."
        return Check("GPU", "degraded", "a driver is installed, but TensorFlow sees no GPU", fix)
    fix = "Nothing to do: all stages run on the CPU. For a GPU, use a machine with an NVIDIA card and driver."
    return Check("GPU", "missing", "none", fix)


def check_tftrt(found: Accelerators) -> Check:
    """Where on the ladder to a working TF-TRT this machine stands."""
    if found.tftrt == "ok":
        return Check("TF-TRT", "ok", "engines can be built here")
    fixes: dict[TrtStatus, tuple[Status, str]] = {
        "not_built": ("missing", "Install tensorflow==2.16.2 for Linux x86-64."),
        "no_gpu": (
            "missing",
            "Nothing to do: its variants are skipped. To build them, run on the GPU model that will serve.",
        ),
        "no_libnvinfer": (
            "missing",
            "Install NVIDIA's libnvinfer8 and libnvinfer-plugin8 of that version and put them on LD_LIBRARY_PATH.",
        ),
        "version_mismatch": ("degraded", "Install exactly the version that TensorFlow was built for."),
    }
    status, fix = fixes.get(found.tftrt, ("degraded", SET_UP))
    return Check("TF-TRT", status, f"{found.tftrt}: {found.reason}", fix)


def check_docker() -> Check:
    """Client and engine: the client alone answers `docker --version` and can do nothing."""
    fix = "Nothing to do: no stage needs it. To run the serving image, install Docker and start its engine."
    client = shutil.which("docker")
    if client is None:
        return Check("docker", "missing", "no client", fix)
    code, output = _ask([client, "version", "--format", "{{.Server.Version}}"])
    if code == 0 and output:
        return Check("docker", "ok", f"engine {output.splitlines()[-1]}")
    return Check("docker", "degraded", "the client is here, but no engine answers", fix)


def check_model_server() -> Check:
    """TensorFlow Serving's own program."""
    title, name = "TensorFlow Serving", "tensorflow_model_server"
    program = shutil.which(name)
    if program is None:
        fix = (
            "Nothing to do: `slipway serve` has a server of its own. To serve with the other one, install "
            "TensorFlow Serving's Debian package tensorflow-model-server, version 2.16 or 2.17."
        )
        return Check(title, "missing", f"{name} is not on PATH", fix)
    code, output = _ask([program, "--version"])
    if code == 0 and output:
        return Check(title, "ok", output.splitlines()[0])
    return Check(title, "degraded", f"{program} does not start", f"Run `{program} --version` to see why.")


def _ask(command: list[str], seconds: float = 15.0) -> tuple[int, str]:
    """Exit code and standard output of a program; one that hangs counts as failed."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127, ""
    return done.returncode, done.stdout.strip()


def check_data_sets() -> list[Check]:
    """The built-in data sets that are here without a download."""
    try:
        from transform.sources import fashion_mnist
    except ImportError as error:
        detail = f"cannot be looked for: {error}"
        return [Check(name, "missing", detail, SET_UP) for name in ("digits", "fashion_mnist", "cifar10")]
    return [
        _check_digits(),
        _check_fashion_mnist(fashion_mnist.find_files()),
        _check_cifar10(Path(fashion_mnist.keras_cache())),
    ]


def _check_digits() -> Check:
    spec = importlib.util.find_spec("sklearn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if any(Path(place, "datasets/data/digits.csv.gz").is_file() for place in places):
        return Check("digits", "ok", "inside scikit-learn")
    return Check("digits", "missing", "scikit-learn, which holds it, is not installed", SET_UP)


def _check_fashion_mnist(files: list[str] | None) -> Check:
    if files:
        return Check("fashion_mnist", "ok", os.path.dirname(files[0]))
    fix = "Install the Debian package dataset-fashion-mnist; otherwise the first run downloads it (30 MB)."
    return Check("fashion_mnist", "missing", "not on this machine", fix)


def _check_cifar10(cache: Path) -> Check:
    folder = cache / "cifar-10-batches-bin"
    if (folder / "test_batch.bin").is_file():
        return Check("cifar10", "ok", str(folder))
    fix = "Name a folder that holds it in data.path; otherwise the first run downloads it (170 MB)."
    return Check("cifar10", "missing", f"not in {cache}", fix)


def check_disk(folder: Path) -> Check:
    """Room for runs: one on 70,000 small images leaves about half a gigabyte."""
    free = shutil.disk_usage(folder).free / GIGABYTE
    detail = f"{free:.1f} GB free at {folder}"
    if free >= 5:
        return Check("disk", "ok", detail, needed=True)
    fix = "Make room, or put the run on a larger disk with --workdir."
    return Check("disk", "degraded" if free >= 1 else "missing", detail, fix, needed=True)


def check_memory(meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")) -> Check:
    """Memory that this process may use: the machine's, or its container's where that is less."""
    match = re.search(r"MemTotal:\s+(\d+) kB", _text(meminfo))
    total = int(match[1]) * 1024 / GIGABYTE if match else 0.0
    allowed = _text(limit).strip()
    if allowed.isdigit():
        total = min(total, int(allowed) / GIGABYTE) if total else int(allowed) / GIGABYTE
    if not total:
        return Check("memory", "degraded", "unknown", "Nothing to do if there are 4 GB or more.", needed=True)
    if total >= 4:
        return Check("memory", "ok", f"{total:.1f} GB", needed=True)
    fix = "Use a machine or container with 4 GB or more, or lower train.batch_size and train.cache_mb."
    return Check("memory", "degraded", f"{total:.1f} GB", fix, needed=True)


def check_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Check:
    """Processors this process may use, and the instructions that speed depends on."""
    match = re.search(r"^flags\s*:(.*)$", _text(cpuinfo), re.MULTILINE)
    flags = set(match[1].split()) if match else set()
    count = len(os.sched_getaffinity(0))
    extensions = ", ".join(flag for flag in NOTABLE_CPU_FLAGS if flag in flags)
    detail = f"{count} with {extensions or 'no known extension'}"
    if flags and "avx" not in flags:
        return Check("CPU", "missing", detail, "Use a processor with AVX: TensorFlow needs it to start.", needed=True)
    if "avx2" not in flags or count < 2:
        return Check("CPU", "degraded", detail, "Expect long runs; two processors with AVX2 are better.", needed=True)
    return Check("CPU", "ok", detail, needed=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
