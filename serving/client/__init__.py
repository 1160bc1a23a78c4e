"""Clients of a model server: TensorFlow Serving's own or the embedded one, over REST or gRPC, without TensorFlow.

Comes in: the address of a server and the name of a model. Goes out: predictions, version states, signatures. Used by
the gateway, the traffic controller and by programs of users.
"""

from serving.client.address import TlsFiles
from serving.client.answers import ImageAnswer, Prediction
from serving.client.asynchronous import AsyncClient
from serving.client.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NotAllowed,
    NotFound,
    ServerFailure,
    Unavailable,
)
from serving.client.retries import RetryBudget
from serving.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "ImageAnswer",
    "InvalidRequest",
    "NotAllowed",
    "NotFound",
    "Prediction",
    "RetryBudget",
    "ServerFailure",
    "TlsFiles",
    "Unavailable",
]
