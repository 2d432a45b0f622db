"""The methods by name. Strings only, so that listing them imports no training stack."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellscribble.core.errors import InputError

if TYPE_CHECKING:
    from cellscribble.methods.base import Method


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """Where a method lives, and what a user reads about it."""

    target: str
    summary: str
    paper: str


METHODS: dict[str, MethodEntry] = {
    "scribble2label": MethodEntry(
        "cellscribble.methods.scribble2label:Scribble2Label",
        "strokes, then confident pseudo-labels from an ensemble of the network's own predictions (default)",
        "Lee & Jeong, MICCAI 2020",
    ),
    "partial_cross_entropy": MethodEntry(
        "cellscribble.methods.partial_cross_entropy:PartialCrossEntropy",
        "strokes only: the honest baseline",
        "Tang et al., ECCV 2018",
    ),
    "pseudo_label": MethodEntry(
        "cellscribble.methods.pseudo_label:PseudoLabel",
        "strokes, then the network's own confident predictions of the moment",
        "Lee, ICML 2013 Workshop",
    ),
    "regularized": MethodEntry(
        "cellscribble.methods.regularized:Regularized",
        "strokes, then also a dense CRF energy: what looks alike is not cut apart",
        "Tang et al., ECCV 2018",
    ),
    "grabcut": MethodEntry(
        "cellscribble.methods.grabcut:GrabCut",
        "strokes grown to whole labels by GrabCut, then learnt from",
        "Rother, Kolmogorov & Blake, SIGGRAPH 2004",
    ),
    "point_voronoi": MethodEntry(
        "cellscribble.methods.point_voronoi:PointVoronoi",
        "one point a cell, the middle of its stroke: Voronoi edges and colour clusters",
        "Qu et al., MIDL 2019",
    ),
    "multiscale_contrastive": MethodEntry(
        "cellscribble.methods.multiscale_contrastive:MultiscaleContrastive",
        "scribble2label; and features of one class attract, of different classes repel, at two scales",
        "Oh, Lee & Jeong, ISBI 2022",
    ),
    "impartial": MethodEntry(
        "cellscribble.methods.impartial:ImPartial",
        "strokes; and hidden pixels must be explained by a few intensities a class",
        "Martinez et al., bioRxiv 2021",
    ),
    "blind_spot_base": MethodEntry(
        "cellscribble.methods.blind_spot_base:BlindSpotBase",
        "impartial without its mixture: strokes, seen with hidden pixels",
        "Martinez et al., bioRxiv 2021",
    ),
    "denoiseg": MethodEntry(
        "cellscribble.methods.denoiseg:DenoiSeg",
        "strokes; and hidden pixels must be guessed (Noise2Void) by the same network",
        "Buchholz et al., ECCV 2020 Workshops",
    ),
    "random_walker_em": MethodEntry(
        "cellscribble.methods.random_walker_em:RandomWalkerEM",
        "strokes grown by a random walker; then learnt from and labelled anew in turn, the unsure left out",
        "Can et al., DLMIA 2018",
    ),
    "metric_learning": MethodEntry(
        "cellscribble.methods.metric_learning:MetricLearning",
        "strokes; and a learnt distance that tells the classes apart; for 'cellscribble adapt'",
        "Harada, Hayashi & Bise, EMBC 2019",
    ),
    "full_supervision": MethodEntry(
        "cellscribble.methods.full_supervision:FullSupervision",
        "masks drawn by hand (--labels): the bound that strokes aim at",
        "Ronneberger et al., MICCAI 2015",
    ),
}
DEFAULT_METHOD = "scribble2label"


def get_method(name: str) -> type[Method]:
    """Import the class of one method.

    Raises
    ------
    InputError
        If the name is unknown; the message lists all names.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    module, attribute = METHODS[name].target.split(":")
    method: type[Method] = getattr(importlib.import_module(module), attribute)
    return method
