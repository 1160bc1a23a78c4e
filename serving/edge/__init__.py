"""The bundle for mobile teams: model files that describe themselves, a card, sums, samples, examples.

Comes in: `.tflite` files that passed certification. Goes out: a folder, published as atomically as a
SavedModel, that anyone can check with `python -m serving.edge verify BUNDLE`, without TensorFlow.
"""
