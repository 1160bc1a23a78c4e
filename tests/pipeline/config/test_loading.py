"""From a raw file to a typed config, or to messages that name file, line and fix."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import load
from pipeline.config.config import Config
from pipeline.config.fields import names_at
from pipeline.config.loading import LARGEST_FILE
from pipeline.errors import ConfigError

Write = Callable[[str], Path]
MINIMAL = "name: demo\ndata: {source: digits}\ntransform: {size: [8, 8]}\n"
CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def problems(file: Path, *overrides: str) -> list[str]:
    """Return the messages that loading a file gives, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load(file, overrides)
    assert caught.value.exit_code == 2
    return [problem.replace(f"{file.parent}{os.sep}", "") for problem in caught.value.problems]


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_ready_made_config_loads(file: Path) -> None:
    loaded = load(file)
    assert loaded.config.name.replace("-", "_").endswith(file.stem)
    assert loaded.text == file.read_text(encoding="utf-8")


def test_defaults_fill_what_the_file_leaves_out(minimal: Path) -> None:
    config = load(minimal).config
    assert (config.name, config.transform.size) == ("demo", (8, 8))
    assert config.tune.mode == "off" and config.evaluate.split == "test" and config.push.serving == "served"


def test_a_config_is_frozen(minimal: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(minimal).config.name = "other"


def test_positions_are_lines_of_the_file(write: Write) -> None:
    positions = load(write(MINIMAL + "train:\n  epochs: 3\n")).positions
    assert positions["train", "epochs"].line == 5
    assert ("train", "seed") not in positions


def test_off_is_text_and_an_exponent_makes_a_number(write: Write) -> None:
    config = load(write(MINIMAL + "tune: {mode: off}\ntrain: {learning_rate: 2e-3}\n")).config
    assert config.tune.mode == "off" and config.train.learning_rate == 0.002


def test_a_section_whose_lines_are_commented_out_has_its_defaults(write: Write) -> None:
    config = load(write(MINIMAL + "train:\n  # epochs: 3\nevaluate:\n  gates:\n")).config
    assert config.train.epochs == Config.model_fields["train"].get_default(call_default_factory=True).epochs
    assert config.evaluate.gates == {}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(file).config.name == "demo"


def test_an_unknown_key_names_line_section_nearest_and_valid_keys(write: Write) -> None:
    [problem] = problems(write(MINIMAL + "train:\n  seed: 1\n  epoch: 5\n"))
    assert problem.startswith(
        "my.yaml:6: unknown key 'epoch' in section 'train'; did you mean 'epochs'? Valid keys: epochs,"
    )


def test_an_unknown_key_without_a_neighbor_lists_the_valid_ones(write: Write) -> None:
    [problem] = problems(write(MINIMAL + "qqqq: 1\n"))
    assert problem.startswith("my.yaml:4: unknown key 'qqqq' at the top level. Valid keys: name, data, transform,")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("train: {epochs: 0}", "train.epochs: received 0; expected a whole number from 1 to 10000"),
        ("train: {epochs: 1.5}", "train.epochs: received 1.5; expected a whole number from 1 to 10000"),
        ("train: {epochs: true}", "train.epochs: received true; expected a whole number from 1 to 10000"),
        ("train: {epochs: '3'}", "train.epochs: received '3'; expected a whole number from 1 to 10000"),
        ("train: {epochs: }", "train.epochs: received null; expected a whole number from 1 to 10000"),
        (
            "train: {learning_rate: 0}",
            "train.learning_rate: received 0; expected a number above 0 and at most 10",
        ),
        (
            "train: {learning_rate: .nan}",
            "train.learning_rate: received NaN; expected a number above 0 and at most 10",
        ),
        ("train: {ema: 1}", "train.ema: received 1; expected a number above 0 and below 1, or null"),
        ("train: {optimizer: adm}", "expected one of adam, adamw, sgd; did you mean 'adam'?"),
        (
            "train: {augment: flip}",
            "train.augment: received 'flip'; expected a list, each item one of flip, shift",
        ),
        ("train: {augment: [shift, flop]}", "train.augment.1: received 'flop'; expected one of flip"),
        ("train: {augment: [flip, flip]}", "train.augment: names an augmentation twice"),
        ("train: 3", "train: received 3; expected a section (lines of 'key: value') with keys from epochs,"),
        ("train: [epochs]", 'train: received ["epochs"]; expected a section'),
        ("model: {name: 3}", "model.name: received 3; expected text (put it into quotes)"),
        ("bulk_infer: {enabled: yes}", "bulk_infer.enabled: received 'yes'; expected true or false"),
        ("bulk_infer: {split: val}", "bulk_infer.split: received 'val'; expected one of train, eval, test"),
        ("infra: {examples: 0}", "infra.examples: received 0; expected a whole number from 1 to 1000"),
        ("push: {keep: 0}", "push.keep: received 0; expected a whole number of at least 1, or null"),
        ("push: {serving: ../up}", "push.serving: received '../up'; expected the name of a folder inside"),
        ("push: {serving: /srv}", "push.serving: received '/srv'; expected the name of a folder inside"),
        ("evaluate: {top_k: 0}", "evaluate.top_k: received 0; expected a whole number from 1 to 1000"),
        (
            "evaluate: {slices: [labels]}",
            "evaluate.slices.0: received 'labels'; expected label; did you mean 'label'?",
        ),
        (
            "evaluate: {gates: {acuracy: {min: 0.5}}}",
            "unknown key 'acuracy' in section 'evaluate.gates'; did you mean 'acc",
        ),
        (
            "evaluate: {gates: {auc: {mn: 0.5}}}",
            "unknown key 'mn' in section 'evaluate.gates.auc'; did you mean 'min'?",
        ),
        ("evaluate: {gates: {auc: {}}}", "evaluate.gates.auc: this gate tests nothing; set min, max"),
        ("evaluate: {gates: {auc: }}", "evaluate.gates.auc: this gate tests nothing; set min, max"),
        ("evaluate: {gates: {auc: {min: .inf}}}", "evaluate.gates.auc: a bound is infinite"),
        ("evaluate: {gates: {auc: {min: 0.9, max: 0.8}}}", "min is 0.9 and max is 0.8; expected min <= max"),
        (
            "evaluate: {gates: {auc: {min: 90}}}",
            "gates.auc.min is 90, but auc is a share from 0 to 1; if 90 percent are meant, write 0.9",
        ),
        (
            "evaluate: {gates: {auc: {min: 0.5, slices: true}}}",
            "evaluate.gates.auc.slices is true, but slices is empty",
        ),
        (
            "tune: {learning_rate: [1e-2, 1e-3]}",
            "tune.learning_rate is [0.01, 0.001]; expected [min, max] with min",
        ),
        (
            "tune: {dropout: [0.1]}",
            "tune.dropout: received [0.1]; expected a list of 2 values, each a number",
        ),
    ],
)
def test_a_bad_value_names_line_path_value_and_expectation(write: Write, lines: str, message: str) -> None:
    [problem] = problems(write(MINIMAL + lines + "\n"))
    assert problem.startswith("my.yaml:4: ")
    assert message in problem


@pytest.mark.parametrize("size", ["[8]", "[8, 8, 3]", "8"])
def test_a_size_is_two_numbers(write: Write, size: str) -> None:
    [problem] = problems(write(MINIMAL.replace("[8, 8]", size)))
    assert problem.startswith("my.yaml:3: transform.size: received ")
    assert "expected a list of 2 values, each a whole number" in problem


def test_shares_of_splits_sum_to_one(write: Write) -> None:
    [problem] = problems(write(MINIMAL.replace("source: digits", "source: digits, split: {train: 0.7}")))
    assert problem.startswith("my.yaml:2: data.split: the shares") and "sum to 0.9; they must sum to 1" in problem


def test_a_split_that_is_read_must_not_be_empty(write: Write) -> None:
    text = MINIMAL.replace("source: digits", "source: digits, split: {train: 0.9, test: 0}")
    found = problems(write(text + "evaluate:\n  split: test\nbulk_infer: {split: test}\n"))
    assert [problem.split(" is ")[0] for problem in found] == [
        "my.yaml:5: evaluate.split",
        "my.yaml:6: bulk_infer.split",
    ]
    assert load(write(text + "evaluate: {split: eval}\nbulk_infer: {enabled: false}\n")).config.evaluate.split == "eval"


@pytest.mark.parametrize("name", ["My Model", "", "-x", "a/b", "..", "a" * 64])
def test_a_name_becomes_folders_so_it_is_restricted(write: Write, name: str) -> None:
    [problem] = problems(write(MINIMAL.replace("demo", f'"{name}"')))
    assert problem.startswith("my.yaml:1: name: received ") and "1 to 63 lowercase letters" in problem


def test_missing_sections_say_what_they_are_for(write: Write) -> None:
    found = problems(write("train: {epochs: 3}\n"))
    assert [problem.split(" is missing")[0] for problem in found] == [
        "my.yaml: key 'name'",
        "my.yaml: section 'data'",
        "my.yaml: section 'transform'",
    ]


def test_a_missing_key_points_to_its_section(write: Write) -> None:
    [problem] = problems(write("name: demo\n\ndata: {kind: image}\ntransform: {size: [8, 8]}\n"))
    assert problem.startswith(
        "my.yaml:3: key 'source' is missing in section 'data'; it has no default: a built-in name"
    )


def test_all_problems_come_together_in_the_order_of_the_lines(write: Write) -> None:
    text = "tune: {mode: find}\ntrain:\n  epochs: 0\n  epochs: 0\n  lr: 1\n" + MINIMAL.replace("demo", "D")
    found = problems(write(text), "train.seed=x", "nonsense")
    assert [problem.split(" ")[0] for problem in found] == [
        "my.yaml:1:",
        "my.yaml:4:",
        "my.yaml:4:",
        "my.yaml:5:",
        "my.yaml:6:",
        "--set",
        "--set",
    ]


def test_a_misspelled_source_is_found_before_anything_runs(write: Write) -> None:
    [problem] = problems(write(MINIMAL.replace("digits", "fashion-mnst")))
    assert (
        problem.startswith("my.yaml:2: data.source: received 'fashion-mnst'")
        and "did you mean 'fashion_mnist'?" in problem
    )


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    text = "name: x\ndata: {source: pictures, schema_file: ../s.pbtxt, path: /abs}\ntransform: {size: [8, 8]}\n"
    (folder / "my.yaml").write_text(text + "model: {module: models.py}\n")
    monkeypatch.chdir(tmp_path)
    config = load("project/my.yaml").config
    assert config.data.source == str(folder / "pictures")
    assert config.data.schema_file == str(tmp_path / "s.pbtxt")
    assert config.data.path == "/abs"
    assert config.model.module == str(folder / "models.py")


def test_paths_in_overrides_are_relative_to_the_current_folder(minimal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = minimal.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load(minimal, ["data.source=pictures"]).config.data.source == str(elsewhere / "pictures")


def test_a_built_in_source_is_no_path(minimal: Path) -> None:
    assert load(minimal).config.data.source == "digits"


def test_a_folder_with_the_name_of_a_built_in_source(write: Write) -> None:
    file = write(MINIMAL.replace("digits", "./digits"))
    assert load(file).config.data.source == str(file.parent / "digits")


def test_a_missing_file_names_the_nearest(minimal: Path) -> None:
    [problem] = problems(minimal.parent / "mine.yml")
    assert problem.startswith("mine.yml: no such file; YAML files in ") and problem.endswith(": my.yaml")
    [problem] = problems(minimal.parent / "my.yml")
    assert problem == "my.yml: no such file; did you mean my.yaml?"
    [problem] = problems(minimal.parent / "none" / "my.yaml")
    assert "no such file, and no folder" in problem


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    [problem] = problems(tmp_path)
    assert "is a folder; expected a YAML file" in problem and "slipway init" in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(minimal: Path) -> None:
    minimal.chmod(0)
    [problem] = problems(minimal)
    assert problem == "my.yaml: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "my.yaml: is empty; expected at least name:, data: and transform:"),
        (b"# comment\n---\n", "my.yaml: is empty"),
        (b"- a\n- b\n", "my.yaml:1: is a list; expected sections"),
        (b"hello\n", "my.yaml:1: is a single value; expected sections"),
        (b"name: x\nb: \xff\n", "my.yaml:2: byte 0xff is no UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\0\0", "my.yaml:1: byte 0x89 is no UTF-8 text"),
        (b"name: \0\n", "my.yaml: holds zero bytes"),
        (b"\xff\xfen\0a\0", "my.yaml:1: byte 0xff is no UTF-8 text"),
        (b"#" * (LARGEST_FILE + 1), "my.yaml: is larger than 256 KiB"),
        (b"name: x\n\tdata: 1\n", "my.yaml:2: a tab stands where YAML expects spaces"),
    ],
)
def test_what_is_no_config_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_bytes(content)
    [problem] = problems(file)
    assert problem.startswith(message)


def test_an_endless_file_is_not_read_to_the_end() -> None:
    with pytest.raises(ConfigError, match="is larger than"):
        load("/dev/zero")


def test_a_path_with_a_zero_byte() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load("a\0b")


def test_a_message_holds_nothing_that_a_terminal_obeys(write: Write) -> None:
    [problem] = problems(write(MINIMAL + '"a\\e[31m": 1\n'))
    assert "\x1b" not in problem and "'a\\x1b[31m'" in problem


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "\\n"])
def test_odd_characters_in_values_do_not_break_the_message(write: Write, text: str) -> None:
    file = write(MINIMAL.replace("demo", f'"{text}"'))
    [problem] = problems(file)
    assert problem.isprintable()
    assert problem.encode("utf-8")


ANY_FILE = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(
        st.sampled_from(
            [
                *(
                    "name: x\n",
                    "data:\n",
                    "  source: digits\n",
                    "  split: {train: 2}\n",
                    "train: ",
                    "epochs: 3\n",
                ),
                *("transform: {size: [8, 8]}\n", "evaluate: {gates: {auc: {min: 0.5}}}\n", "null: null\n"),
                *(
                    "{",
                    "}",
                    "[",
                    "]",
                    "&a",
                    "*a",
                    "\t",
                    ": ",
                    "- ",
                    "'",
                    "|\n",
                    "? ",
                    "!!set ",
                    "%TAG ",
                    "<<: ",
                ),
                *("---\n", "\u2028", "é", "~\n", "#", '"\\ud800"\n'),
            ]
        ),
        max_size=14,
    ).map(lambda parts: "".join(parts).encode()),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=ANY_FILE)
def test_whatever_a_file_holds_loading_gives_a_config_or_a_config_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "any.yaml"
    file.write_bytes(content)
    try:
        loaded = load(file)
    except ConfigError as error:
        assert error.problems and all(str(file) in problem for problem in error.problems)
    else:
        assert isinstance(loaded.config, Config)


SECTIONS = ["train", "tune", "model", "infra", "push", "bulk_infer", "evaluate"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    section=st.sampled_from(SECTIONS),
    key=st.from_regex(r"[a-z][a-z_]{0,14}", fullmatch=True),
    blank=st.integers(0, 5),
)
def test_a_random_unknown_key_is_named_with_its_line(write: Write, section: str, key: str, blank: int) -> None:
    if key in names_at((section,)) or key in ("null", "true", "false"):
        return
    file = write(MINIMAL + f"{section}:\n" + "\n" * blank + f"  {key}: 1\n")
    [problem] = problems(file)
    assert problem.startswith(f"my.yaml:{5 + blank}: unknown key {key!r} in section {section!r}")
