"""`slipway beam-worker`: lends this machine to the data stages of pipelines that run elsewhere."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from pipeline.errors import ConfigError


def beam_worker(
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. Who reaches it can run code here: use trusted networks only."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 50_000,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="Worker processes at a time.")] = 2,
) -> None:
    """Serve worker processes to pipelines whose config lists this machine in beam.pools."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from pipeline.runners.beam import pool

    try:
        server, found = pool.serve(host, port, workers, lambda sentence: print(sentence, flush=True))
    except OSError as error:
        raise ConfigError(f"{error}; choose another --host or --port") from error
    print(f"{workers} workers at {host}:{found}, code {pool.code_version()}; Ctrl-C ends them", flush=True)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        print("ended", flush=True)
    finally:
        server.stop(1).wait()
