from __future__ import annotations

import subprocess

import pytest
from environment.compiler import compiler_variables, fetch_compiler
from environment.failures import SetupError


def test_the_compilers_on_path_are_named(fake) -> None:
    fake.program(fake.path / "gcc", "exit 0")
    assert compiler_variables(fake.env) is None
    fake.program(fake.path / "clang++", "exit 0")
    assert compiler_variables(fake.env) == {"CC": "gcc", "CXX": "clang++"}


def test_what_the_user_has_set_stays(fake) -> None:
    assert compiler_variables({**fake.env, "CC": "mine", "CXX": "mine++"}) == {}


def test_a_fetched_compiler_is_called_and_links_without_the_cpp_library(fake) -> None:
    zig = fake.clone / "compiler/ziglang/zig"
    fake.program(zig, 'echo "$@"')
    found = fetch_compiler("/nonexistent/uv", "python", fake.clone, fake.runner())

    def called(*arguments: str) -> str:
        return subprocess.check_output([found["CXX"], *arguments], text=True).strip()

    assert called("-c", "a b.cc") == "c++ -c a b.cc"
    assert called("-shared", "x.o") == "c++ -nostdlib++ -shared x.o"
    assert subprocess.check_output([found["CC"], "-c", "x.c"], text=True).strip() == "cc -c x.c"


def test_a_compiler_that_cannot_be_fetched_is_one_sentence(fake) -> None:
    uv = fake.program(fake.path / "uv", 'echo "dns error"; exit 1')
    with pytest.raises(SetupError, match="index cannot be reached"):
        fetch_compiler(str(uv), "python", fake.clone, fake.runner())
