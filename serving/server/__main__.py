"""`python -m serving.server`: the model server as a process of its own."""

from __future__ import annotations

import logging
import os
import sys

from serving.server.running import main

if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread that is loading a model inside TensorFlow would crash while the interpreter is taken down around it.
    os._exit(code)
