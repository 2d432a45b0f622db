"""An array as runs of equal values: labels have some thirty times as few of them as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """An array in raster order, run by run; a run may be empty.

    shape : of the array
    lengths : (R,) unsigned, pixels of each run
    values : (R,) unsigned, the value of each run
    """

    shape: tuple[int, ...]
    lengths: npt.NDArray[np.unsignedinteger[Any]]
    values: npt.NDArray[np.unsignedinteger[Any]]

    @classmethod
    def amid_zeros(
        cls,
        starts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        values: npt.NDArray[np.unsignedinteger[Any]],
        shape: Sequence[int],
    ) -> Runs:
        """Of an array that is 0 but in runs that do not overlap: their rising flat starts, lengths and values (R,)."""
        size = int(np.prod(shape))
        # Between any two, and at both ends, a run of 0.
        every = np.zeros(2 * len(starts) + 1, np.int64)
        every[1::2] = lengths
        every[::2] = np.append(starts, size) - np.append(0, starts + lengths)
        numbers = np.zeros(len(every), values.dtype)
        numbers[1::2] = values
        return cls(tuple(shape), every.astype(np.uint32), numbers)

    def through(self, table: npt.NDArray[Any]) -> Runs:
        """The same runs, each with the value that a table (highest value + 1,) has for its own."""
        return Runs(self.shape, self.lengths, table.take(self.values))

    def array(self) -> npt.NDArray[Any]:
        """The array itself."""
        return np.repeat(self.values, self.lengths).reshape(self.shape)
