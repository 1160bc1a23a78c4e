"""Status codes and the error that carries one."""

from __future__ import annotations

import pickle

from serving.server.status import Code, StatusError


def test_codes_are_those_of_grpc() -> None:
    import grpc

    numbers = {code.name: code.value[0] for code in grpc.StatusCode}
    assert {code.name: int(code) for code in Code} == numbers


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(StatusError(Code.NOT_FOUND, "no such model")))
    assert (type(error), error.code, error.message) == (StatusError, Code.NOT_FOUND, "no such model")
    assert str(error) == "NOT_FOUND: no such model"
