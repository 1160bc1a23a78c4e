"""A model loaded twice: once for all cores, once for calls that are over before other cores have woken up.

Comes in: both, and up to how many rows a call belongs to the second. Goes out: `PairedServable`. Made by
`serving.server.pairing`, which measures where the border lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.server.batch_rows import rows_of
from serving.server.servable import Servable
from serving.server.status import StatusError
from serving.signature import Signature


class PairedServable:
    """Two loads of a model that keeps nothing from call to call; see `serving.server.servable.Servable`."""

    def __init__(self, whole: Servable, single: Servable, rows: Mapping[str, int]) -> None:
        """Own both.

        Args:
            whole: The model, with all cores for a call.
            single: The same with one thread for a call.
            rows: By signature, up to how many rows a call goes to `single`.
        """
        self._whole = whole
        self._single = single
        self.one_core_rows: Mapping[str, int] = rows
        self.signatures: Mapping[str, Signature] = whole.signatures
        self.batchable: Mapping[str, bool] = whole.batchable

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run a signature; see `Servable.run`."""
        if 0 < rows_of(inputs) <= self.one_core_rows.get(signature, 0):
            try:
                return self._single.run(signature, inputs, outputs)
            except StatusError:
                # It does not say which operation failed. Nothing is kept from call to call, so a second one does no
                # harm.
                pass
        return self._whole.run(signature, inputs, outputs)

    def signature_defs(self) -> Any:
        """Return the `SignatureDefMap` proto of the model."""
        return self._whole.signature_defs()

    def close(self) -> None:
        """Wait for the calls that run, then free both; closing twice is allowed."""
        self._whole.close()
        self._single.close()
