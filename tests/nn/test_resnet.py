import os
import pickle
import tempfile
from pathlib import Path

import pytest
import torch

from cellscribble.core.errors import ModelError
from cellscribble.nn.build import build_network
from cellscribble.nn.resnet_unet import ResNetUNet


@pytest.fixture(scope="module")
def network() -> ResNetUNet:
    torch.manual_seed(0)
    return ResNetUNet("resnet34", 3, 2, 2)


def imagenet_like(network: ResNetUNet) -> dict[str, torch.Tensor]:
    """A state dict in torchvision's naming, with its classifier and without batch counters."""
    state = {k: v.clone() for k, v in network.encoder.state_dict().items() if not k.endswith("num_batches_tracked")}
    return {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def test_names_are_torchvisions(network):
    names = set(network.encoder.state_dict())
    # Entries of the public resnet34 file.
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight"} <= names
    assert {"layer3.5.bn2.bias", "layer4.2.conv2.weight"} <= names
    n = sum(v.numel() for k, v in imagenet_like(network).items() if "running" not in k and k[:2] != "fc")
    assert n + 512 * 1000 + 1000 == 21_797_672  # parameters of torchvision's resnet34


@pytest.mark.parametrize(("name", "n"), [("resnet50", 25_557_032)])
def test_resnet50_has_the_public_number_of_parameters(name, n):
    encoder = ResNetUNet(name, 3, 2, 2).encoder
    assert sum(p.numel() for p in encoder.parameters()) + 2048 * 1000 + 1000 == n


@pytest.mark.parametrize(("ndim", "shape"), [(2, (32, 64)), (3, (32, 32, 32))])
def test_output_has_the_size_of_the_input(ndim, shape):
    network = build_network("resnet34", 1, 3, ndim).eval()
    assert network.stride_multiple == (32,) * ndim
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, *shape)).shape == (1, 3, *shape)


def test_an_imagenet_file_loads_with_and_without_batch_counters(network, tmp_path):
    for i, state in enumerate((imagenet_like(network), network.encoder.state_dict())):
        torch.save(state, tmp_path / f"{i}.pth")
        other = ResNetUNet("resnet34", 3, 2, 2)
        other.load_encoder(tmp_path / f"{i}.pth")
        for name, value in network.encoder.state_dict().items():
            assert torch.equal(other.encoder.state_dict()[name], value)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_stem_adapts_so_that_a_grey_image_gives_the_same_response(network, tmp_path, channels):
    torch.save(imagenet_like(network), tmp_path / "w.pth")
    other = ResNetUNet("resnet34", channels, 2, 2)
    other.load_encoder(tmp_path / "w.pth")
    grey = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        ours = other.encoder.conv1(grey.expand(1, channels, 16, 16))
        theirs = network.encoder.conv1(grey.expand(1, 3, 16, 16))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


MARK = str(Path(tempfile.gettempdir()) / f"cellscribble_code_ran_{os.getpid()}")


class Malicious:
    def __reduce__(self):
        return (open, (MARK, "w"))


def test_a_file_with_code_is_refused_and_not_run(network, tmp_path):
    for name, write in (
        ("torch.pth", lambda p: torch.save({"conv1.weight": Malicious()}, p)),
        ("plain.pkl", lambda p: p.write_bytes(pickle.dumps(Malicious(), protocol=2))),
    ):
        write(tmp_path / name)
        with pytest.raises(ModelError, match=r"holds more than tensors; .*torch\.save") as error:
            network.load_encoder(tmp_path / name)
        # torch's own message would tell the user to switch the protection off.
        assert "weights_only" not in str(error.value)
    assert not Path(MARK).exists()


def test_wrong_files_are_refused_with_the_first_difference(network, tmp_path):
    state = imagenet_like(network)
    cases = {
        "lacks": ({k: v for k, v in state.items() if k != "layer1.0.conv1.weight"}, "'layer1.0.conv1.weight'"),
        "more": ({**state, "extra": torch.zeros(1)}, "first is 'extra'"),
        "shape": ({**state, "bn1.weight": torch.zeros(3)}, "first is 'bn1.weight'"),
        "resnet50": (ResNetUNet("resnet50", 3, 2, 2).encoder.state_dict(), "does not fit this encoder"),
        "tensor": (torch.zeros(3), "is no state dict"),
        "nested": ({"epoch": 3, "model": {}}, "is no state dict"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ModelError, match=message):
            network.load_encoder(tmp_path / name)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read"):
        network.load_encoder(tmp_path / "text")
