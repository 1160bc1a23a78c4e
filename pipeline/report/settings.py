"""The settings of a run as a report shows them: what was chosen, and everything.

Comes in: the settings of a run's record, which don't say where each value is from. Goes out: names with values, and
YAML. Called by `pipeline.report.page`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_REQUIRED = {"data": ("source",), "transform": ("size", "channels")}
"""Settings without a default, by section."""


def chosen(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that have no default or differ from it: dotted names and values.

    Args:
        settings: of a record; where today's config has other keys, nothing is said.
    """
    from pydantic import ValidationError

    from pipeline.config.config import Config
    from pipeline.config.fields import plain
    from pipeline.history.ingredients import flat

    sections = {
        name: {key: settings.get(name, {}).get(key) for key in keys if key in settings.get(name, {})}
        for name, keys in _REQUIRED.items()
    }
    least = {"name": settings.get("name"), **sections}
    try:
        values, defaults = (flat(plain(Config.model_validate(dict(given)))) for given in (settings, least))
    except ValidationError:
        return []
    required = {"name", *(f"{name}.{key}" for name, keys in _REQUIRED.items() for key in keys)}
    return [
        (name, json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)
        for name, value in values.items()
        if name in required or (value != defaults.get(name) and (name in defaults or value not in (None, False)))
    ]


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Return the effective config as YAML; as it was written down where today's config has other keys.

    Args:
        settings: of a record.
    """
    if not settings:
        return ""
    from pydantic import ValidationError

    from pipeline.config.config import Config
    from pipeline.config.show import render_yaml

    try:
        text = render_yaml(Config.model_validate(dict(settings)))
    except ValidationError:
        return json.dumps(settings, indent=2)
    # The record doesn't say where a value is from; the first line and the comments behind the values would.
    return re.sub(r" +# default$", "", text.partition("\n")[2], flags=re.MULTILINE).lstrip("\n")
