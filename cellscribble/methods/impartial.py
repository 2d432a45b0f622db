"""ImPartial: strokes; and pixels that the network cannot see must be explained by a few intensities of their class.

Source: Martinez et al., "ImPartial: Partial Annotations for Cell Instance Segmentation", bioRxiv 2021
(2021.01.20.427458):

    L = sum_k lambda_k L_seg^k + (1 - sum_k lambda_k) L_mix.

L_seg, the blind spots, the memberships and the tasks are those of `methods.blind_spot_base`. L_mix is taken on the
hidden pixels: the negative log-likelihood of what was there, under a mixture of Gaussians that the pixel's own
memberships weigh (`losses.mixture`). To do well the network must say from the surroundings what kind of pixel it is,
though not its exact value, and that is nearer to segmentation than denoising is. A component has one mean in a whole
patch. The rest weight 1 - sum lambda_k is between 0.01 and 0.1 in the paper; it is `mixture_weight`.

Where we differ, and why:
- A component's mean is the mean of the patch's intensities, each pixel weighed by its membership: the best one for
  these memberships. In the paper the means are the network's too, averaged over the patch, and those of cells are
  given as a difference from the background's. Tried: a mean far from every intensity explains nothing, so nothing
  moves it. On `dsb_bf`, whose background is at .94, both of the background's ended near .5 and .15 in two of three
  patches, components of cells took the open background, and cells had a probability of about .3 there (AUC .986, with
  these means .997; on `mibi_nuclei` .962 and .971; all at sigma 0.1).
- The Gaussians have one width, `sigma_intensity` of intensities from 0 to 1; channels are independent. At 0.1 the
  mixture outweighs the strokes in the first steps; at 0.2 it does not. One seed, 640 steps, AUC at 0.1 and at
  0.2: `mibi_nuclei` .971 and .959, `dsb_bf` .997 and .998; IoU .715 and .692, .715 and .731.
- A patch holds pieces of other patches (`data.patches.transplant`), and shares its means with them.
- All that `methods.blind_spot_base` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cellscribble.data.batch import Batch
from cellscribble.losses.brier import balanced_brier
from cellscribble.losses.mixture import component_means, mixture_loss
from cellscribble.methods.base import MethodConfig, Progress
from cellscribble.methods.blind_spot_base import BlindSpotBase, BlindSpotBaseConfig, hide_some
from cellscribble.nn.heads import by_task, task_logits


@dataclass(frozen=True)
class ImPartialConfig(BlindSpotBaseConfig):
    """Also the rest weight of the mixture, and the width of its Gaussians."""

    mixture_weight: float = 0.1
    sigma_intensity: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("mixture_weight", 0 <= self.mixture_weight < 1, "0 <= weight < 1 (published: 0.01 to 0.1)")
        self._check("sigma_intensity", self.sigma_intensity > 0, "more than 0, of intensities from 0 to 1")


class ImPartial(BlindSpotBase):
    """The same network and head as its base; the mixture only adds to the loss."""

    Config: ClassVar[type[MethodConfig]] = ImPartialConfig
    config: ImPartialConfig

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        weight = self.config.mixture_weight
        spots = hide_some(batch, self.config, progress)
        seen = spots.hide(batch.image)
        components = by_task(network(seen), self.config.n_components)
        mixture = mixture_loss(
            torch.log_softmax(spots.at_hidden(components), dim=-1),
            component_means(components, seen)[spots.patch],
            spots.at_hidden(batch.image),
            self.config.sigma_intensity,
        )
        seg = balanced_brier(task_logits(components), batch.scribbles)
        return {"strokes": (1 - weight) * seg, "mixture": weight * mixture}
