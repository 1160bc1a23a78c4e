"""Values, lines and problems of YAML texts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.yaml_tree import MAX_DEPTH, parse, scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("off", "off"),
        ("yes", "yes"),
        ("12", 12),
        ("-3", -3),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("2e-3", 0.002),
        ("2.0e-3", 0.002),
        (".5", 0.5),
        ("1.", 1.0),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-11-22", "2026-11-22"),
        ("-.inf", -math.inf),
        (".", "."),
        ("e5", "e5"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    result = scalar(text)
    assert result == value and type(result) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(scalar(".nan"))


def test_a_number_of_thousands_of_digits_stays_text() -> None:
    assert scalar("9" * 10_000) == "9" * 10_000


def test_quotes_make_text() -> None:
    assert parse("a: '12'\nb: \"off\"\nc: 12").value == {"a": "12", "b": "off", "c": 12}


def test_block_scalars_are_text() -> None:
    assert parse("a: |\n  12\n").value == {"a": "12\n"}


def test_a_yaml_1_1_directive_does_not_turn_off_into_false() -> None:
    assert parse("%YAML 1.1\n---\na: off\n").value == {"a": "off"}


def test_lines_of_keys_and_items() -> None:
    tree = parse("# head\na:\n  b: 1\n\n  c:\n  - x\n  - {d: 2}\n")
    assert tree.lines == {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 5,
        ("a", "c", 0): 6,
        ("a", "c", 1): 7,
        ("a", "c", 1, "d"): 7,
    }


def test_a_text_without_a_document_is_empty() -> None:
    assert parse("").empty and parse("# only a comment\n").empty
    assert not parse("~").empty


def test_a_double_key_names_both_lines_and_leaves_the_rest_readable() -> None:
    tree = parse("train:\n  epochs: 1\n  seed: 2\n  epochs: 3\nname: x\n")
    [problem] = tree.problems
    assert problem.line == 4
    assert "'epochs' stands twice in section 'train', first on line 2" in problem.text
    assert not tree.broken and tree.value["name"] == "x"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\n\tb: 2\n", 2, "tab"),
        ("a:\n\t- 1\n", 2, "tab"),
        ("a: b: c\n", 1, "mapping values are not allowed"),
        ("a: 1\nb: 'x\n\n\n", 2, "quoted scalar"),
        ("a: 1\nb: {c: 1\n\n", 2, "flow mapping"),
        ("a:\n  b: 1\n c: 2\n", 3, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: 1\nb: &x 2\n", 2, "anchor '&x'"),
        ("a: *x\n", 1, "alias '*x'"),
        ("a: !!python/object:os.system 1\n", 1, "tag"),
        ("a: 1\n? [b]\n: 2\n", 2, "a key must be a word"),
        ("a: 1\nb: \x01\n", 2, "special characters"),
        ("a: " + "[" * 500, 1, f"more than {MAX_DEPTH} levels"),
    ],
)
def test_what_has_no_place_in_a_config_is_a_problem_with_a_line(text: str, line: int, words: str) -> None:
    tree = parse(text)
    assert tree.broken
    assert tree.problems[0].line == line
    assert words in tree.problems[0].text


def test_a_bomb_of_anchors_is_refused_without_being_unfolded() -> None:
    levels = [f"l{n}: &l{n} [{', '.join(f'*l{n - 1}' for _ in range(10))}]" for n in range(1, 12)]
    tree = parse("l0: &l0 lol\n" + "\n".join(levels))
    assert tree.broken and "anchor '&l0'" in tree.problems[0].text


@given(st.text())
def test_any_text_gives_a_tree(text: str) -> None:
    tree = parse(text)
    assert tree.problems or tree.empty or not tree.broken
    assert all(problem.line <= text.count("\n") + text.count("\r") + 10 for problem in tree.problems)


@given(
    st.recursive(
        st.one_of(st.booleans(), st.integers(-(10**9), 10**9), st.from_regex(r"[a-z]{1,8}", fullmatch=True)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pqrs"), inner, max_size=3),
        max_leaves=12,
    )
)
def test_json_is_read_as_what_it_says(value: object) -> None:
    import json

    tree = parse(json.dumps(value))
    assert tree.value == value and not tree.problems
