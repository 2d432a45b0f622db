"""A dense conditional random field over all pixels, solved by mean field; with weights that can be learnt.

Source: Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011,
equations 1 to 4 and algorithm 1; Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015,
section 4, for the learnt one. The energy is sum_i psi_u(z_i) + sum_(i<j) psi_p(z_i, z_j) with

    psi_p = mu(z_i, z_j) [w1 exp(-|p_i - p_j|^2 / 2 sigma_alpha^2 - |I_i - I_j|^2 / 2 sigma_beta^2)
                          + w2 exp(-|p_i - p_j|^2 / 2 sigma_gamma^2)].

Both kernels are normalised, K_ij / sqrt(K_i K_j) with K_i = sum_j K_ij, as in the authors' code: w1 and w2 then do not
depend on the number of pixels around. A pixel counts among its own neighbours, as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellscribble.core.blocks import map_blocks
from cellscribble.nn.permutohedral import Lattice

CONVOLVE = {2: F.conv2d, 3: F.conv3d}
N_ITERATIONS = 5
LARGEST_WHOLE_PX = 1 << 21
BLOCK_PX = {2: (1024, 1024), 3: (32, 192, 192)}

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CrfWeights:
    """w1 and w2, and the widths of the two kernels: px along every axis, and intensities of 0 to 1."""

    w1: float
    w2: float
    sigma_alpha_px: float
    sigma_beta: float
    sigma_gamma_px: float


class Kernels:
    """Both kernels of one image (C, *spatial) float, as maps of values (K, *spatial)."""

    def __init__(self, image: Tensor, weights: CrfWeights) -> None:
        shape = image.shape[1:]
        axes = [torch.arange(n, device=image.device, dtype=image.dtype) for n in shape]
        places = torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")])
        features = torch.cat([places / weights.sigma_alpha_px, image.flatten(1) / weights.sigma_beta])
        self.lattice = Lattice(features.T)
        self.line = _line(weights.sigma_gamma_px, image)
        one = torch.ones_like(image[:1])
        self.norms = [self._alike(one).rsqrt(), self._near(one).rsqrt()]

    def __call__(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """What alike and what near pixels say, each (K, *spatial)."""
        alike, near = self.norms
        return self._alike(q * alike) * alike, self._near(q * near) * near

    def _alike(self, values: Tensor) -> Tensor:
        return self.lattice(values.flatten(1).T).T.reshape(values.shape)

    def _near(self, values: Tensor) -> Tensor:
        ndim = values.ndim - 1
        out = values[:, None]
        for axis in range(ndim):
            shape = [-1 if i == axis else 1 for i in range(ndim)]
            padding = [len(self.line) // 2 if i == axis else 0 for i in range(ndim)]
            out = CONVOLVE[ndim](out, self.line.reshape(1, 1, *shape), padding=padding)
        return out[:, 0]


def _line(sigma_px: float, like: Tensor) -> Tensor:
    """exp(-d^2 / 2 sigma^2) at d = -3 sigma .. 3 sigma."""
    reach = max(1, math.ceil(3 * sigma_px))
    d = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype)
    return torch.exp(-(d**2) / (2 * sigma_px**2))


def mean_field(
    logits: Tensor, kernels: Kernels, w1: Tensor | float, w2: Tensor | float, compatibility: Tensor | None = None
) -> Tensor:
    """log Q after five updates from Q = softmax(logits), (K, *spatial).

    Q_i(k) ~ exp(logit_i(k) + sum_l c(k, l) [w1 m1_i(l) + w2 m2_i(l)]), m the messages of the two kernels.

    Parameters
    ----------
    logits : (K, *spatial) float, -psi_u up to a constant of each pixel
    w1, w2 : numbers, or one a class, (K, 1, ...)
    compatibility : c = -mu, (K, K); None is Potts' model, 1 on the diagonal and 0 off it: -mu up to a constant
    """
    log_q = torch.log_softmax(logits, dim=0)
    for _ in range(N_ITERATIONS):
        alike, near = kernels(log_q.exp())
        message = w1 * alike + w2 * near
        if compatibility is not None:
            message = torch.einsum("kl,l...->k...", compatibility, message)
        log_q = torch.log_softmax(logits + message, dim=0)
    return log_q


class CrfRnn(nn.Module):
    """Mean field as a layer: w1 and w2 of each class and the compatibility are learnt, the widths are not.

    weights : where learning begins
    """

    def __init__(self, n_classes: int, ndim: int, weights: CrfWeights) -> None:
        super().__init__()
        self.weights = weights
        self.w1 = nn.Parameter(torch.full((n_classes, *(1,) * ndim), float(weights.w1)))
        self.w2 = nn.Parameter(torch.full((n_classes, *(1,) * ndim), float(weights.w2)))
        self.compatibility = nn.Parameter(torch.eye(n_classes))

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """log Q (B, K, *spatial) of logits (B, K, *spatial) and image (B, C, *spatial)."""
        out = []
        for one, its in zip(logits, image, strict=True):
            with torch.no_grad():
                kernels = Kernels(its, self.weights)
            out.append(mean_field(one, kernels, self.w1, self.w2, self.compatibility))
        return torch.stack(out)


@torch.inference_mode()
def refine(logits: Floats, image: Floats, crf: CrfWeights | CrfRnn) -> Floats:
    """`mean_field` for a whole image: log Q (K, *spatial) float32.

    logits : (K, *spatial) float32; image : (C, *spatial) float32, normalised. Above `LARGEST_WHOLE_PX` in blocks, each
    of which sees 2 sigma_alpha further; what is beyond is left out of its sums.
    """
    weights = crf.weights if isinstance(crf, CrfRnn) else crf

    def block(both: Floats) -> Floats:
        values = torch.from_numpy(both)
        unary, picture = values[: len(logits)], values[len(logits) :]
        if isinstance(crf, CrfRnn):
            device = crf.w1.device
            log_q = crf(unary[None].to(device), picture[None].to(device))[0]
        else:
            log_q = mean_field(unary, Kernels(picture, weights), weights.w1, weights.w2)
        out: Floats = log_q.cpu().numpy()
        return out

    both = np.concatenate([logits, image], dtype=np.float32)
    shape = image.shape[1:]
    if math.prod(shape) <= LARGEST_WHOLE_PX:
        return block(both)
    halo_px = (math.ceil(2 * weights.sigma_alpha_px),) * len(shape)
    return map_blocks(block, both, len(logits), BLOCK_PX[len(shape)], halo_px, (1,) * len(shape))
