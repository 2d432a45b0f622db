"""Full supervision: cross-entropy on every pixel of masks drawn by hand, the bound that strokes aim at.

Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
equation 1, with weight 1 for every pixel.

The only method that may see masks (`train --labels MASKS`). The strokes still say which classes there
are, where patches are drawn, and, held out, how good the model is; under held-out strokes the mask is
blank, but not beside them, so that this score flatters the method.

Where we differ, and why:
- No weight map: equation 2 separates touching cells, here a step of its own does (`segment.instances`).
- Two and three dimensions, K classes alike.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cellscribble.data.batch import Batch
from cellscribble.data.samples import Sample
from cellscribble.losses.cross_entropy import partial_cross_entropy
from cellscribble.methods.base import Method, Progress


class FullSupervision(Method):
    """Needs `Sample.mask` of every image."""

    needs_masks: ClassVar[bool] = True

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        assert batch.mask is not None  # `train.start.check_run` sees to it
        return {"labels": partial_cross_entropy(network(batch.image), batch.mask)}

    def learnt_labels(self, sample: Sample) -> npt.NDArray[np.int16] | None:
        return sample.mask
