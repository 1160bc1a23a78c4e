"""The processes of one training, read from `TF_CONFIG`.

Comes in: the text of the variable, as Vertex AI, Kubeflow's TFJob and TensorFlow's own documentation set it. Goes out:
who takes part and who this process is. Called by `trainer.distribution`; imports no TensorFlow.

The contract: `{"cluster": {"chief": ["host:port"], "worker": ["host:port", ...]}, "task": {"type": "worker", "index":
0}}`. The chief may be missing, then worker 0 takes its part. Other keys beside `cluster` and `task` (Vertex AI adds
`environment` and `job`) mean nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.errors import TrainerError

VARIABLE = "TF_CONFIG"
"""Environment variable that names the processes."""

CHIEF, WORKER = "chief", "worker"

_EXAMPLE = (
    '{"cluster": {"chief": ["10.0.0.1:2222"], "worker": ["10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclass(frozen=True)
class Cluster:
    """The processes of one training and the place of this one among them.

    Attributes:
        names: what the processes are called, such as `worker 1`, the chief first.
        addresses: `host:port` of each.
        rank: number of this process in both.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    rank: int

    @property
    def size(self) -> int:
        """Number of processes."""
        return len(self.addresses)


def read_cluster(text: str | None) -> Cluster | None:
    """Read the value of `TF_CONFIG`.

    Args:
        text: the value; None if the variable is not set.

    Returns:
        The cluster; None if there is only this process, or the variable is empty.

    Raises:
        TrainerError: if the value isn't what the contract says.
    """
    if text is None or not text.strip():
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(f"is no JSON ({error})") from None
    content = _mapping(content, "the value")
    jobs = _mapping(content.get("cluster", {}), "`cluster`")
    if not jobs:
        return None
    if foreign := sorted(set(jobs) - {CHIEF, WORKER}):
        raise _refused(f"has the jobs {', '.join(foreign)} in `cluster`; only chief and worker take part in a training")
    members = [(job, index, _address(value, job)) for job in (CHIEF, WORKER) for index, value in _listed(jobs, job)]
    addresses = tuple(address for _, _, address in members)
    if len(jobs.get(CHIEF, ())) > 1:
        raise _refused(f"names {len(jobs[CHIEF])} chiefs; there is one at most")
    if not members:
        raise _refused("names no process in `cluster`")
    if twice := sorted({address for address in addresses if addresses.count(address) > 1}):
        raise _refused(f"gives the address {twice[0]} to two processes")
    task = _mapping(content.get("task"), "`task`")
    kind, index = task.get("type"), task.get("index")
    if not isinstance(index, int) or isinstance(index, bool):
        raise _refused(f"has {index!r} as the index of `task`; a whole number is wanted")
    places = [(job, number) for job, number, _ in members]
    if not isinstance(kind, str) or (kind, index) not in places:
        raise _refused(f"calls this process {kind} {index}, which `cluster` doesn't have")
    names = tuple(job if job == CHIEF else f"{job} {number}" for job, number in places)
    return Cluster(names, addresses, places.index((kind, index))) if len(members) > 1 else None


def _listed(jobs: Mapping[str, Any], job: str) -> list[tuple[int, Any]]:
    values = jobs.get(job, [])
    if not isinstance(values, list):
        raise _refused(f"has {values!r} as the {job} of `cluster`; a list of host:port is wanted")
    return list(enumerate(values))


def _address(value: Any, job: str) -> str:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    digits = port.isascii() and port.isdigit()
    if not host or not colon or not digits or not 0 < int(port) < 65_536 or any(c.isspace() for c in host):
        raise _refused(f"has {value!r} as an address of {job}; host:port is wanted")
    return str(value)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _refused(f"has {value!r:.60} as {what}; a JSON object is wanted")
    return value


def _refused(said: str) -> TrainerError:
    return TrainerError(
        f"{VARIABLE} {said}; expected something like {_EXAMPLE}; correct it, or unset it to train in one process"
    )
