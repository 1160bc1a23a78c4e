"""What the data stages cost on one process and on several; see `benchmarks/scale/bench.py`, which this runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the benchmark with the same arguments."""
    os.chdir(Path(__file__).resolve().parents[1])
    os.execv(sys.executable, [sys.executable, "-W", "ignore", "-m", "benchmarks.scale.bench", *sys.argv[1:]])


if __name__ == "__main__":
    main()
