"""Gaussian filtering over features of any number of dimensions, in linear time.

Source: Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010,
section 3: pixels are spread onto the corners of the simplex that holds them (splat), a short filter runs along the
lattice's axes (blur), and the corners are gathered (slice). Written from the paper; no library with it installs
without a compiler.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Lattice:
    """The linear map v_p -> c sum_q exp(-|f_p - f_q|^2 / 2) v_q, nearly, for fixed features f; q runs over all pixels.

    c, about .5 to .8, cancels where the kernel is normalised, as it is in `nn.mean_field`; that is then 1 to 5 % off.
    Differentiable in v. Splat and slice are one another's transpose.

    features : (N, F) float, already divided by their sigmas
    """

    def __init__(self, features: Tensor) -> None:
        n, f = features.shape
        keys, weights = _simplex(features)
        # A key is known by one number, linear in it, so that a neighbour's number is this one plus a constant.
        code = _code(f, features.device)
        numbers, corner = torch.unique((keys * code).sum(dim=2).flatten(), return_inverse=True)
        self.n_points = len(numbers)
        self.corner = corner
        self.weights = weights.reshape(-1, 1)
        self.pixel = torch.arange(n, device=features.device).repeat_interleave(f + 1)
        self.neighbours = []
        for axis in range(f + 1):
            # One step: +1 in all coordinates, and -F in this one; the last coordinate is not kept.
            away = code.sum() - (code[axis] * (f + 1) if axis < f else 0)
            self.neighbours.append((self._find(numbers, numbers + away), self._find(numbers, numbers - away)))
        self.scale = 1 / (1 + 2.0**-f)

    def _find(self, numbers: Tensor, wanted: Tensor) -> Tensor:
        """Where `wanted` stand in sorted `numbers`; one behind the last where they do not."""
        at = torch.searchsorted(numbers, wanted).clamp(max=len(numbers) - 1)
        return torch.where(numbers[at] == wanted, at, self.n_points)

    def __call__(self, values: Tensor) -> Tensor:
        """(N, K) float -> (N, K)."""
        # index_select, not indexing: the gradient of the one is the same in every run.
        spread = values.index_select(0, self.pixel) * self.weights
        points = values.new_zeros(self.n_points, values.shape[1]).index_add(0, self.corner, spread)
        for one, other in self.neighbours:
            padded = torch.cat([points, points.new_zeros(1, points.shape[1])])
            points = points + 0.5 * (padded.index_select(0, one) + padded.index_select(0, other))
        gathered = points.index_select(0, self.corner) * self.weights
        return gathered.reshape(len(values), -1, values.shape[1]).sum(dim=1) * self.scale


def _code(n: int, device: torch.device) -> Tensor:
    """Odd numbers of 62 bits: two keys of an image get the same number by chance of one in 2^60 only."""
    values = [(0x9E3779B97F4A7C15 * (2 * i + 1) ** 3 & (2**62 - 1)) | 1 for i in range(n)]
    return torch.tensor(values, dtype=torch.int64, device=device)


def _simplex(features: Tensor) -> tuple[Tensor, Tensor]:
    """Corners (N, F+1, F) int64 of each pixel's simplex, without the last coordinate, and their weights (N, F+1)."""
    n, f = features.shape
    x = features.double()
    # Elevation onto the plane of zero sum; the factor makes the blur that of a Gaussian of sigma 1.
    factor = math.sqrt(2 / 3) * (f + 1)
    scales = [factor / math.sqrt((i + 1) * (i + 2)) for i in range(f)]
    scaled = x * torch.tensor(scales, dtype=x.dtype, device=x.device)
    after = scaled.flip(1).cumsum(1).flip(1)
    zero = torch.zeros(n, 1, dtype=x.dtype, device=x.device)
    order = torch.arange(f + 1, device=x.device)
    elevated = torch.cat([after, zero], dim=1) - order * torch.cat([zero, scaled], dim=1)
    # The nearest point whose coordinates are multiples of F+1, and by how much its sum is off.
    nearest = torch.round(elevated / (f + 1)) * (f + 1)
    off = (nearest.sum(dim=1, keepdim=True) / (f + 1)).round().long()
    away = elevated - nearest
    rank = torch.argsort(torch.argsort(-away, dim=1, stable=True), dim=1, stable=True) + off
    move = (rank < 0).long() - (rank > f).long()
    rank = rank + move * (f + 1)
    nearest = nearest.long() + move * (f + 1)
    # Barycentric coordinates from the differences sorted by rank.
    away = (elevated - nearest) / (f + 1)
    by_rank = torch.zeros_like(away).scatter(1, rank, away).flip(1)
    weights = by_rank - torch.cat([by_rank[:, -1:] - 1, by_rank[:, :-1]], dim=1)
    # The corner of remainder r: +r for coordinates of rank up to F - r, r - (F + 1) for the others.
    corners = nearest[:, None] + torch.where(rank[:, None] <= f - order[:, None], 0, -(f + 1)) + order[:, None]
    return corners[:, :, :f], weights.to(features.dtype)
