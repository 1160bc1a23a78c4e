"""Conversion without training: a SavedModel in, the same model for another runtime out, or the reason why not.

Every conversion runs in a process of its own (`serving.convert.running`), because converters abort, hang and
change TensorFlow's global state.
"""
