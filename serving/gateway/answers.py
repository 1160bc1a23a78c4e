"""What the gateway answers, as models that also describe the API, and how an opinion of the model becomes one.

Called by `predicting`; the page and clients read the JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from serving.gateway.model_server import Facts, Opinion, names

if TYPE_CHECKING:
    import numpy as np

_NO_HEATMAP = (
    "version {version} has no signature 'explain': it was exported without Grad-CAM, or is no convolutional network"
)


class Candidate(BaseModel):
    """One class and how probable the model finds it."""

    label: str = Field(examples=["owl"])
    class_id: int = Field(examples=[2])
    probability: float = Field(examples=[0.93])


class ModelRef(BaseModel):
    """Who answered."""

    name: str = Field(examples=["pets"])
    version: int = Field(description="Exact number of the version that answered.", examples=[7])
    variant: str = Field(description="`stable`, `canary`, or `latest` where traffic is not split.", examples=["stable"])


class Explanation(BaseModel):
    """Where the model looked (Grad-CAM)."""

    available: bool
    reason: str | None = Field(None, description="Why there is none.")
    overlay: str | None = Field(None, description="PNG with transparency as a data URL; stretch it over the picture.")
    heatmap: list[list[float]] | None = Field(None, description="Rows of cells from 0 to 1.")


class Prediction(BaseModel):
    """What the model says about one picture."""

    label: str = Field(description="The most probable class.", examples=["owl"])
    class_id: int = Field(examples=[2])
    confidence: float = Field(description="Its probability.", examples=[0.93])
    sure: bool = Field(description="Whether the confidence reaches the threshold.", examples=[True])
    answer: str = Field(description='The label, or "not sure" below the threshold.', examples=["owl"])
    top: list[Candidate] = Field(description="The most probable classes, best first.")


class PredictAnswer(Prediction):
    """The answer to one picture."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "request_id": "5b2c0f7c9d6e4b0fa1c7",
                    "model": {"name": "pets", "version": 7, "variant": "stable"},
                    "label": "owl",
                    "class_id": 2,
                    "confidence": 0.93,
                    "sure": True,
                    "answer": "owl",
                    "top": [
                        {"label": "owl", "class_id": 2, "probability": 0.93},
                        {"label": "cat", "class_id": 0, "probability": 0.05},
                    ],
                    "threshold": 0.5,
                    "milliseconds": 12.4,
                    "receipt": "eyJ...",
                    "explanation": {"available": False, "reason": "version 7 has no signature 'explain'"},
                }
            ]
        }
    )

    request_id: str
    model: ModelRef
    threshold: float = Field(examples=[0.5])
    milliseconds: float = Field(description="Time in the gateway, the model server's included.", examples=[12.4])
    receipt: str | None = Field(None, description="Show it with feedback on this answer.")
    explanation: Explanation | None = Field(None, description="Only if it was asked for.")


class ItemError(BaseModel):
    """Why one picture of a batch has no answer."""

    status: int = Field(examples=[422])
    code: str = Field(examples=["damaged"])
    message: str


class BatchItem(BaseModel):
    """One picture of a batch: a prediction or an error."""

    index: int = Field(description="Place in the request, from 0.")
    name: str = Field(description="File name as sent, made harmless.")
    prediction: Prediction | None = None
    receipt: str | None = None
    error: ItemError | None = None


class BatchAnswer(BaseModel):
    """The answers to a batch, in the order of the request."""

    request_id: str
    model: ModelRef | None = Field(description="Null if no picture got as far as the model.")
    threshold: float
    milliseconds: float
    succeeded: int
    failed: int
    items: list[BatchItem]


def prediction(opinion: Opinion, facts: Facts, top_k: int, threshold: float) -> Prediction:
    """Return the answer for one picture.

    Args:
        opinion: what the model says.
        facts: the names of its classes.
        top_k: how many classes to list.
        threshold: confidence below which the answer is "not sure".
    """
    import numpy as np

    called = names(facts, opinion)
    # A stable order, so that equal probabilities do not swap places between two requests.
    order = np.argsort(-opinion.probabilities, kind="stable")[:top_k]
    confidence = float(opinion.probabilities[opinion.class_id])
    sure = confidence >= threshold
    return Prediction(
        label=opinion.label,
        class_id=opinion.class_id,
        confidence=confidence,
        sure=sure,
        answer=opinion.label if sure else "not sure",
        top=[
            Candidate(label=called[index], class_id=int(index), probability=float(opinion.probabilities[index]))
            for index in order
        ],
    )


def explanation(heatmap: np.ndarray | None, version: int) -> Explanation:
    """Return the heatmap as a picture to lay over the original, or the reason why there is none."""
    if heatmap is None:
        return Explanation(available=False, reason=_NO_HEATMAP.format(version=version))
    if not heatmap.any():
        return Explanation(available=False, reason="no region of the picture speaks for this class more than others")
    from serving.gateway.overlay import as_data_url

    rows = [[round(float(cell), 3) for cell in row] for row in heatmap]
    return Explanation(available=True, overlay=as_data_url(heatmap), heatmap=rows)
