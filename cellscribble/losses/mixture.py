"""How well a mixture of a few intensities explains pixels that the network has not seen."""

from __future__ import annotations

import torch
from torch import Tensor


def mixture_loss(log_memberships: Tensor, means: Tensor, intensities: Tensor, sigma: float) -> Tensor:
    """Mean negative log-likelihood of pixels under mixtures of Gaussians, without its constant; 0 or more.

        L_mix = - mean over pixels i and tasks t of log sum_m a_itm exp(- |x_i - mu_itm|^2 / (2 sigma^2))

    Parameters
    ----------
    log_memberships : (n, T, M) float, log a
    means : (n, T, M, C) float, mu
    intensities : (n, C) float, x
    sigma : in the unit of the intensities

    Source: Martinez et al., 2021, the term L_mix.
    """
    squares = (intensities[:, None, None] - means).square().sum(dim=-1)
    return -torch.logsumexp(log_memberships - squares / (2 * sigma * sigma), dim=-1).mean()


def component_means(components: Tensor, image: Tensor) -> Tensor:
    """(B, T, M, C) means of a patch's intensities, each pixel weighed by its membership in the component.

    Parameters
    ----------
    components : (B, T, M, *spatial) float, whose softmax over M are the memberships
    image : (B, C, *spatial) float

    The M-step of the mixture in closed form: no other means explain the patch better by these memberships.
    """
    memberships = torch.softmax(components, dim=2).flatten(3)
    sums = torch.einsum("btmp,bcp->btmc", memberships, image.flatten(2))
    return sums / memberships.sum(dim=3).clamp(min=1e-6)[..., None]
