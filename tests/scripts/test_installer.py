from __future__ import annotations

from pathlib import Path

import pytest
from environment.failures import SetupError
from environment.installer import PINNED_UV, obtain_uv, version_of

# A Python whose `-m pip` installs a uv, and which knows neither venv nor ensurepip.
WITH_PIP = """#!/bin/sh
[ "$2" = pip ] || exit 1
while [ $# -gt 0 ]; do [ "$1" = --target ] && target=$2; shift; done
[ -n "$target" ] || exit 0
mkdir -p "$target/bin"; echo 'echo uv 0.13.9' > "$target/bin/uv.sh"
printf '#!/bin/sh\\necho uv 0.13.9\\n' > "$target/bin/uv"; /bin/chmod +x "$target/bin/uv"
"""


def test_a_recent_uv_on_path_is_used_and_nothing_is_fetched(fake) -> None:
    uv = fake.uv()
    assert obtain_uv(fake.clone / ".tools", [], fake.env, fake.runner()) == str(uv)


def test_an_old_uv_on_path_is_passed_over(fake) -> None:
    fake.program(fake.path / "uv", "echo uv 0.1.44")
    python = fake.program(fake.home / "python3", WITH_PIP)
    found = obtain_uv(fake.clone / ".tools", [str(python)], fake.env, fake.runner())
    assert found == str(fake.clone / ".tools/uv/bin/uv")
    assert version_of(found, fake.env) == (0, 13, 9)


def test_a_python_without_pip_venv_and_ensurepip_gives_way_to_the_next(fake) -> None:
    bare = fake.program(fake.home / "bare", "exit 1")
    python = fake.program(fake.home / "python3", WITH_PIP)
    assert obtain_uv(fake.clone / ".tools", [str(bare), str(python)], fake.env, fake.runner())


def test_a_venv_serves_where_there_is_no_pip(fake) -> None:
    inner = fake.program(fake.home / "inner", WITH_PIP)
    text = '[ "$2" = venv ] || exit 1; for last in "$@"; do :; done; mkdir -p "$last/bin"; '
    text += f'ln -s {inner} "$last/bin/python"'
    python = fake.program(fake.home / "python3", text)
    assert obtain_uv(fake.clone / ".tools", [str(python)], fake.env, fake.runner())


def test_debians_own_pip_package_is_the_last_way(fake) -> None:
    fake.program(fake.path / "apt-get", "exit 0")
    unpack = "mkdir -p usr/share/python-wheels; : > usr/share/python-wheels/pip-23.0.1-py3-none-any.whl"
    fake.program(fake.path / "dpkg-deb", unpack)
    text = WITH_PIP.replace('[ "$2" = pip ]', 'case "$1" in *.whl/pip) true ;; *) false ;; esac')
    python = fake.program(fake.home / "python3", text)
    assert obtain_uv(fake.clone / ".tools", [str(python)], fake.env, fake.runner())


def test_nothing_that_could_fetch_it_is_one_sentence(fake) -> None:
    bare = fake.program(fake.home / "bare", "exit 1")
    with pytest.raises(SetupError, match=r"no Python on this machine has a pip .*python3-venv"):
        obtain_uv(fake.clone / ".tools", [str(bare)], fake.env, fake.runner())


def test_without_network_the_other_ways_are_not_tried(fake) -> None:
    text = f'echo "$@" >> {fake.calls}; [ "$3" = --version ] && exit 0; echo "Connection refused"; exit 1'
    python = fake.program(fake.home / "python3", text)
    with pytest.raises(SetupError, match="index cannot be reached"):
        obtain_uv(fake.clone / ".tools", [str(python), str(python)], fake.env, fake.runner())
    assert len(fake.uv_calls()) == 2  # is there a pip; then the one attempt


def test_the_pinned_installer_is_exact_and_hashed() -> None:
    for path in (PINNED_UV, Path(PINNED_UV).with_name("compiler.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert "==" in lines[0] and len(lines) > 1
        assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])
