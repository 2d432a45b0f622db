"""The energy of a dense conditional random field: how much a segmentation cuts apart what looks alike."""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 1 << 22
"""Entries of W that are held at once."""


def dense_crf_energy(logits: Tensor, image: Tensor, sigma_px: float, sigma_intensity: float, grid_px: int) -> Tensor:
    """Share of the similarity between pixels that lies between different classes, mean over the batch.

    With S^k = softmax(logits)^k as a vector over the N pixels of a patch

        R = sum_k S^k' W (1 - S^k) / 1' W 1,
        W_pq = exp(-|x_p - x_q|^2 / (2 sigma_px^2) - |I_p - I_q|^2 / (2 sigma_intensity^2)).

    0 where every pixel is surely of one class, at most 1 - 1/K. Dividing by 1' W 1 makes the value, and so the
    weight that it takes, independent of the size of the patch and of the kernel.

    W has N^2 entries. Of its columns only those of every `grid_px`-th pixel along each axis are computed, exactly, for
    all rows: the sum over q is a mean over this even grid times N. sigma_px is far above `grid_px`, so what is
    approximated is the distribution of intensities around a pixel. `grid_px` 1 is the exact sum.

    By S^k the gradient is W (1 - 2 S^k) / 1' W 1; since sum_k S^k = 1 that is as good as 2 W (1 - S^k) / 1' W 1, from
    which it differs by the same number for every k. The second needs the grid's columns alone and is used here.

    Parameters
    ----------
    logits : (B, K, *spatial) float
    image : (B, C, *spatial) float
    sigma_px : of positions, px on every axis
    sigma_intensity : of intensities, in their own unit; channels add as squares
    grid_px : distance of the pixels q along each axis

    Source: Tang et al., ECCV 2018, equations 3 and 4 with the Gaussian kernel of section 3.
    """
    s = torch.softmax(logits, dim=1).flatten(2)
    with torch.no_grad():
        grid = _every(logits.shape[2:], grid_px, logits.device)
        place = _places(image) / sigma_px
        features = torch.cat([place.expand(len(image), *place.shape), image.flatten(2) / sigma_intensity], dim=1)
        cut, total = torch.empty_like(s), s.new_zeros(len(s))
        # Patch by patch and some rows at a time: all of W takes gigabytes.
        step = max(1, AT_ONCE // len(grid))
        for b, (own, rest) in enumerate(zip(features, 1 - s[:, :, grid], strict=True)):
            for rows in (slice(start, start + step) for start in range(0, s.shape[2], step)):
                w = _gaussian(own[:, rows], own[:, grid])
                cut[b, :, rows] = rest @ w.T
                total[b] += w.sum()
    energy = (s * cut).sum(dim=(1, 2)) / total
    # Half of the gradient comes by each of the two S; only one of them is followed.
    return (2 * energy - energy.detach()).mean()


def _places(image: Tensor) -> Tensor:
    """(ndim, N) pixel coordinates around the patch's middle."""
    axes = [torch.arange(n, device=image.device, dtype=image.dtype) - (n - 1) / 2 for n in image.shape[2:]]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")])


def _every(shape: torch.Size, step: int, device: torch.device) -> Tensor:
    """Flat indices of every `step`-th pixel along each axis, as far from the border on one side as on the other."""
    flat = torch.zeros(1, dtype=torch.int64, device=device)
    for n in shape:
        first = ((n - 1) % step) // 2
        along = torch.arange(first, n, step, device=device)
        flat = (flat[:, None] * n + along).flatten()
    return flat


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    """exp(-|a_p - b_q|^2 / 2), (P, Q), of features (F, P) and (F, Q)."""
    half_a, half_b = (a * a).sum(dim=0) / 2, (b * b).sum(dim=0) / 2
    product = torch.addmm(-half_a[:, None] - half_b[None, :], a.T, b)
    return product.clamp_(max=0).exp_()
