"""Pixel sizes in micrometres, from what TIFF, ImageJ, OME and OME-Zarr files say."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MICROMETRES = {
    "pm": 1e-6,
    "picometer": 1e-6,
    "å": 1e-4,
    "a": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
}
_SCREEN_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 200, 240, 300, 400, 600, 1200)
_CENTIMETRE = 3


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Micrometres per pixel as a file gives them; None where it does not. `source` is for the user."""

    x: float | None = None
    y: float | None = None
    z: float | None = None
    source: str = ""

    def spatial(self, letters: str) -> tuple[tuple[float, ...] | None, str]:
        """Sizes in the order of `letters` ("YX" or "ZYX") and a sentence part that describes them.

        An unknown z step is taken as equal to the pixel size in x: Fiji does much the same, and
        losing the known x and y would be worse.
        """
        if self.x is None and self.y is None:
            return None, "no pixel size"
        x = self.x if self.x is not None else self.y
        y = self.y if self.y is not None else x
        assert x is not None
        assert y is not None
        words = f"pixel size {x:.4g} µm" if math.isclose(x, y) else f"pixel size {y:.4g} x {x:.4g} µm (y x)"
        if "Z" not in letters:
            return (y, x), words
        if self.z is None:
            return (x, y, x), f"{words}, z step not in the file and taken as equal"
        return (self.z, y, x), f"{words}, z step {self.z:.4g} µm"

    def scaled(self, factor_y: float, factor_x: float) -> PixelSize:
        """The sizes of a smaller pyramid level."""
        return PixelSize(self.x and self.x * factor_x, self.y and self.y * factor_y, self.z, source=self.source)


def micrometres(value: float, unit: str) -> float | None:
    """`value` in `unit` as micrometres; None for pixels, inches, unknown units and bad numbers.

    Inches are print resolutions, never a measured pixel.
    """
    unit = unit.strip().strip('"').replace("\\u00B5", "u").replace("\\u00b5", "u")
    unit = unit.replace("µ", "u").replace("μ", "u").replace("Å", "å").lower()
    unit = re.sub(r"metre", "meter", unit)
    factor = _MICROMETRES.get(unit) or _MICROMETRES.get(unit.removesuffix("s"))
    if factor is None or not math.isfinite(value) or value <= 0:
        return None
    return value * factor


def from_imagej(metadata: Mapping[str, Any], per_unit_x: float | None, per_unit_y: float | None) -> PixelSize:
    """From ImageJ's description and the resolution tags (pixels per unit)."""
    unit = str(metadata.get("unit", ""))
    # ImageJ leaves `spacing` out where the voxel depth is 1 unit.
    spacing = _number(metadata.get("spacing", 1.0))
    return PixelSize(
        x=micrometres(1 / per_unit_x, unit) if per_unit_x else None,
        y=micrometres(1 / per_unit_y, unit) if per_unit_y else None,
        z=micrometres(abs(spacing), unit),
        source="ImageJ metadata",
    )


def from_resolution_tag(per_unit_x: float | None, per_unit_y: float | None, unit: int) -> PixelSize:
    """From a plain TIFF's resolution in pixels a centimetre, where that can be a microscope's.

    Inches, screen and print resolutions (72, 96, 300 dpi ...) and sizes outside 1 nm .. 1 mm are
    what programs write when they know nothing.
    """
    if unit != _CENTIMETRE or not per_unit_x or not per_unit_y:
        return PixelSize()
    size = 1e4 / per_unit_x
    dpi = per_unit_x * 2.54
    if not 1e-3 <= size <= 1e3 or any(abs(dpi - known) < 0.02 * known for known in _SCREEN_DPI):
        return PixelSize()
    return PixelSize(x=size, y=1e4 / per_unit_y, source="the TIFF resolution tag")


def from_aperio(description: str) -> PixelSize:
    """From the `MPP = 0.499` of an Aperio slide."""
    found = re.search(r"\bMPP\s*=\s*([0-9.]+)", description)
    size = micrometres(_number(found.group(1)), "um") if found else None
    return PixelSize(x=size, y=size, source="Aperio metadata")


def from_ome_xml(xml: str) -> tuple[PixelSize, tuple[str, ...]]:
    """Pixel size and channel names of the first image of an OME-XML text."""
    try:
        root = ET.fromstring(xml)
    except ET.ParseError:
        return PixelSize(), ()
    pixels = root.find(".//{*}Image/{*}Pixels")
    if pixels is None:
        return PixelSize(), ()
    x, y, z = (
        micrometres(_number(pixels.get(f"PhysicalSize{axis}")), pixels.get(f"PhysicalSize{axis}Unit", "um"))
        for axis in "XYZ"
    )
    names = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    return PixelSize(x, y, z, "OME metadata"), names if any(names) else ()


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
