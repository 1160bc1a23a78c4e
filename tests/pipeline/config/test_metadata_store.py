"""The section `metadata`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.config.metadata_store import MetadataSettings

SERVER = {"kind": "mysql", "host": "db", "database": "meta", "user": "slipway"}


def test_without_a_word_it_is_a_file_of_the_work_directory():
    assert MetadataSettings().in_words() == "the SQLite file in the work directory"


@pytest.mark.parametrize(("kind", "port"), [("mysql", 3306), ("postgresql", 5432)])
def test_a_server_has_its_usual_port(kind, port):
    assert MetadataSettings(**{**SERVER, "kind": kind}).address == ("db", port)
    assert MetadataSettings(**{**SERVER, "kind": kind, "port": 1}).address == ("db", 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "sqlite"}, "host is set, but kind is sqlite"),
        ({"host": None}, "kind is mysql, but host is missing"),
        ({"database": None, "user": None}, "database and user is missing"),
        ({"database": "a b"}, "lowercase letters"),
        ({"database": "a'; drop table x"}, "lowercase letters"),
        ({"password_env": "s3cret word"}, "name of an environment variable"),
        ({"kind": "postgresql", "tls": True}, "no TLS for postgresql"),
        ({"tls_cert": "c.pem", "tls": True}, "go together"),
        ({"tls_cert": "c.pem", "tls_key": "k.pem"}, "need tls: true"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"password": "s3cret"}, "password"),
    ],
)
def test_what_does_not_fit_is_said(change, sentence):
    with pytest.raises(ValidationError, match=sentence):
        MetadataSettings(**{**SERVER, **change})


def test_a_password_in_place_of_a_variable_is_not_repeated():
    from pipeline.config.messages import sentences

    with pytest.raises(ValidationError) as caught:
        MetadataSettings(**SERVER, password_env="hunter2 is secret")
    assert not any("hunter2" in sentence for _, sentence in sentences(caught.value))
