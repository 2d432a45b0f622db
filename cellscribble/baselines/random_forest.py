"""A random forest on multi-scale features of each pixel: what ilastik, Labkit and Trainable Weka do.

Sources: S. Berg et al., "ilastik: interactive machine learning for (bio)image analysis", Nature Methods 16,
2019; L. Breiman, "Random forests", Machine Learning 45, 2001. Features are scikit-image's (intensity, edges
and texture of the image smoothed by Gaussians of 1 to 16 px), not ilastik's own code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from skimage.feature import multiscale_basic_features

from cellscribble.baselines.base import Classify
from cellscribble.core.blocks import map_blocks, plan_blocks, read_padded
from cellscribble.core.errors import MissingExtraError
from cellscribble.data.samples import Sample

SIGMA_PX = (1, 16)
HALO_PX = 72
"""How far the features see: four widths of the widest Gaussian, and some pixels of derivatives."""
BLOCK_PX = {2: (1024, 1024), 3: (100, 200, 200)}
"""Features are 15 to 25 numbers a pixel and channel, so not of a whole slide at once."""
N_TREES, MIN_LEAF_PX = 100, 2
MAX_PIXELS = 60_000
"""Drawn from all strokes: more make the forest slower and hardly better."""


def learn_random_forest(samples: Sequence[Sample], n_classes: int, seed: int) -> Classify:
    """A forest of 100 trees trained on the pixels of the strokes.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise MissingExtraError("the random forest needs scikit-learn: pip install 'cellscribble[compare]'") from error
    features, classes = stroke_features(samples)
    some = np.random.default_rng(seed).permutation(len(classes))[:MAX_PIXELS]
    forest = RandomForestClassifier(N_TREES, n_jobs=-1, random_state=seed, min_samples_leaf=MIN_LEAF_PX)
    forest.fit(features[some], classes[some])

    def classify_block(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found = pixel_features(block)
        out = np.zeros((n_classes, found[..., 0].size), np.float32)
        out[forest.classes_] = forest.predict_proba(found.reshape(-1, found.shape[-1])).T
        return out.reshape(n_classes, *found.shape[:-1])

    def classify(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        ndim = image.ndim - 1
        return map_blocks(classify_block, image, n_classes, BLOCK_PX[ndim], (HALO_PX,) * ndim, (1,) * ndim)

    return classify


def pixel_features(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Features (*spatial, n) float32 of a normalised image (C, *spatial)."""
    low, high = SIGMA_PX
    found = multiscale_basic_features(np.moveaxis(image, 0, -1), sigma_min=low, sigma_max=high, channel_axis=-1)  # type: ignore[no-untyped-call]
    return np.asarray(found, np.float32)


def stroke_features(samples: Sequence[Sample]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16]]:
    """Features (n, n_features) and classes (n,) of all pixels of `Sample.scribbles`."""
    features, classes = [], []
    for sample in samples:
        ndim, image = sample.scribbles.ndim, sample.normalised()
        for block in plan_blocks(sample.scribbles.shape, BLOCK_PX[ndim], (HALO_PX,) * ndim, (1,) * ndim):
            strokes = sample.scribbles[block.write]
            drawn = strokes >= 0
            if drawn.any():
                features.append(pixel_features(read_padded(image, block.read))[block.keep][drawn])
                classes.append(strokes[drawn])
    return np.concatenate(features), np.concatenate(classes)
