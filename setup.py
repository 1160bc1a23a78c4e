"""Entry for tools that still ask for a setup.py (Beam, Dataflow and Vertex package the code with it).

All metadata is in pyproject.toml.
"""

from setuptools import setup

setup()
