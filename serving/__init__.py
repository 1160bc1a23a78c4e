"""What happens to a model after it was trained: publish, verify, load as in production, predict.

Comes in: exported SavedModel directories. Goes out: published versions and predictions. Nothing in this
package imports TFX, Beam, ML Metadata or the other rooms, and importing it loads neither TensorFlow nor
numpy.
"""
