import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cellscribble.core.blocks import padded_shape
from cellscribble.nn.build import build_network, receptive_field_px, stage_strides
from cellscribble.nn.trim import Trim
from cellscribble.nn.unet import LightUNet

SIZES_UM = {2: [None], 3: [None, (2.0, 0.2, 0.2)]}


def halo_of(network: LightUNet) -> tuple[int, ...]:
    return padded_shape(receptive_field_px(network, network.in_channels), network.stride_multiple)


@pytest.mark.parametrize(("ndim", "size"), [(d, s) for d, sizes in SIZES_UM.items() for s in sizes])
def test_a_block_without_its_halo_is_what_it_is_with_it(ndim, size):
    torch.manual_seed(1)
    network = LightUNet(1, 2, ndim, stage_strides(ndim, size, 3), widths=(6, 8, 8), full_width=4).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.3, 0.3)
    halo = halo_of(network)
    block = torch.rand(1, 1, *(2 * h + m for h, m in zip(halo, network.stride_multiple, strict=True)))
    with torch.inference_mode():
        whole = network(block)
        for some in itertools.product((0, 1), repeat=2 * ndim):
            sides = torch.tensor(some).reshape(ndim, 2)
            keep = tuple(
                slice(int(a) * h, n - int(b) * h) for (a, b), h, n in zip(sides, halo, block.shape[2:], strict=True)
            )
            inner = network(block, network.trim(sides, halo))
            torch.testing.assert_close(inner, whole[(slice(None), slice(None), *keep)], atol=1e-6, rtol=0)


def test_so_it_is_of_a_resnet():
    torch.manual_seed(1)
    network = build_network("resnet34", 1, 2, 2).eval()
    halo = halo_of(network)
    block = torch.rand(1, 1, 2 * halo[0] + 32, 32)  # the image ends left and right of it
    with torch.inference_mode():
        whole = network(block)
        for before, behind in ((1, 1), (1, 0), (0, 1)):
            inner = network(block, network.trim(torch.tensor([[before, behind], [0, 0]]), halo))
            keep = slice(before * halo[0], block.shape[2] - behind * halo[0])
            torch.testing.assert_close(inner, whole[:, :, keep], atol=1e-5, rtol=0)


@given(halo=st.integers(0, 40), strides=st.lists(st.integers(1, 3), min_size=1, max_size=5), reach=st.integers(1, 2))
def test_no_level_leaves_out_what_a_finer_one_looks_at(halo, strides, reach):
    trim = Trim(torch.zeros(1, 2), [halo], [[s] for s in strides], 2, reach)
    left_out = [n for (n,) in trim.left_out]
    # What is wanted of each map begins here; the convolutions that make it look further.
    wanted, looks = halo, 2
    for begin, stride in zip(left_out, strides, strict=True):
        assert begin % stride == 0
        assert 0 <= begin <= max(0, wanted - looks)
        wanted, looks = begin // stride, reach


def test_most_of_the_halo_is_left_out():
    network = build_network("light", 1, 2, 2)
    trim = network.trim(torch.zeros(2, 2), halo_of(network))
    assert trim.left_out == [[62, 62], [30, 30], [14, 14], [6, 6]]
