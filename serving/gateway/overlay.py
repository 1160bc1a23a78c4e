"""A coarse heatmap -> a transparent picture that is laid over the original.

Called for answers that were asked to explain themselves.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SIDE = 224
# Seven stops of the colour map "inferno" without its black end: dark to bright also for the color-blind.
_STOPS = ((87, 16, 110), (136, 34, 106), (186, 54, 85), (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164))
_STRONGEST = 0.85


def colored(heatmap: np.ndarray) -> np.ndarray:
    """Return uint8 [h, w, 4], RGBA: the hotter, the brighter and the less transparent.

    Args:
        heatmap: float32 [h, w] in [0, 1].
    """
    import numpy as np

    stops = np.linspace(0, 1, len(_STOPS))
    channels = [np.interp(heatmap, stops, [stop[channel] for stop in _STOPS]) for channel in range(3)]
    alpha = np.clip(heatmap * 1.25 - 0.1, 0, _STRONGEST) * 255
    return np.stack([*channels, alpha], axis=-1).round().astype(np.uint8)


def as_data_url(heatmap: np.ndarray) -> str:
    """Return a PNG of at most 224 pixels a side as a data URL.

    Args:
        heatmap: float32 [h, w] in [0, 1].
    """
    import numpy as np
    from PIL import Image

    height, width = heatmap.shape
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smooth = Image.fromarray(heatmap.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    picture = Image.fromarray(colored(np.clip(np.asarray(smooth), 0, 1)))
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
