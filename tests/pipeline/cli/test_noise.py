"""What libraries print goes to the log, what the command says goes to the screen."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import logging, os, sys
from pathlib import Path
from pipeline.cli.noise import noise_to
with noise_to(Path(sys.argv[1])) as screen:
    print("python noise")
    os.write(2, b"native noise\\n")
    logging.getLogger("absl").warning("logged noise")
    logging.getLogger("slipway.progress").info("progress")
    print("said", file=screen.out)
    print("complained", file=screen.err)
print("after")
"""


def test_noise_goes_to_the_log_and_words_to_the_screen(tmp_path):
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(log)], capture_output=True, text=True, check=True, cwd=".")
    assert done.stdout == "said\nafter\n"
    assert done.stderr == "complained\n"
    text = log.read_text(encoding="utf-8")
    for noise in ("python noise", "native noise", "logged noise"):
        assert noise in text
    assert "progress" not in text
