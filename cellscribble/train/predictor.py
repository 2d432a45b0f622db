"""The network as a function on whole training images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cellscribble.core.blocks import BlockGrid, Slices, map_blocks, padded_shape, read_padded, relative
from cellscribble.core.progress import Done, unheard
from cellscribble.data.samples import Sample
from cellscribble.methods.base import Method
from cellscribble.nn.build import receptive_field_px
from cellscribble.nn.resnet_unet import ResNetUNet
from cellscribble.nn.unet import LightUNet

LARGEST_WHOLE_PX = 1 << 21
"""Up to this many pixels an image is predicted in one piece."""


class Predictor:
    """Un-augmented predictions of the network as it is now; the method's head without an edge level.

    done : hears of the pixels that are predicted, block by block
    """

    def __init__(
        self,
        network: LightUNet | ResNetUNet,
        in_channels: int,
        method: Method,
        device: torch.device,
        done: Done = unheard,
    ) -> None:
        self.network = network
        self.head = method.head(0.5).to(device)
        self.n_classes = method.n_classes
        self.device = device
        self.done = done
        self.multiple = network.stride_multiple
        self.halo_px = receptive_field_px(network, in_channels)
        self.layout = torch.channels_last if network.ndim == 2 else torch.channels_last_3d

    def __call__(self, sample: Sample) -> npt.NDArray[np.float32]:
        """(K, *spatial) float32 probabilities of a whole training image."""
        return self.image(sample.normalised())

    def image(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The same for a normalised image (C, *spatial) of any size."""
        shape = image.shape[1:]
        n_pixels = math.prod(shape)
        if n_pixels <= LARGEST_WHOLE_PX:
            whole = tuple(slice(0, n) for n in padded_shape(shape, self.multiple))
            out = self.block(read_padded(image, whole))
            self.done(n_pixels)
            return out[(slice(None), *(slice(0, n) for n in shape))]
        block_px = padded_shape(self._block_px(len(shape)), self.multiple)
        each = n_pixels / len(BlockGrid(shape, block_px))

        def block(read: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            out = self.block(read)
            self.done(each)
            return out

        return map_blocks(block, image, self.n_classes, block_px, self.halo_px, self.multiple)

    def window(self, sample: Sample, window: Slices) -> npt.NDArray[np.float32]:
        """(K, *window) float32 probabilities of a part of a training image, as they are in the whole."""
        whole = padded_shape(sample.scribbles.shape, self.multiple)
        read = tuple(
            slice(max(0, (s.start - halo) // m * m), min(n, -(-(s.stop + halo) // m) * m))
            for s, halo, m, n in zip(window, self.halo_px, self.multiple, whole, strict=True)
        )
        part = sample.intensity.apply(read_padded(sample.image.data, read))
        return self.image(part)[(slice(None), *relative(window, read))]

    def _block_px(self, ndim: int) -> Sequence[int]:
        return (1024, 1024) if ndim == 2 else (32, 192, 192)

    @torch.inference_mode()
    def block(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """One block whose sizes are multiples of the stride."""
        was_training = self.network.training
        self.network.eval()
        tensor = torch.from_numpy(block)[None].to(self.device, memory_format=self.layout)
        probability: npt.NDArray[np.float32] = self.head(self.network(tensor))["probability"][0].cpu().numpy()
        self.network.train(was_training)
        return probability


def parameter_groups(network: nn.Module, base: float, pretrained: bool) -> list[dict[str, object]]:
    """Optimiser groups: with a pretrained encoder the decoder learns ten times faster (thesis)."""
    if not pretrained or not isinstance(network, ResNetUNet):
        return [{"params": list(network.parameters()), "scale": 1.0, "lr": base}]
    encoder = list(network.encoder.parameters())
    own = {id(p) for p in encoder}
    decoder = [p for p in network.parameters() if id(p) not in own]
    return [{"params": encoder, "scale": 0.1, "lr": base * 0.1}, {"params": decoder, "scale": 1.0, "lr": base}]
