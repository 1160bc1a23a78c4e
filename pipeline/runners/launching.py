"""TFX's launcher, with a hook where it decides to execute a node, and the reason why the cache doesn't hold it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tfx.orchestration.portable import data_types, launcher
from tfx.proto.orchestration import execution_result_pb2

from pipeline.components.fingerprinted import FINGERPRINT
from pipeline.metadata import StoredExecution
from pipeline.stage_keys import difference

_MOST_REASONS = 3


class HookedLauncher(launcher.Launcher):
    """Calls `on_execution` with what TFX resolved, right before a node that isn't in the cache executes."""

    def __init__(self, *args: Any, on_execution: Callable[[data_types.ExecutionInfo], None], **kwargs: Any):
        """Initialize.

        Args:
            *args: of TFX's launcher.
            on_execution: is told what is about to be executed.
            **kwargs: of TFX's launcher.
        """
        super().__init__(*args, **kwargs)
        self._on_execution = on_execution

    def _run_executor(self, execution_info: data_types.ExecutionInfo) -> execution_result_pb2.ExecutorOutput:
        self._on_execution(execution_info)
        return super()._run_executor(execution_info)


def miss_reason(info: data_types.ExecutionInfo, last: StoredExecution | None, producers: Mapping[int, str]) -> str:
    """Return in words why a node is executed and not taken from the cache.

    Args:
        info: the execution at hand.
        last: the last successful execution of the node, if any.
        producers: name of the stage that made an artifact, by artifact id.
    """
    if last is None:
        return "first run"
    reasons = _key_differences(info.exec_properties, last.properties)
    for key, artifacts in info.input_dict.items():
        ids = [artifact.id for artifact in artifacts]
        if ids != last.inputs.get(key, []):
            made_by = {producers[i] for i in ids if i in producers}
            reasons.append(f"new {key}" + (f" from {', '.join(sorted(made_by))}" if made_by else ""))
    if not reasons:
        return "its outputs are gone, or the cache was switched off"
    more = f" and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    return "; ".join(reasons[:_MOST_REASONS]) + more


def _key_differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Return what differs between the execution properties, with our fingerprints taken apart."""
    old, new = _fingerprint(before), _fingerprint(now)
    if old and new and old != new:
        return difference(old, new)
    changed = (
        name for name, value in now.items() if name != "custom_config" and str(value) != str(before.get(name, value))
    )
    return [f"{name} changed" for name in sorted(changed)]


def _fingerprint(properties: Mapping[str, Any]) -> str | None:
    """Return a node's fingerprint, which our components have as a property and TFX's in `custom_config`."""
    if properties.get(FINGERPRINT):
        return str(properties[FINGERPRINT])
    try:
        return str(json.loads(properties["custom_config"])["fingerprint"])
    except (KeyError, TypeError, ValueError):
        return None
