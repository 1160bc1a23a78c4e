"""What the techniques of `compress.variants` can't do with the model, said before the first stage runs.

Comes in: the config. Goes out: sentences for the screen and the record. Training takes hours and the techniques come
after it, so whoever asks for a form that can't be made learns it first. The run goes on all the same: the other forms
are made, and the table holds a row with the reason.
"""

from __future__ import annotations

from pipeline.config.config import Config
from pipeline.optimizing.variants import parse_variant


def obstacles(config: Config) -> list[str]:
    """Return what stands in the way of the techniques that train, with the remedies.

    Args:
        config: the config.

    Returns:
        One text per technique that can't be applied, and one about the layers that stay in float; empty without
        techniques, and then TensorFlow isn't imported.

    Raises:
        TrainerError: there is no such model, or it can't be built.
        DataError: the source can't be listed.
    """
    found = [parse_variant(name).technique for name in config.compress.variants]
    techniques = {technique.name: technique for technique in found if technique is not None}
    if not techniques:
        return []
    from trainer import models
    from trainer.compress import support
    from trainer.errors import TrainerError
    from transform.sources.registry import build_source

    classes = len(build_source(config.data).listing().labels)
    model = models.build(config.model, (*config.transform.size, config.transform.channels), classes)
    sentences, quantized = [], []
    for name, technique in techniques.items():
        try:
            support.check(technique, model, config.compress.finetune.float_fallback)
        except TrainerError as error:
            sentences.append(str(error))
        else:
            quantized += [name] if technique.quantizes else []
    if quantized:
        kept = support.float_layers(model)
        sentences += [f"{', '.join(quantized)}: layer {layer} stays in float; {why}" for layer, why in kept.items()]
    return sentences
