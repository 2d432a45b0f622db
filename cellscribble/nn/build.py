"""From a name to a network, and what prediction must know about it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cellscribble.core.errors import InputError
from cellscribble.core.volume import plane_distance
from cellscribble.nn.multi_field import MultiFieldUNet
from cellscribble.nn.resnet_unet import DEPTHS, ResNetUNet
from cellscribble.nn.unet import LightUNet

LIGHT_WIDTHS = (24, 48, 96, 128)
MULTI_FIELD_LEVELS = 5
NETWORKS = ("light", "multi_field", *DEPTHS)


def stage_strides(ndim: int, pixel_size_um: Sequence[float] | None, n_levels: int) -> list[tuple[int, ...]]:
    """Strides of the light network's levels; sections stay unpooled while z is the coarser axis."""
    if ndim == 2:
        return [(2, 2)] * n_levels
    ratio = plane_distance(pixel_size_um)
    strides: list[tuple[int, ...]] = []
    for _ in range(n_levels):
        step_z = 1 if ratio > 1.5 else 2
        strides.append((step_z, 2, 2))
        ratio = ratio / 2 if step_z == 1 else ratio
    return strides


def build_network(
    name: str, in_channels: int, out_channels: int, ndim: int, pixel_size_um: Sequence[float] | None = None
) -> LightUNet | ResNetUNet:
    """A fresh network with random weights (torch's global generator).

    Raises
    ------
    InputError
        If the name is unknown; the message lists the names.
    """
    if name == "light":
        strides = stage_strides(ndim, pixel_size_um, len(LIGHT_WIDTHS))
        return LightUNet(in_channels, out_channels, ndim, strides, LIGHT_WIDTHS)
    if name == "multi_field":
        return MultiFieldUNet(in_channels, out_channels, ndim, stage_strides(ndim, pixel_size_um, MULTI_FIELD_LEVELS))
    if name in DEPTHS:
        return ResNetUNet(name, in_channels, out_channels, ndim)
    raise InputError(f"network {name!r} is unknown; choose one of {', '.join(NETWORKS)}")


def receptive_field_px(network: LightUNet | ResNetUNet, in_channels: int) -> tuple[int, ...]:
    """How far from a pixel the network can see, px on each axis: the smallest exact halo.

    Measured, not derived: with every weight positive and all batch norms identity no path can
    cancel, so the gradient of one whole stride cell of outputs is non-zero exactly on its
    receptive field. One axis at a time, on a line of pixels, which keeps 3D cheap.
    """
    probe = _all_positive(network)
    multiple = network.stride_multiple
    return tuple(_reach(probe, in_channels, axis, multiple) for axis in range(network.ndim))


def _all_positive(network: nn.Module) -> nn.Module:
    probe = copy.deepcopy(network).double().eval()
    for module in probe.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            # The mean keeps values in range through many layers.
            fan_in = module.weight[0].numel()
            nn.init.constant_(module.weight, 1.0 / fan_in)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.reset_running_stats()
            module.reset_parameters()
    return probe


def _reach(probe: nn.Module, in_channels: int, axis: int, multiple: Sequence[int]) -> int:
    step = multiple[axis]
    half = step
    while True:
        half *= 2
        shape = list(multiple)
        shape[axis] = 2 * half + step
        image = torch.ones(1, in_channels, *shape, dtype=torch.float64, requires_grad=True)
        out: Tensor = probe(image)
        window = out.narrow(2 + axis, half, step)
        (gradient,) = torch.autograd.grad(window.sum(), image)
        others = [d for d in range(gradient.ndim) if d != 2 + axis]
        seen = gradient.abs().sum(dim=others).nonzero().flatten()
        reach = max(half - int(seen.min()), int(seen.max()) - (half + step - 1))
        if reach < half:
            return reach
