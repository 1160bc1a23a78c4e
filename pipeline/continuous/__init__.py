"""Continuous training: what starts the next run, and whether what the served model sees has drifted away."""
