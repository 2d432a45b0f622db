import numpy as np
import pytest
import torch

from cellscribble.core.blocks import map_blocks, padded_shape
from cellscribble.core.errors import InputError
from cellscribble.nn.build import LIGHT_WIDTHS, NETWORKS, build_network, receptive_field_px, stage_strides
from cellscribble.nn.unet import LightUNet

SMALL = (6, 8, 8)


def random_light(ndim: int, strides=None, in_channels: int = 1, widths=SMALL) -> LightUNet:
    """A small light network in evaluation mode whose batch norms are far from the identity."""
    torch.manual_seed(3)
    network = LightUNet(in_channels, 2, ndim, strides or [(2,) * ndim] * len(widths), widths, full_width=4)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.3, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.uniform_(0, 0.5)
    return network.eval()


@pytest.mark.parametrize(
    ("strides", "shape"),
    [
        ([(2, 2)] * 4, (32, 48)),
        ([(2, 2, 2)] * 4, (16, 32, 16)),
        ([(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)], (4, 32, 48)),
        ([(1, 2, 2)] * 4, (3, 16, 32)),
    ],
)
def test_output_has_the_size_of_the_input(strides, shape):
    network = LightUNet(3, 4, len(shape), strides).eval()
    assert all(n % m == 0 for n, m in zip(shape, network.stride_multiple, strict=True))
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, *shape)).shape == (2, 4, *shape)


def test_the_light_network_is_light():
    network = build_network("light", 1, 2, 2)
    assert network.stride_multiple == (16, 16)
    assert sum(p.numel() for p in network.parameters()) < 1_000_000


@pytest.mark.parametrize(("ndim", "size"), [(2, None), (3, None), (3, (1.2, 0.2, 0.2))])
def test_two_fields_of_view_are_one_network(ndim, size):
    torch.manual_seed(0)
    network = build_network("multi_field", 2, 3, ndim, size).eval()
    image = torch.rand(1, 2, *(2 * m for m in network.stride_multiple))
    with torch.inference_mode():
        maps = network.decode(image)
        assert network(image).shape == (1, 3, *image.shape[2:])
        assert [m.shape[1] for m in maps] == list(network.decoder_widths)
        # The last layer is the only one that a caller may put another in place of.
        torch.testing.assert_close(network.classify(maps[-1]), network(image))


def test_the_wide_field_sees_twice_as_far_in_the_plane():
    light, wide = (receptive_field_px(build_network(name, 1, 2, 2), 1) for name in ("light", "multi_field"))
    # On the shrunk image: as a light network of three levels, times 4.
    assert light == (61, 61)
    assert wide == (116, 116)


@pytest.mark.parametrize(
    ("pixel_size_um", "z_strides"),
    [
        (None, (2, 2, 2, 2)),
        ((0.5, 0.5, 0.5), (2, 2, 2, 2)),
        # 6 times coarser along z: after two steps in the plane 1.5 times, then all axes are alike.
        ((1.2, 0.2, 0.2), (1, 1, 2, 2)),
        ((10.0, 0.1, 0.1), (1, 1, 1, 1)),
    ],
)
def test_sections_stay_apart_while_z_is_coarser(pixel_size_um, z_strides):
    strides = stage_strides(3, pixel_size_um, 4)
    assert tuple(s[0] for s in strides) == z_strides
    assert {s[1:] for s in strides} == {(2, 2)}


def test_an_unknown_network_is_refused_with_all_names():
    with pytest.raises(InputError, match=f"'big' is unknown; choose one of {', '.join(NETWORKS)}"):
        build_network("big", 1, 2, 2)


@pytest.mark.parametrize(("ndim", "strides"), [(2, None), (3, None), (3, [(1, 2, 2), (1, 2, 2), (2, 2, 2)])])
def test_nothing_beyond_the_receptive_field_changes_a_pixel(ndim, strides):
    network = random_light(ndim, strides).double()
    reach = receptive_field_px(network, 1)
    multiple = network.stride_multiple
    for axis in range(ndim):
        shape = [2 * m for m in multiple]
        shape[axis] = padded_shape([2 * reach[axis] + 3 * multiple[axis]], [multiple[axis]])[0]
        image = torch.rand(1, 1, *shape, dtype=torch.float64)
        start = padded_shape([reach[axis] + 1], [multiple[axis]])[0]
        with torch.inference_mode():
            # The first pixel of a stride cell sees furthest to the left.
            before = network(image).select(2 + axis, start)
            image.narrow(2 + axis, 0, start - reach[axis]).copy_(torch.rand(1))
            assert torch.equal(network(image).select(2 + axis, start), before)
            image.select(2 + axis, start - reach[axis]).add_(100)
            assert not torch.equal(network(image).select(2 + axis, start), before)
            stop = start + multiple[axis] - 1
            before = network(image).select(2 + axis, stop)
            image.narrow(2 + axis, stop + reach[axis] + 1, shape[axis] - stop - reach[axis] - 1).fill_(7)
            assert torch.equal(network(image).select(2 + axis, stop), before)


def test_the_receptive_field_of_the_real_light_network():
    reach = receptive_field_px(build_network("light", 2, 3, 2), 2)
    # Leftwards from pixel 0. Four decoder convolutions, each one pixel and then half: -1 on the 16 px grid.
    # Down again, twice a convolution (-1) and a stride-2 convolution (2x - 1):
    # -1 -> -2 -> -5 -> -6 -> -13 -> -14 -> -29 -> -30 -> -61.
    assert len(LIGHT_WIDTHS) == 4
    assert reach == (61, 61)


@pytest.mark.parametrize(
    ("ndim", "strides", "shape", "block"),
    [
        (2, None, (150, 101), (24, 40)),
        (3, None, (56, 24, 58), (16, 24, 24)),
        (3, [(1, 2, 2), (1, 2, 2), (2, 2, 2)], (17, 24, 58), (4, 24, 24)),
    ],
)
def test_blocks_equal_the_whole_image(ndim, strides, shape, block):
    network = random_light(ndim, strides)
    multiple, halo = network.stride_multiple, receptive_field_px(network, 1)
    image = np.random.default_rng(0).random((1, *shape)).astype(np.float32)

    @torch.inference_mode()
    def apply(part: np.ndarray) -> np.ndarray:
        return torch.softmax(network(torch.from_numpy(part)[None]), dim=1)[0].numpy()

    whole = map_blocks(apply, image, 2, shape, halo, multiple)
    parts = map_blocks(apply, image, 2, block, halo, multiple)
    assert whole.std() > 0.01
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    too_little = tuple(0 for _ in shape)
    assert np.abs(map_blocks(apply, image, 2, block, too_little, multiple) - whole).max() > 1e-3
