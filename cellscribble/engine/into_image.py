"""Labels inside the image they belong to: slide.zarr/labels/NAME.

Viewers find them by the list in the group `labels` (OME-NGFF 0.4 and 0.5, section "labels"). A name
stands there only while the labels are whole: it is taken off before they are replaced, and is put
there last of all.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.errors import BaseZarrError

from cellscribble.core.errors import InputError
from cellscribble.io.atomic import explain_write_error

SOURCE = "../../"
"""From the labels to their image."""

_NAME = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class IntoImage:
    """The place of labels in an image; made by `into_image`.

    image : folder of the OME-Zarr
    name : of the labels
    version : of OME-Zarr, the image's
    """

    image: Path
    name: str
    version: str

    @property
    def path(self) -> Path:
        """Where the labels belong."""
        return self.image / "labels" / self.name

    def unlist(self) -> None:
        """Take the name off the list; makes the group `labels` if there is none. Raises OutputError."""
        self._change([name for name in self._listed() if name != self.name])

    def enlist(self) -> None:
        """Put the name on the list, in one step; a second call does nothing. Raises OutputError."""
        listed = self._listed()
        self._change(listed if self.name in listed else [*listed, self.name])
        root = zarr.open_group(str(self.image), mode="r")
        if root.metadata.consolidated_metadata is not None:
            # A reader that looks at the image's own table of contents sees nothing that is not in it.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of version 3 it is no part of the standard yet
                zarr.consolidate_metadata(str(self.image))

    def _group(self) -> Any:
        zarr_format: Literal[2, 3] = 2 if self.version == "0.4" else 3
        path = str(self.image / "labels")
        try:
            return zarr.open_group(path, mode="a", zarr_format=zarr_format, use_consolidated=False)
        except OSError as error:
            raise explain_write_error(error, Path(path)) from error

    def _listed(self) -> list[str]:
        attributes: dict[str, Any] = self._group().attrs.asdict()
        listed = (attributes if self.version == "0.4" else attributes.get("ome", {})).get("labels", [])
        return [str(name) for name in listed]

    def _change(self, listed: list[str]) -> None:
        group = self._group()
        old = group.attrs.asdict().get("ome", {})
        own: Any = listed if self.version == "0.4" else {"version": self.version, **old, "labels": listed}
        try:
            group.attrs.update({"labels" if self.version == "0.4" else "ome": own})
        except OSError as error:
            raise explain_write_error(error, self.image / "labels") from error


def into_image(image: Path | str, name: str) -> IntoImage:
    """Where labels called `name` belong in an image.

    Raises
    ------
    InputError
        If the image is no OME-Zarr folder that can hold labels, or the name no name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"--into-image {name!r} is no name for labels; use letters, digits, - and _, such as nuclei")
    remedy = "leave --into-image out, and the labels are written as a store of their own"
    try:
        group = zarr.open_group(str(image), mode="r") if isinstance(image, Path) else None
    except (BaseZarrError, OSError, ValueError, KeyError):
        group = None
    if group is None:
        raise InputError(f"{image} is no OME-Zarr folder, so no labels can be put into it; {remedy}")
    attributes: dict[str, Any] = group.attrs.asdict()
    if "multiscales" not in attributes.get("ome", attributes):
        raise InputError(f"{image} holds no image itself; give the folder of one of its images, or {remedy}")
    return IntoImage(Path(image), name, "0.4" if group.metadata.zarr_format == 2 else "0.5")
