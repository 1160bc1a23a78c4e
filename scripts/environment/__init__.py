"""The steps of the set-up, on the standard library alone and for any Python from 3.8 on.

`scripts/bootstrap.py` is the only caller: it checks the machine, finds Python 3.10, gets uv, fills `.venv`
from the lock and writes the stamp by which the next call knows that there is nothing to do.
"""
