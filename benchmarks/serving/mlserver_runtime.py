"""MLServer's runtime for the benchmark's model: calls the signature on V2 JSON floats.

Runs in an environment of MLServer's own; `benchmarks.serving.servers` writes the settings that name this class.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class SignatureRuntime(MLModel):
    """Serves the float signature of a SavedModel."""

    async def load(self) -> bool:
        """Load the SavedModel that the settings name."""
        self._model = tf.saved_model.load(self.settings.parameters.uri)
        self._call = self._model.signatures["predict_floats"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        image = NumpyCodec.decode_input(payload.inputs[0]).astype("float32")
        answer = self._call(image=tf.constant(image))["probabilities"].numpy()
        output = NumpyCodec.encode_output("probabilities", answer)
        return InferenceResponse(model_name=self.name, outputs=[output])
