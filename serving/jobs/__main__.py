"""`python -m serving.jobs worker --config gateway.yaml`: work on jobs in a process of its own.

SIGTERM and SIGINT finish the job in hand. Any number may run, with the same settings as the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.errors import ServingError
from serving.gateway import config_file
from serving.gateway.settings import GatewaySettings

_log = logging.getLogger("slipway.serving")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        Exit code: 0, or 2 for what the user can mend.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.jobs", description="Work on asynchronous inference.")
    worker = parser.add_subparsers(dest="command", required=True).add_parser("worker", help="work until a signal")
    worker.add_argument("--config", type=Path, metavar="FILE", help="the gateway's YAML")
    worker.add_argument("--workers", type=int, default=1, metavar="N", help="jobs at a time in this process")
    options = parser.parse_args(arguments)
    if not 1 <= options.workers <= 64:
        parser.error(f"--workers is {options.workers}; expected 1 to 64")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # It says every second that there is nothing to do.
    logging.getLogger("taskiq").setLevel(logging.WARNING)
    try:
        asyncio.run(work(config_file.load(options.config), options.workers))
    except ServingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


async def work(settings: GatewaySettings, workers: int) -> None:
    """Work until SIGTERM or SIGINT.

    Raises:
        GatewayError: the settings name files that cannot be used.
    """
    from serving.gateway import parts as gateway_parts
    from serving.jobs import service as job_service
    from serving.jobs.work import Worker

    parts = gateway_parts.build(settings)
    service = job_service.build(settings)
    team = [Worker(parts, service) for _ in range(workers if service.queue is None else 1)]
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for worker in team:
            worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    _log.info("working on jobs in %s", settings.jobs.queue)
    try:
        await asyncio.gather(*(worker.run() for worker in team))
    finally:
        await service.close()
        await parts.close()


if __name__ == "__main__":
    sys.exit(main())
