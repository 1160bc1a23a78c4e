"""Measuring finished models: quality, size, operations and time of every form, by one yardstick.

Comes in: files and directories that a converter wrote, and labeled images. Goes out: one `Measurement` per
variant. Each model runs in a subprocess, because a runtime may crash on a damaged file.
"""
