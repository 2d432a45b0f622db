import os

# Before torch is first imported, here or in a process that a test starts: the machine is shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from scipy import ndimage

from cellscribble.config import AugmentConfig, TrainConfig
from cellscribble.core.volume import ImageVolume

# How long a drawn case takes says more about what else the machine does than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


class Example(NamedTuple):
    """An image, its true objects (*spatial), and strokes on it (*spatial) int16, -1 unlabelled."""

    image: ImageVolume
    mask: np.ndarray
    scribbles: np.ndarray


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240611)


def make_disks(seed: int = 0, n_channels: int = 1) -> Example:
    """64 x 64 with nine bright disks of radius 6, a stroke in each, twelve strokes between them."""
    y, x = np.indices((64, 64))
    mask = np.zeros((64, 64), np.int32)
    scribbles = np.full((64, 64), -1, np.int16)
    for k, (cy, cx) in enumerate((cy, cx) for cy in (12, 32, 52) for cx in (12, 32, 52)):
        mask[(y - cy) ** 2 + (x - cx) ** 2 <= 36] = k + 1
        scribbles[cy, cx - 2 : cx + 3] = 1
    for cy in (2, 22, 42, 62):
        for cx in (12, 32, 52):
            scribbles[cy, cx - 2 : cx + 3] = 0
    return Example(_picture(mask, seed, n_channels, "CYX"), mask, scribbles)


def make_balls(seed: int = 0, n_channels: int = 1) -> Example:
    """24 x 48 x 48 with four balls of radius 7 at z 12, strokes on the sections 8, 12 and 16."""
    z, y, x = np.indices((24, 48, 48))
    mask = np.zeros((24, 48, 48), np.int32)
    scribbles = np.full(mask.shape, -1, np.int16)
    for k, (cy, cx) in enumerate((cy, cx) for cy in (12, 36) for cx in (12, 36)):
        mask[(z - 12) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= 49] = k + 1
        for section in (8, 12, 16):
            scribbles[section, cy, cx - 2 : cx + 3] = 1
    for section in (8, 12, 16):
        for cy in (1, 24, 46):
            scribbles[section, cy, 10:14] = scribbles[section, cy, 34:38] = 0
    return Example(_picture(mask, seed, n_channels, "CZYX"), mask, scribbles)


def _picture(mask: np.ndarray, seed: int, n_channels: int, axes: str) -> ImageVolume:
    rng = np.random.default_rng(seed)
    soft = ndimage.gaussian_filter((mask > 0).astype(float), 1)
    channels = [800 * soft / (c + 1) + 200 + 20 * rng.standard_normal(mask.shape) for c in range(n_channels)]
    return ImageVolume(np.stack(channels).clip(0).astype(np.uint16), axes, name=f"disks{seed}")


@pytest.fixture
def disks_2d() -> Example:
    return make_disks()


@pytest.fixture
def balls_3d() -> Example:
    return make_balls()


@pytest.fixture
def tiny_config() -> TrainConfig:
    """Four epochs on patches of 32 px: a second of training."""
    return TrainConfig(
        epochs=4,
        minutes=None,
        refresh_every_epochs=1,
        patch_px=32,
        batch_size=2,
        holdout_share=0.25,
        device="cpu",
        augment=AugmentConfig(scale=1.1),
    )
