"""The life of model versions: found, loaded, served, replaced, unloaded.

`manager.ModelManager` is what the rest of the server talks to; the other modules each own one part of the rules.
"""
