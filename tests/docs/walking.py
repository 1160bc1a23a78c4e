"""What the pages tell a reader to type, taken out of them, and a folder in which to type it.

`test_walk` runs the lines. In the folder stand the files that the pages speak of (`my.yaml`, `path/to/images`,
`picture.jpg`), and one small run has been made whose results all pages share.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.cli.app import run

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = {"sh", "bash", "shell", "console", ""}
CALL = re.compile(r"(?:\$ )?(?:\.venv/bin/)?slipway (.*)")

SERVERS = {
    "serve": "curl",
    "gateway": "is ready",
    "watch": "watching",
}
"""Commands that stay in the foreground, and what they print when they are ready."""

SAME = {
    "runs/my": "runs/images", "my.yaml": "images.yaml",  # pages call the one folder and config by several names
    " --no-open": "",  # nobody opens a browser here
    " --rollout=manual": "",  # one server serves for both: starting another takes ten seconds of CPU
}  # fmt: skip
"""What makes no difference between two commands, of which one is typed."""


def lines_to_type(page: Path) -> list[str]:
    """Return what stands in the shell blocks of a page, without comments; long lines are joined."""
    text = page.read_text(encoding="utf-8")
    fenced = [block for kind, block in FENCE.findall(text) if kind in SHELLS and not _is_drawing(block)]
    indented = re.findall(r"(?:^ {4}.*\n)+", FENCE.sub("", text), re.MULTILINE)
    blocks = [*fenced, *(block for block in indented if not block.lstrip().startswith(("from ", "with ", "import ")))]
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()) if line]


def _is_drawing(block: str) -> bool:
    return any(sign in block for sign in "─│└")


def pieces(page: Path, kind: str) -> list[str]:
    """Return the snippets of a language in a page."""
    text = page.read_text(encoding="utf-8")
    found = [block for name, block in FENCE.findall(text) if name == kind]
    if kind == "python":
        indented = re.findall(r"(?:^ {4}.*\n|^\n)+", FENCE.sub("", text), re.MULTILINE)
        found += [
            "".join(line[4:] or "\n" for line in block.strip("\n").splitlines(keepends=True))
            for block in indented if block.lstrip().startswith(("from ", "import "))
        ]  # fmt: skip
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Walk:
    """A reader's folder, what they have typed in it, and the servers that they have left running."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in ("rest", "grpc", "page")})
    done: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    @classmethod
    def prepared(cls, folder: Path, pictures: Path) -> Walk:
        """Return a folder with everything that the pages speak of, after one small run."""
        walk = cls(folder)
        for name in ("images", "flowers"):
            shutil.copytree(pictures, folder / "path" / "to" / name)
        shutil.copy(next((pictures / "circle").glob("*.jpg")), folder / "picture.jpg")
        assert run(["init", "path/to/images", "--out", "my.yaml"]) == 0
        walk.make_small(folder / "my.yaml")
        (folder / "configs").mkdir()
        for name in ("shapes.yaml", "configs/digits.yaml"):
            shutil.copy(folder / "my.yaml", folder / name)
        assert run(["run", "my.yaml", "--quiet"]) == 0
        (folder / "runs" / "my").symlink_to("images")
        return walk

    def make_small(self, config: Path) -> None:
        """Turn what `init` has written into a run of seconds: few epochs, gates that anything passes, one form."""
        yaml = YAML()
        tree = yaml.load(config.read_text(encoding="utf-8"))
        tree["name"] = "images"
        tree["data"]["source"] = str(self.folder / "path" / "to" / "images")
        tree["transform"]["size"] = [16, 16]
        tree["train"].update(epochs=1, augment=[])
        tree["evaluate"]["gates"] = {"accuracy": {"min": 0.01}}
        tree["compress"] = {
            "variants": ["tflite_float16"], "rounds": 3, "personalization": False,
            "budget": {"max_accuracy_drop": 1.0, "max_worst_class_drop": 1.0, "min_top1_agreement": 0.1},
        }  # fmt: skip
        tree["vertex"] = {
            "project": "my-project", "region": "europe-west4", "root": "gs://my-bucket/slipway",
            "image": "europe-docker.pkg.dev/my-project/slipway/pipeline:1", "data_source": "gs://my-bucket/pictures",
        }  # fmt: skip
        tree["kubeflow"] = {
            "host": "http://localhost:8080", "image": "example.org/slipway:1", "root": "minio://mlpipeline/slipway",
            "volume": "slipway", "data_source": "minio://mlpipeline/pictures",
        }  # fmt: skip
        with config.open("w", encoding="utf-8") as stream:
            yaml.dump(tree, stream)

    def type(self, line: str, changes: dict[str, str]) -> None:
        """Do what a line says.

        Args:
            line: as it stands in the page.
            changes: texts in it and what takes their place here.
        """
        for name, value in self.variables.items():
            line = line.replace(f"${name}", value)
        for before, after in {**changes, **self._addresses()}.items():
            line = line.replace(before, after)
        if assignment := re.fullmatch(r"(\w+)=(\S+)", line):
            self.variables[assignment[1]] = assignment[2]
            return
        call = CALL.fullmatch(line)
        assert call is not None, f"{line!r}: nothing here runs this"
        key = call[1]
        for before, after in SAME.items():
            key = key.replace(before, after)
        if key in self.done:
            return
        self.done.add(key)
        self._slipway([os.path.expanduser(word) for word in shlex.split(call[1])])

    def _addresses(self) -> dict[str, str]:
        return {f":{usual}": f":{self.ports[name]}" for usual, name in (("8501", "rest"), ("8500", "grpc"))}

    def _slipway(self, words: list[str]) -> None:
        if words[0] in ("serve", "gateway") or (words[0] == "watch" and "--once" not in words):
            self._start(words)
            return
        if words[0] == "canary":
            if words[1] == "start":
                self._publish_another()
            usual = [] if "--server" in words else ["--server", f"http://127.0.0.1:{self.ports['rest']}"]
            self._run_apart([*words, *usual])
            return
        if words[0] == "report" and "--no-open" not in words:
            words = [*words, "--no-open"]
        assert run(words) == 0, words
        if words[0] == "init":
            self.make_small(Path(f"{Path(words[1]).name}.yaml"))

    def _run_apart(self, words: list[str]) -> None:
        """Run a command as a process of its own, as it takes over signals or threads."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "pipeline", *words], cwd=self.folder, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, words

    def _start(self, words: list[str]) -> None:
        """Start a server, and wait for the line that says that it is ready."""
        self.stop(words[0])
        own = {
            "serve": ["--rollout=manual", f"--port={self.ports['grpc']}", f"--rest_api_port={self.ports['rest']}"],
            "gateway": ["--port", str(self.ports["page"])],
        }
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "pipeline", *dict.fromkeys([*words, *own.get(words[0], [])])],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.running[words[0]] = process
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if SERVERS[words[0]] in line:
                # A server whose pipe nobody reads would stop when it is full.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                if words[0] == "watch":
                    self.stop("watch")  # another look could begin a run
                return
        raise AssertionError(f"slipway {shlex.join(words)} ended before it was ready:\n{said}")

    def stop(self, name: str) -> None:
        """End a server."""
        process = self.running.pop(name, None)
        if process is not None:
            process.terminate()
            process.wait()

    def stop_all(self) -> None:
        for name in list(self.running):
            self.stop(name)

    def _publish_another(self) -> None:
        """Publish a second version, without training it: the same model with one file more."""
        from serving.publish import publish

        base = self.folder / "runs" / "images" / "served"
        if len(list(base.glob("[0-9]*"))) > 1:
            return
        model = self.folder / "another"
        shutil.copytree(base / "1", model)
        (model / "manifest.json").unlink()
        (model / "assets.extra").mkdir(exist_ok=True)
        (model / "assets.extra" / "note.txt").write_text("another version", encoding="utf-8")
        publish(model, base, name="images")


@contextlib.contextmanager
def at(folder: Path):
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
