"""The baseline of a comparison: the model that was blessed last, other than the candidate itself.

TFX's own strategy takes the latest blessed model, which after a blessing is the candidate: the next run would
then judge the same model again, against itself, and push it twice. With the candidate left out, the baseline of an
unchanged candidate doesn't change when it is blessed, so nothing runs again.
"""

from __future__ import annotations

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver


class BaselineStrategy(resolver.ResolverStrategy):
    """Resolves `model` and `model_blessing` to the model with the newest positive blessing, but not `candidate`."""

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Choose the baseline.

        Args:
            store: the metadata store; not used, the inputs hold every model and blessing of the pipeline.
            input_dict: `model`, `model_blessing` (all that there are) and `candidate` (one).

        Returns:
            The same keys; `model` and `model_blessing` are empty where nothing else was blessed yet.
        """
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        models = {artifact.id: artifact for artifact in input_dict["model"]}
        nothing = {"model": [], "model_blessing": [], "candidate": input_dict["candidate"]}
        for blessing in sorted(input_dict["model_blessing"], key=lambda artifact: artifact.id, reverse=True):
            model_id = blessing.get_int_custom_property("current_model_id")
            if blessing.get_int_custom_property("blessed") == 1 and model_id in models and model_id not in candidates:
                return {**nothing, "model": [models[model_id]], "model_blessing": [blessing]}
        return nothing
