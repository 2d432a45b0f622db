"""Which pixels are sure, by how much repeated predictions of them differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

Floats = npt.NDArray[np.float32]


@dataclass
class Spread:
    """Mean and variance over predictions (K, *spatial) that come one after the other, by Welford's update."""

    mean: Floats
    squares: Floats
    n: int = 1

    @classmethod
    def of(cls, first: Floats) -> Spread:
        return cls(first.copy(), np.zeros_like(first))

    def add(self, prediction: Floats) -> None:
        self.n += 1
        away = prediction - self.mean
        self.mean += away / self.n
        self.squares += away * (prediction - self.mean)

    def at_level(self, level: float) -> Spread:
        """The same of predictions whose background counts level / (1 - level) times: the best class is then
        that of `segment.edge_level.shift_to_edge`, whose common denominator a comparison of two classes needs not."""
        odds = np.float32(level / (1 - level))
        out = Spread(self.mean.copy(), self.squares.copy(), self.n)
        out.mean[0] *= odds
        out.squares[0] *= odds**2
        return out


def welch_p(spread: Spread) -> npt.NDArray[np.float64]:
    """(*spatial) p-value of two-sided Welch's t-test between the two classes of largest mean; from two predictions on.

    t = (m_1 - m_2) / sqrt(v_1 / n + v_2 / n) with nu = (n - 1) (v_1 + v_2)^2 / (v_1^2 + v_2^2) degrees of freedom.
    Where nothing varies it is 0, or 1 if the two are equal.

    Source: Welch, Biometrika 34, 1947, equations 28 and 29; its use for labels: Can et al., DLMIA 2018, section 2.3.
    """
    order = np.argsort(spread.mean, axis=0)[-2:]
    low, high = np.take_along_axis(spread.mean, order, axis=0).astype(np.float64)
    v_low, v_high = np.take_along_axis(spread.squares, order, axis=0).astype(np.float64) / (spread.n - 1)
    total = v_low + v_high
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (high - low) / np.sqrt(total / spread.n)
        freedom = (spread.n - 1) * total**2 / (v_low**2 + v_high**2)
        p = 2 * stdtr(freedom, -t)
    return np.asarray(np.where(total > 0, p, high <= low), np.float64)
