"""Models by name, the training loop, tuning and the export of signatures.

Examples and a transform graph come in, a served SavedModel and a training history go out. Everything is
a plain function; only `trainer.run` and `trainer.tuning.tuner_fn` know the arguments TFX hands over.
"""
