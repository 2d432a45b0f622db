"""Settling the doubtful rim of a prediction by the image's own edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import watershed

BAND = 1.0
"""Doubtful: less than this many logits from 0.5, that is 0.27 < p < 0.73. Wider bands gained on nuclei but
lost on membranes."""
SNAPPED = 0.95
GRADIENT_SIGMA_PX = 1.0


def snap_to_edges(image: npt.NDArray[np.float32], probability: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Give each doubtful pixel to foreground or background, whichever floods it first.

    A network's probability falls off smoothly over several pixels at a cell's rim; the image often
    tells to the pixel where the rim is. A watershed (Meyer 1994) over the image's gradient floods
    the doubtful band from the sure foreground and the sure background; they meet on the strongest
    edge between them.

    Parameters
    ----------
    image : (C, *spatial) float32, normalised
    probability : (K, *spatial) float32, background first, sums to 1; 0.5 lies near the edges already
        (`edge_level.shift_to_edge`)

    Returns
    -------
    (K, *spatial) float32: doubtful pixels have foreground 0.95 or 0.05, the others are unchanged. The
    classes of the foreground keep their proportions.
    """
    foreground = np.clip(1 - probability[0], 1e-6, 1 - 1e-6)
    logit = np.log(foreground) - np.log1p(-foreground)
    sides = np.where(logit > BAND, 2, np.where(logit < -BAND, 1, 0)).astype(np.int32)
    doubtful = sides == 0
    if not (doubtful.any() and (sides == 1).any() and (sides == 2).any()):
        return probability
    steep = [ndimage.gaussian_gradient_magnitude(channel, GRADIENT_SIGMA_PX) for channel in image]
    gradient = np.sqrt(np.sum(np.square(steep), axis=0))
    # Only the band and its rim: flooding all of the image gives the same and takes eight times as long.
    band = ndimage.binary_dilation(doubtful, np.ones((3,) * doubtful.ndim, bool))
    flooded = watershed(gradient, sides, mask=band)  # type: ignore[no-untyped-call]
    target = np.where(flooded == 2, np.float32(SNAPPED), np.float32(1 - SNAPPED))[doubtful]
    out = probability.copy()
    out[0, doubtful] = 1 - target
    out[1:, doubtful] *= target / foreground[doubtful]
    return out
