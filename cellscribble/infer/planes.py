"""A 2D model on a stack: the network sees plane after plane, objects are told apart in space."""

from __future__ import annotations

from dataclasses import replace

from cellscribble.bundle import ModelMetadata
from cellscribble.core.volume import AXES_3D, ImageVolume


def sees_planes(meta: ModelMetadata) -> bool:
    """Whether these are metadata that `over_planes` may have made: nothing is seen of other planes."""
    return meta.axes == AXES_3D and meta.halo_px[0] == 0


def over_planes(meta: ModelMetadata, image: ImageVolume) -> tuple[ModelMetadata, str]:
    """The metadata of a 2D model as those of a 3D one for this stack, and what a user should know of it.

    A pixel sees nothing of other planes. The segmenter's lengths stay in pixels of the plane, and planes lie as far
    apart as the image says: a cell goes on in the next plane where its cross-sections overlap well. Sizes count
    voxels then, so that an object that one plane alone would show is not dropped; holes are those of each plane, as
    the model knows them: through several planes a mitochondrion is larger, and open above and below.
    """
    if image.pixel_size_um is None:
        apart, said = 1.0, "the image does not say how far apart its planes are: taken to be one pixel"
    else:
        z_um, *in_plane_um = image.pixel_size_um
        # The segmenter's unit is the finest axis of the plane.
        apart = round(z_um / min(in_plane_um), 2)
        said = f"planes are {apart:g} pixels apart"
    parameters = dict(meta.segmenter_parameters)
    if meta.segmenter == "instances":
        parameters["spacing"] = [apart, *(parameters.get("spacing") or (1.0, 1.0))]
        parameters["plane_holes"] = True
    pixel_size_um = meta.pixel_size_um
    if pixel_size_um is not None:
        z_um = min(pixel_size_um) * apart if image.pixel_size_um is None else image.pixel_size_um[0]
        pixel_size_um = (z_um, *pixel_size_um)
    volume = replace(
        meta,
        axes=AXES_3D,
        stride_multiple=(1, *meta.stride_multiple),
        halo_px=(0, *meta.halo_px),
        pixel_size_um=pixel_size_um,
        segmenter_parameters=parameters,
    )
    return volume, f"a 2D model sees each plane by itself, objects are joined in 3D; {said}"
