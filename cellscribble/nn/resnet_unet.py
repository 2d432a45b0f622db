"""U-Net on a ResNet encoder, the network of the Scribble2Label thesis."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from cellscribble.core.errors import ModelError
from cellscribble.nn.layers import CONV, NORM, POOL, conv_block, upsample
from cellscribble.nn.trim import Trim

DEPTHS = {"resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
STEM_WIDTH = 64
DECODER_WIDTHS = (256, 128, 64, 32, 16)


class _Residual(nn.Module):
    """Basic block (two 3x3) or bottleneck (1x1, 3x3, 1x1), He et al., CVPR 2016, figure 5.

    Submodule names are torchvision's, so that a public ImageNet state dict fits.
    """

    def __init__(self, ndim: int, n_in: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        conv, norm = CONV[ndim], NORM[ndim]
        n_out = width * 4 if bottleneck else width
        self.bottleneck = bottleneck
        if bottleneck:
            self.conv1 = conv(n_in, width, 1, bias=False)
            self.conv2 = conv(width, width, 3, stride=stride, padding=1, bias=False)
            self.conv3 = conv(width, n_out, 1, bias=False)
            self.bn3 = norm(n_out)
        else:
            self.conv1 = conv(n_in, width, 3, stride=stride, padding=1, bias=False)
            self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = norm(width), norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(conv(n_in, n_out, 1, stride=stride, bias=False), norm(n_out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        if self.bottleneck:
            x = self.bn3(self.conv3(self.relu(x)))
        out: Tensor = self.relu(x + shortcut)
        return out


class _Encoder(nn.Module):
    def __init__(self, name: str, in_channels: int, ndim: int) -> None:
        super().__init__()
        bottleneck = name == "resnet50"
        self.conv1 = CONV[ndim](in_channels, STEM_WIDTH, 7, stride=2, padding=3, bias=False)
        self.bn1 = NORM[ndim](STEM_WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = POOL[ndim](3, stride=2, padding=1)
        self.widths = [STEM_WIDTH]
        n_in = STEM_WIDTH
        for index, depth in enumerate(DEPTHS[name]):
            width = STEM_WIDTH * 2**index
            blocks = []
            for i in range(depth):
                stride = 2 if i == 0 and index > 0 else 1
                blocks.append(_Residual(ndim, n_in, width, stride, bottleneck))
                n_in = width * 4 if bottleneck else width
            setattr(self, f"layer{index + 1}", nn.Sequential(*blocks))
            self.widths.append(n_in)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(image)))
        maps = [x]
        x = self.maxpool(x)
        for index in range(4):
            x = getattr(self, f"layer{index + 1}")(x)
            maps.append(x)
        return maps


class ResNetUNet(nn.Module):
    """ResNet-34/50 encoder with a five-step decoder (two 3x3 convolutions a step).

    Input (B, C, *spatial) float32, multiples of 32 px; output (B, out_channels, *spatial) logits,
    with a `Trim` without the halo.
    """

    can_trim: ClassVar[bool] = True

    def __init__(self, name: str, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        self.ndim, self.in_channels = ndim, in_channels
        self.encoder = _Encoder(name, in_channels, ndim)
        skips = [*self.encoder.widths[-2::-1], 0]
        inputs = [self.encoder.widths[-1], *DECODER_WIDTHS[:-1]]
        self.decoders = nn.ModuleList(
            nn.Sequential(conv_block(ndim, a + skip, b), conv_block(ndim, b, b))
            for a, skip, b in zip(inputs, skips, DECODER_WIDTHS, strict=True)
        )
        self.decoder_widths = DECODER_WIDTHS
        """Channels of the maps of `decode`."""
        self.classify = CONV[ndim](DECODER_WIDTHS[-1], out_channels, 1)

    @property
    def stride_multiple(self) -> tuple[int, ...]:
        return (32,) * self.ndim

    def innermost_blocks(self) -> list[nn.Module]:
        """The five blocks furthest from the image: the coarsest one, two before and two after it."""
        return [self.encoder.layer2, self.encoder.layer3, self.encoder.layer4, *self.decoders[:2]]

    def trim(self, sides: Tensor, halo_px: Sequence[int]) -> Trim:
        """For a block with this halo on these sides, see `Trim`."""
        return Trim(sides, halo_px, [(2,) * self.ndim] * len(self.decoders), finest_px=2, reach_px=2)

    def forward(self, image: Tensor, trim: Trim | None = None) -> Tensor:
        logits: Tensor = self.classify(self.decode(image, trim)[-1])
        return logits if trim is None else trim.rest(logits)

    def decode(self, image: Tensor, trim: Trim | None = None) -> list[Tensor]:
        """The decoder's maps, the coarsest first; the last one has the image's size, with `trim` what it leaves."""
        skips = self.encoder(image)
        x = skips.pop()
        maps = []
        for level, decoder in zip(reversed(range(len(self.decoders))), self.decoders, strict=True):
            x = upsample(x if trim is None else trim.below(level, x), (2,) * self.ndim)
            if skips:
                skip = skips.pop()
                x = torch.cat([x, skip if trim is None else trim.at(level, skip)], dim=1)
            x = decoder(x)
            maps.append(x)
        return maps

    def load_encoder(self, path: Path) -> None:
        """Load an ImageNet state dict in torchvision's naming; tensors only, never pickled code.

        The first convolution is averaged over RGB and repeated where the image has another number
        of channels.

        Raises
        ------
        ModelError
            If the file is not a state dict of this ResNet.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # torch's own words tell how to run the code in the file after all.
            raise ModelError(
                f"{path} is damaged or holds more than tensors; save tensors alone: "
                "torch.save(model.state_dict(), path)"
            ) from error
        except Exception as error:
            raise ModelError(
                f"{path} cannot be read as a state dict ({type(error).__name__}: {error}); "
                "save one with torch.save(model.state_dict(), path)"
            ) from error
        if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
            raise ModelError(f"{path} is no state dict; save one with torch.save(model.state_dict(), path)")
        own = self.encoder.state_dict()
        # Counters that torchvision's oldest files lack; they do not enter the numbers.
        counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
        given = {k: v for k, v in state.items() if not k.startswith("fc.")}
        given = _adapt_stem({**counters, **given}, own["conv1.weight"])
        wrong = sorted(set(own) ^ set(given)) or [k for k in own if own[k].shape != given[k].shape]
        if wrong:
            raise ModelError(
                f"{path} does not fit this encoder; {len(wrong)} entries differ, the first is {wrong[0]!r}; "
                "give the ImageNet weights of the same ResNet in torchvision's naming"
            )
        self.encoder.load_state_dict(given)


def _adapt_stem(state: Mapping[str, Tensor], own: Tensor) -> dict[str, Tensor]:
    out = dict(state)
    weight = out.get("conv1.weight")
    if weight is not None and weight.shape[1] != own.shape[1] and weight.ndim == own.ndim:
        mean = weight.mean(dim=1, keepdim=True) * weight.shape[1] / own.shape[1]
        out["conv1.weight"] = mean.expand(own.shape).clone()
    return out
