"""Cell or background by a graph cut: where the network is in doubt a pixel's neighbours decide, less across edges.

Source: Harada, Hayashi & Bise, "Scribbles for Metric Learning in Histological Image Segmentation", EMBC 2019, and
their cut of volumes. Over labels l_v of 0 and 1 it minimises

    E = sum_v |l_v - h_v| + gamma sum_(v,v') |l_v - l_v'| (exp(-(x_v - x_v')^2 / sigma^2) + delta),

h the probability of a cell, x the image, v' the neighbours of v that share a face with it. The minimum is exact
(`minimum_cut`).

Where we differ, and why:
- `strength` stands for gamma: of all links of a pixel together at most so much, in 2D and 3D alike. It is below 1, so
  a pixel of which the network is certain keeps its side whatever its neighbours say. That keeps small cells, and
  makes most of the cut as cheap as a filter.
- A link is weaker the further apart its pixels are, as in GrabCut: sections that lie ten pixels apart say a tenth.
- Several channels: (x_v - x_v')^2 is the sum over them. K classes: cells of all kinds are cut from the background;
  which of them a pixel is says the network.
- An image is cut in blocks that see `OVERLAP_PX` around them. Pixels whose side hangs on others further away than
  that may fall otherwise than in one cut of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import Slices
from cellscribble.segment.instances import QUANTUM
from cellscribble.segment.minimum_cut import cut_grid
from cellscribble.segment.settings import check_names, check_number

OVERLAP_PX = 16
"""Around a block, in units of the finest axis."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GraphCut:
    """Settings of the cut; stored in the model.

    strength : of all links of a pixel together, 0..0.99, where 1 is the difference between certainly cell and
        certainly background
    sigma : difference of two pixels, in units of the normalised image, across which a link is weakened to 1/e
    delta : what is left of a link across any edge, as a share of the rest, 0..1
    """

    strength: float = 0.9
    sigma: float = 0.1
    delta: float = 0.1

    def __post_init__(self) -> None:
        for name, low, high in (("strength", 0, 0.99), ("sigma", 1e-6, 1e6), ("delta", 0, 1)):
            check_number(f"{name} of the graph cut", getattr(self, name), low, high)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GraphCut:
        """Read what `to_dict` wrote.

        Raises
        ------
        InputError
            If a name is unknown or a value out of range.
        """
        check_names(values, cls, "settings of the graph cut")
        return cls(**values)


def overlap_px(spacing: Sequence[float], halo_px: Sequence[int]) -> tuple[int, ...]:
    """What a block sees around it when it is cut, px on each axis: never more than the network's halo."""
    return tuple(min(round(OVERLAP_PX / apart), halo) for apart, halo in zip(spacing, halo_px, strict=True))


def put_on_sides(
    probability: Floats, image: Floats, settings: GraphCut, spacing: Sequence[float], keep: Slices | None = None
) -> Floats:
    """Probability (K, *keep) in which the cut stands: background 1 outside; 0 inside, where the others sum to 1.

    So all that decides on a probability, at any threshold, decides as the cut did.

    Parameters
    ----------
    probability : (K, *window) float32, background first
    image : (C, *window) float32, normalised
    spacing : as `core.volume.relative_spacing`
    keep : the part of the window that is asked for; None for all of it
    """
    steps = np.rint((1 - probability[0]) * QUANTUM).astype(np.int32)
    inside = cut_grid(2 * steps - QUANTUM, links(image, settings, spacing))
    if keep is not None:
        inside, probability = inside[keep], probability[(slice(None), *keep)]
    cells = probability[1:]
    total = cells.sum(axis=0)
    # A cell that the network says nothing of at all is of the first class.
    first = np.eye(len(cells), 1, dtype=np.float32).reshape(-1, *(1,) * inside.ndim)
    share = np.where(total > 0, cells / np.maximum(total, np.finfo(np.float32).tiny), first)
    return np.concatenate([~inside[None], share * inside]).astype(np.float32)


def links(image: Floats, settings: GraphCut, spacing: Sequence[float]) -> list[npt.NDArray[np.int32]]:
    """For each axis (*spatial) int32: the link of a pixel to the next one, in units of 1/QUANTUM."""
    all_links = sum(2 / apart for apart in spacing) * (1 + settings.delta)
    out = []
    for axis, apart in enumerate(spacing):
        square = np.square(np.diff(image, axis=axis + 1)).sum(axis=0)
        alike = np.exp(-square / settings.sigma**2) + settings.delta
        weight = np.rint(alike * (settings.strength * QUANTUM / (apart * all_links))).astype(np.int32)
        last = [(0, 0)] * len(spacing)
        last[axis] = (0, 1)
        out.append(np.pad(weight, last))
    return out


def typical_difference(image: Floats) -> float:
    """sigma for an image like this one: sigma^2 twice the mean square difference of neighbours, as beta of GrabCut."""
    squares = [np.square(np.diff(image, axis=axis)).sum(axis=0) for axis in range(1, image.ndim)]
    n = sum(square.size for square in squares)
    mean = sum(float(square.sum(dtype=np.float64)) for square in squares) / max(1, n)
    return float(max(1e-3, np.sqrt(2 * mean)))
