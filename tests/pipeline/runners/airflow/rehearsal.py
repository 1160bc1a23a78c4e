"""Stands in for `python -m pipeline` in DAGs of tests: its stages take no time, and end as a script says.

    rehearsal.py SCRIPT prepare-run CONFIG --workdir DIR --run-id ID ...
    rehearsal.py SCRIPT run-node NODE --ir FILE --run-id ID
    rehearsal.py SCRIPT finish-run --workdir DIR --run-id ID
    rehearsal.py SCRIPT due CONFIG --workdir DIR

The script is JSON: `plan` (the nodes), `codes` (exit codes of a command or node, one an attempt, 0 afterwards), `meet`
(nodes that wait for each other), `hang` (nodes that hang in their first attempt), `leave` (those of them whose child
outlives them, with their output open). Every start is a line of the file `starts` in the work directory.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

SECONDS = 600


def main(script: dict, words: list[str]) -> int:
    command = words[0]
    name = words[1] if command == "run-node" else command
    options = dict(itertools.pairwise(words))
    folder = Path(options["--workdir"] if "--workdir" in options else Path(options["--ir"]).parents[1])
    folder.mkdir(exist_ok=True)
    attempt = note_start(folder, name, options.get("--run-id", ""), words)
    plan = folder / quote(options.get("--run-id", "none"), safe="")
    if command == "prepare-run":
        plan.mkdir(exist_ok=True)
        (plan / "dag.json").write_text(json.dumps({"nodes": [{"id": node} for node in script["plan"]]}))
    if name in script.get("meet", []):
        meet(folder, name, script["meet"])
    if name in script.get("hang", []) and attempt == 0:
        if name in script.get("leave", []):
            subprocess.Popen(["sleep", str(SECONDS * 5)])
        print(f"hanging as process {os.getpid()}", flush=True)
        time.sleep(SECONDS * 5)
    codes = script.get("codes", {}).get(name, [])
    code = codes[attempt] if attempt < len(codes) else 0
    print(plan / "ir.json" if command == "prepare-run" else f"{name} says {code}")
    return code


def note_start(folder: Path, name: str, run_id: str, words: list[str]) -> int:
    """Write down that a command began; returns how often it has begun before in this run."""
    file = folder / "starts"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    with file.open("a", encoding="utf-8") as starts:
        started = {"name": name, "run": run_id, "pid": os.getpid(), "words": words, "env": sorted(os.environ)}
        starts.write(json.dumps(started) + "\n")
    return sum((line := json.loads(text))["name"] == name and line["run"] == run_id for text in lines)


def meet(folder: Path, name: str, others: list[str]) -> None:
    """Wait until all have come; alone it would wait for ever."""
    (folder / f"{name}.here").touch()
    deadline = time.monotonic() + SECONDS
    while not all((folder / f"{other}.here").exists() for other in others):
        if time.monotonic() > deadline:
            sys.exit(f"{name} waited alone")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2:]))
