"""A worker that misbehaves as its job says; `serving.convert.running` starts it in place of the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from serving.convert.job import Conversion, Outcome


def finish(job: Conversion, result: str) -> None:
    """Do what a converter should."""
    path = job.out_dir / "model.tflite"
    path.write_bytes(b"model")
    Path(result).write_text(Outcome(job.form, "ok", "", path, 0.5, {"seed": 3}).to_json(), encoding="utf-8")


def main() -> None:
    job = Conversion.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    act = job.options["act"]
    (job.out_dir / "half-done").write_bytes(b"half")
    if act == "abort":
        print("F tensorflow/core/engine.cc:49] getInferLibVersion symbol not found.", file=sys.stderr, flush=True)
        os.abort()
    elif act == "segfault":
        print("lowering the graph", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif act == "hang":
        signal.pause()
    elif act == "exit":
        print("I quit", file=sys.stderr, flush=True)
        os._exit(7)
    elif act == "raise":
        raise RuntimeError("the operation Foo is unknown")
    elif act == "nonsense":
        Path(sys.argv[2]).write_text("{}", encoding="utf-8")
    elif act == "nothing":
        text = Outcome(job.form, "ok", "", job.out_dir / "model.tflite", 0.5).to_json()
        Path(sys.argv[2]).write_text(text, encoding="utf-8")
    elif act == "orphan":
        pipe = os.open(job.options["pipe"], os.O_WRONLY)
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=[pipe])
        finish(job, sys.argv[2])
    elif act == "environment":
        names = ("TF_USE_LEGACY_KERAS", "CUDA_VISIBLE_DEVICES")
        print(
            " ".join(f"{name}={os.environ.get(name)}" for name in names), sys.stdin.read(), file=sys.stderr, flush=True
        )
        os._exit(7)
    else:
        (job.out_dir / "half-done").unlink()
        finish(job, sys.argv[2])


if __name__ == "__main__":
    main()
