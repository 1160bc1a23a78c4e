from __future__ import annotations

from pathlib import Path

import pytest

from serving.client.address import Address, TlsFiles, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://host:8501", Address("rest", False, "http://host:8501")),
        ("https://host/prefix/", Address("rest", True, "https://host/prefix")),
        ("grpc://host:8500", Address("grpc", False, "host:8500")),
        ("grpc://host", Address("grpc", False, "host:8500")),
        ("grpcs://[::1]:9", Address("grpc", True, "[::1]:9")),
        ("unix:/run/model.sock", Address("grpc", False, "unix:/run/model.sock")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "host:8500", "ftp://host", "http://", "grpc://host/path", "http://host:99999", "http://h?a=1", "unix:"]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected http://host:8501"):
        parse_address(text)


def test_half_a_key_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="both or neither"):
        TlsFiles(certificate=Path("client.pem"))
