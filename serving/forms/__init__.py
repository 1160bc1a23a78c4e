"""Converted models, loaded and run: one class a runtime, all with the same face.

Comes in: the files that `serving.convert` writes, or a model from elsewhere. Goes out: probabilities. Called by
everything that measures, certifies or checks a variant. The runtimes are imported when a model is loaded.
"""
