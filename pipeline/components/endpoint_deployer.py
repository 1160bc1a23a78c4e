"""EndpointDeployer: puts a pushed model behind an endpoint of Vertex AI, with its share of the requests.

Only Vertex AI's pipelines have this stage, after the Pusher. The work is done by
`pipeline.runners.vertex.deployment`; this adapter unwraps artifacts and writes the verdict.
"""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.fingerprinted import parameter
from pipeline.evaluation.verdict import Verdict, write_verdict
from pipeline.runners.vertex.deployment import Deployment, deploy


class EndpointDeployerSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {"deployment": parameter(str)}
    INPUTS = {"pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}
    OUTPUTS = {"deployed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class Executor(base_executor.BaseExecutor):
    """Deploys what was pushed, or says why not."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Deploy the pushed version, unless a gate kept it from being pushed.

        Raises:
            ConfigError: Google's service refuses.
        """
        pushed = artifact_utils.get_single_instance(input_dict["pushed_model"])
        deployed = artifact_utils.get_single_instance(output_dict["deployed_model"])
        if pushed.get_int_custom_property("pushed") != 1:
            deployed.set_int_custom_property("pushed", 0)
            sentence = "nothing was deployed, since nothing was pushed"
            write_verdict(Verdict("EndpointDeployer", False, sentence), deployed.uri)
            return
        outcome = deploy(
            Deployment.from_json(exec_properties["deployment"]),
            pushed.get_string_custom_property("pushed_destination"),
            int(pushed.get_string_custom_property("pushed_version")),
        )
        deployed.set_int_custom_property("pushed", 1)
        deployed.set_string_custom_property("pushed_destination", outcome.endpoint)
        deployed.set_string_custom_property("pushed_version", outcome.model)
        write_verdict(Verdict("EndpointDeployer", True, outcome.sentence), deployed.uri)


class EndpointDeployer(base_component.BaseComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = EndpointDeployerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, pushed_model: types.BaseChannel, deployment: str):
        """Initialize.

        Args:
            pushed_model: what the Pusher published.
            deployment: JSON of a `Deployment`.
        """
        super().__init__(
            EndpointDeployerSpec(
                pushed_model=pushed_model,
                deployment=deployment,
                deployed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )
