"""Text proto files: read strictly, errors with file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.config.models import read_model_config_file
from serving.server.config.text_protos import ConfigFileError, parse, read


def _file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "file.pbtxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "# sizes\nmax_batch_size { value: 64 }\nallowed_batch_sizes: [8, 64]\n")
    message = read(path, "BatchingParameters")
    assert message.max_batch_size.value == 64
    assert list(message.allowed_batch_sizes) == [8, 64]
    assert not message.HasField("num_batch_threads")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("\nmax_batchsize { value: 1 }", "2:1", 'the nearest is "max_batch_size"'),
        ("max_batch_size { valeu: 1 }", "1:18", 'the nearest is "value"'),
        ("qqq: 1", "1:1", "it has max_batch_size, batch_timeout_micros"),
        ("max_batch_size 3", "1:16", 'Expected "{"'),
        ("max_batch_size { value: 1", "1:25", 'Expected "}"'),
        ('max_batch_size { value: "one" }', "1:25", "integer"),
        ("pad_variable_length_inputs: 2", "1:29", "true"),
        ("max_batch_size { } max_batch_size { }", "1:35", "should not have multiple"),
        (b"\n\n\xff", "3", "not UTF-8"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, text: str | bytes, place: str, words: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigFileError) as caught:
        read(path, "BatchingParameters")
    assert str(caught.value).startswith(f"{path}:{place}: "), caught.value
    assert words in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="gone cannot be read: No such file"):
        read(tmp_path / "gone", "SSLConfig")
    with pytest.raises(ConfigFileError, match="cannot be read: Is a directory"):
        read(tmp_path, "SSLConfig")


def test_the_model_config_of_the_real_package(tmp_path: Path) -> None:
    config = read_model_config_file(
        _file(tmp_path, 'model_config_list { config { name: "a" version_labels { key: "stable" value: 3 } } }')
    )
    assert dict(config.model_config_list.config[0].version_labels) == {"stable": 3}
    with pytest.raises(ConfigFileError, match=r'1:30: .*the nearest is "base_path"'):
        read_model_config_file(_file(tmp_path, "model_config_list { config { basepath: '/x' } }"))


@given(st.binary(max_size=200))
def test_any_content_is_parsed_or_refused_in_words(content: bytes) -> None:
    try:
        parse(content, "PlatformConfigMap", "file")
    except ConfigFileError as error:
        assert str(error).startswith("file")
