"""How unsure the network is of each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def uncertainty(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """(*spatial) uint8: 255 * (1 - (p_max - p_second)), from the probability (K, *spatial) of K classes.

    0 where one class is certain, 255 where the two most probable ones are equal: the margin of
    active learning (T. Scheffer et al., "Active hidden Markov models for information extraction",
    IDA 2001, section 4).
    """
    margin: npt.NDArray[Any]
    if len(probability) == 2:
        margin = np.abs(probability[1] - probability[0])
    else:
        top = np.partition(probability, -2, axis=0)[-2:]
        margin = top[1] - top[0]
    return np.asarray(np.rint(255 * (1 - margin)), np.uint8)
