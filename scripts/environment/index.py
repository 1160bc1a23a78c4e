"""Hands the machine's pip configuration on to uv, which reads none of it by itself.

In come pip's files and PIP_* variables; out go the UV_* variables with the same meaning, so that a machine
with a mirror, a proxy or a certificate of its own works with what its owner has configured for pip.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

# The user has configured uv itself: then pip's settings say nothing.
UV_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


def settings_of_pip(env: Mapping[str, str]) -> dict[str, str]:
    """Read pip's settings, the later over the earlier: machine, user, PIP_CONFIG_FILE, PIP_* variables.

    Args:
        env: the environment, also for HOME and the XDG folders.

    Returns:
        Setting names as pip writes them (`index-url`) with their raw values.
    """
    settings: dict[str, str] = {}
    for path in _files(env):
        parser = configparser.RawConfigParser()
        try:
            parser.read(str(path), encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update({_name(key): value.strip() for key, value in parser.items(section)})
    for key, value in env.items():
        if key.startswith("PIP_") and key != "PIP_CONFIG_FILE":
            settings[_name(key[len("PIP_") :])] = value.strip()
    return {name: value for name, value in settings.items() if value}


def variables_for_uv(env: Mapping[str, str]) -> dict[str, str]:
    """Say what to add to the environment of uv; what is set there already is left alone.

    A file URL or folder that does not exist is dropped, as pip does; uv would stop.
    """
    pip = settings_of_pip(env)
    wanted: dict[str, str] = {"UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout") or "120"}
    if not any(env.get(name) for name in UV_INDEX_VARIABLES):
        if "index-url" in pip:
            wanted["UV_DEFAULT_INDEX"] = pip["index-url"]
        indexes = [url for url in pip.get("extra-index-url", "").split() if _is_there(url)]
        if indexes:
            wanted["UV_INDEX"] = " ".join(indexes)
            # uv would otherwise look only into the first index that knows a name. Whichever index answers,
            # the SHA-256 in the lock decides.
            wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        links = [place for place in pip.get("find-links", "").split() if _is_there(place)]
        if links:
            wanted["UV_FIND_LINKS"] = ",".join(links)
        if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
            wanted["UV_NO_INDEX"] = "1"
        if "trusted-host" in pip:
            wanted["UV_INSECURE_HOST"] = pip["trusted-host"]
    if "cert" in pip and os.path.isfile(pip["cert"]):
        wanted["SSL_CERT_FILE"] = pip["cert"]
    if "proxy" in pip:
        wanted["HTTPS_PROXY"] = wanted["HTTP_PROXY"] = _with_scheme(pip["proxy"])
    return {name: value for name, value in wanted.items() if not (env.get(name) or env.get(name.lower()))}


def _files(env: Mapping[str, str]) -> list[Path]:
    home = Path(env.get("HOME") or os.path.expanduser("~"))
    chosen = env.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    shared = (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    files = [Path(folder) / "pip" / "pip.conf" for folder in reversed(shared)]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf"]
    files += [Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"]
    files += [Path(sys.prefix) / "pip.conf"]
    return files + ([Path(chosen)] if chosen else [])


def _name(key: str) -> str:
    return key.strip().lower().replace("_", "-")


def _is_there(place: str) -> bool:
    """Whether a local place exists; what lies on the network is taken as being there."""
    parts = urlsplit(place)
    if parts.scheme in ("", "file"):
        return os.path.exists(unquote(parts.path))
    return True


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else "http://" + proxy
