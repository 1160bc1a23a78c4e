"""The section `card`: what people should know about the model, for the card that ships with it.

Read by the stages Pusher, EdgePusher and FormPusher.
"""

from __future__ import annotations

from pydantic import Field

from transform.settings import Settings


class CardSettings(Settings):
    """What only the model's makers know; figures, inputs and outputs are filled in by the pipeline."""

    description: str = Field(
        "", description="what the model does, in a sentence or two; empty: what the config says of it"
    )
    intended_use: str = Field("not stated", min_length=1, description="what the model is for")
    users: tuple[str, ...] = Field((), description="who is meant to use it")
    limits: tuple[str, ...] = Field((), description="what it is not for, and where it is known to fail")
    tradeoffs: tuple[str, ...] = Field((), description="what was given up for what; the forms' figures are filled in")
    risks: dict[str, str] = Field(
        default_factory=dict, description="ethical risks of its use, each with what is done about it"
    )
    data: str = Field("", description="what it was trained on, its origin and license; empty: the data source's name")
    license: str = Field("not stated", min_length=1, description="license of the model, best as an SPDX identifier")
    references: tuple[str, ...] = Field((), description="addresses of papers, data sets, code")
    author: str = Field("", description="who made it")
