"""`--engine=tfserving`: the real TensorFlow Serving with the same flags, as a binary or in docker.

Comes in: parsed flags. Goes out: nothing; this process becomes the server. Called by `serving.server.running`.

Flags of `tensorflow_model_server` are handed on as they were given. Of ours, `--rollout` becomes a model config file,
`--host` decides where docker publishes the ports, and the others have no counterpart: they are named and dropped.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from serving.errors import ServingError
from serving.server.config.flag_table import FLAGS, Value
from serving.server.config.flags import ParsedFlags

IMAGE = "tensorflow/serving:2.16.1"
BINARY = "tensorflow_model_server"
_FILES = (
    "batching_parameters_file",
    "model_config_file",
    "monitoring_config_file",
    "platform_config_file",
    "ssl_config_file",
    "tensorflow_session_config_file",
    "thread_pool_factory_config_file",
)
_HANDLED = frozenset({"engine", "host", "rollout", "state_dir"})
_log = logging.getLogger("slipway.serving")


def run(flags: ParsedFlags) -> int:
    """Become TensorFlow Serving; signals reach it directly. Returns only if it cannot be started.

    Raises:
        ServingError: Neither the binary nor docker is on this machine, or a path is relative.
    """
    from serving.server.running import set_up_logging, with_rollout

    set_up_logging()
    if flags.text("rollout") == "manual":
        flags = with_rollout(flags)
    command = command_line(flags)
    _log.info("starting %s", " ".join(command))
    os.execv(command[0], command)


def command_line(flags: ParsedFlags) -> list[str]:
    """What to execute.

    Raises:
        ServingError: As for `run`.
    """
    for name in flags.given:
        if FLAGS[name].own and name not in _HANDLED:
            _log.warning("--%s is dropped: TensorFlow Serving has nothing like it", name)
    arguments = [f"--{name}={_text(value)}" for name, value in flags.given.items() if not FLAGS[name].own]
    if binary := shutil.which(BINARY):
        if flags.text("host") != "0.0.0.0":
            _log.warning("%s listens on every network, not only on %s", BINARY, flags.text("host"))
        return [binary, *arguments]
    docker = shutil.which("docker")
    if docker is None:
        raise ServingError(
            f"--engine=tfserving finds neither {BINARY} nor docker in PATH. Install one of them, or leave the flag "
            "out: the embedded server honors the same contract."
        )
    return [docker, "run", *_docker_options(flags), IMAGE, *arguments]


def _docker_options(flags: ParsedFlags) -> list[str]:
    options = ["--rm", "--init", f"--user={os.getuid()}:{os.getgid()}"]
    host = flags.text("host")
    published = f"[{host}]" if ":" in host else host
    for name in ("port", "rest_api_port"):
        if port := flags.integer(name):
            options.append(f"--publish={published}:{port}:{port}")
    # Same paths inside and outside, so that no file has to be rewritten.
    for path in _read_paths(flags):
        options.append(f"--volume={path}:{path}:ro")
    if socket_path := flags.text("grpc_socket_path"):
        folder = _absolute("grpc_socket_path", socket_path).parent
        options.append(f"--volume={folder}:{folder}")
    return [*options, f"--entrypoint=/usr/bin/{BINARY}"]


def _read_paths(flags: ParsedFlags) -> list[Path]:
    """Directories that the server reads, each once, sorted."""
    folders = {_absolute(name, flags.text(name)).parent for name in _FILES if flags.text(name)}
    if file := flags.text("model_config_file"):
        from serving.server.config.models import read_model_config_file

        bases = [model.base_path for model in read_model_config_file(file).model_config_list.config]
    else:
        bases = [flags.text("model_base_path")]
    folders |= {_absolute("model_base_path", base) for base in bases if base and "://" not in base}
    return sorted(folders)


def _absolute(name: str, path: str) -> Path:
    if not os.path.isabs(path):
        raise ServingError(f"--{name} is {path!r}, expected an absolute path: docker sees another working directory.")
    return Path(path)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
