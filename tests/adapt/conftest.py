import pytest

from cellscribble.bundle import Model
from cellscribble.config import TrainConfig
from cellscribble.export import onnx as module
from cellscribble.export.onnx import export
from cellscribble.train.run import train
from tests.conftest import make_balls, make_disks
from tests.train.runs import Quiet, training_set


def make_model(folder, name: str, examples, **settings) -> Model:
    """A model of a run of three epochs."""
    config = TrainConfig(minutes=None, epochs=3, patch_px=32, batch_size=2, device="cpu", seed=4, **settings)
    train(training_set(*examples), config, folder / name, Quiet())
    return export(folder / name, folder / name / "model.onnx")[0]


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[int, Model]:
    """By number of axes."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIZES_2D", (64,))
        patch.setattr(module, "SIZES_3D", (32,))
        return {
            2: make_model(folder, "disks", [make_disks(0)], method="metric_learning"),
            3: make_model(folder, "balls", [make_balls(0)], method="partial_cross_entropy"),
        }
