"""Pipelines for CellProfiler 4.2: load images and the objects that belong to them, measure, export tables.

The text is that which CellProfiler 4.2.8.1 writes itself (File > Export > Pipeline).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

Settings = Sequence[tuple[str, object]]

ENDING = "_cellscribble"
"""Of the names of label files: how NamesAndTypes tells them from images."""

_HEAD = """CellProfiler Pipeline: http://www.cellprofiler.org
Version:5
DateRevision:420
GitHash:
ModuleCount:{count}
HasImagePlaneDetails:False
"""
_MODULE = (
    "\n{name}:[module_num:{number}|svn_version:'Unknown'|variable_revision_number:{revision}|show_window:False|"
    "notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]\n"
)
_FORBIDDEN = ("Image", "Experiment", "Relationship")


def cellprofiler_name(text: str) -> str:
    """`text` as CellProfiler allows it for an image or objects: letters, digits, _; a letter first."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    if not name or not name[0].isalpha() or name in _FORBIDDEN:
        name = f"Channel_{name}".rstrip("_")
    return name


def pipeline_2d(folder: Path, table: str, images: Sequence[str], objects: str) -> str:
    """A pipeline that reads the LoadData table `folder`/`table`.

    Parameters
    ----------
    folder : of the table; the base of the paths in it
    images, objects : the names that the table gives to images and objects
    """
    # With / on Windows too: the reader would take \\x in a path for an escape.
    place = f"Elsewhere...|{folder.resolve().as_posix()}"
    load: Settings = [
        ("Input data file location", place),
        ("Name of the file", table),
        ("Load images based on this data?", "Yes"),
        ("Base image location", place),
        ("Process just a range of rows?", "No"),
        ("Rows to process", "1,100000"),
        ("Group images by metadata?", "No"),
        ("Select metadata tags for grouping", ""),
        ("Rescale intensities?", "Yes"),
    ]
    return _pipeline([("LoadData", 6, load), *_measure(images, objects)])


def pipeline_3d(images: Sequence[str], objects: str, spacing: Sequence[float]) -> str:
    """A pipeline for a folder of stacks NAME_IMAGE.tif and NAME_cellscribble.tif (LoadData reads planes only).

    Parameters
    ----------
    images : names of the images, as in the file names
    objects : name of the objects
    spacing : distance of pixels (z, y, x); their ratios count
    """
    endings = "|".join([*images, ENDING.removeprefix("_")])
    z, y, x = (f"{s:.12g}" for s in spacing)
    rules = [(image, "Grayscale image", f"_{image}.") for image in images]
    types: list[tuple[str, object]] = [
        ("Assign a name to", "Images matching rules"),
        ("Select the image type", "Grayscale image"),
        ("Name to assign these images", images[0]),
        ("Match metadata", str([dict.fromkeys([*images, objects], "Name")])),
        ("Image set matching method", "Metadata"),
        ("Set intensity range from", "Image metadata"),
        ("Assignments count", len(images) + 1),
        ("Single images count", 0),
        ("Maximum intensity", "255.0"),
        ("Process as 3D?", "Yes"),
        ("Relative pixel spacing in X", x),
        ("Relative pixel spacing in Y", y),
        ("Relative pixel spacing in Z", z),
    ]
    for name, kind, part in [*rules, (objects, "Objects", f"{ENDING}.")]:
        types += [
            ("Select the rule criteria", f'and (file does contain "{part}")'),
            ("Name to assign these images", name),
            ("Name to assign these objects", name),
            ("Select the image type", kind),
            ("Set intensity range from", "Image metadata"),
            ("Maximum intensity", "255.0"),
        ]
    start: list[tuple[str, int, Settings]] = [
        (
            "Images",
            2,
            [
                ("", ""),
                ("Filter images?", "Images only"),
                (
                    "Select the rule criteria",
                    r'and (extension does isimage) (directory doesnot containregexp "[\\\\/]\\.")',
                ),
            ],
        ),
        (
            "Metadata",
            6,
            [
                ("Extract metadata?", "Yes"),
                ("Metadata data type", "Text"),
                ("Metadata types", "{}"),
                ("Extraction method count", 1),
                ("Metadata extraction method", "Extract from file/folder names"),
                ("Metadata source", "File name"),
                ("Regular expression to extract from file name", f"^(?P<Name>.*)_({endings})[.]tif$"),
                ("Regular expression to extract from folder name", "(?P<Folder>.*)$"),
                ("Extract metadata from", "All images"),
                ("Select the filtering criteria", 'and (file does contain "")'),
                ("Metadata file location", "Elsewhere...|"),
                ("Match file and image metadata", "[]"),
                ("Use case insensitive matching?", "No"),
                ("Metadata file name", "None"),
                ("Does cached metadata exist?", "No"),
            ],
        ),
        ("NamesAndTypes", 8, types),
        (
            "Groups",
            2,
            [
                ("Do you want to group your images?", "No"),
                ("grouping metadata count", 1),
                ("Metadata category", "None"),
            ],
        ),
    ]
    return _pipeline([*start, *_measure(images, objects)])


def _measure(images: Sequence[str], objects: str) -> list[tuple[str, int, Settings]]:
    return [
        (
            "MeasureObjectSizeShape",
            3,
            [
                ("Select object sets to measure", objects),
                ("Calculate the Zernike features?", "Yes"),
                ("Calculate the advanced features?", "No"),
            ],
        ),
        (
            "MeasureObjectIntensity",
            4,
            [
                ("Select images to measure", ", ".join(images)),
                ("Select objects to measure", objects),
            ],
        ),
        (
            "ExportToSpreadsheet",
            13,
            [
                ("Select the column delimiter", 'Comma (",")'),
                ("Add image metadata columns to your object data file?", "Yes"),
                ("Add image file and folder names to your object data file?", "No"),
                ("Select the measurements to export", "No"),
                ("Calculate the per-image mean values for object measurements?", "No"),
                ("Calculate the per-image median values for object measurements?", "No"),
                ("Calculate the per-image standard deviation values for object measurements?", "No"),
                ("Output file location", "Default Output Folder|"),
                ("Create a GenePattern GCT file?", "No"),
                ("Select source of sample row name", "Metadata"),
                ("Select the image to use as the identifier", "None"),
                ("Select the metadata to use as the identifier", "None"),
                ("Export all measurement types?", "Yes"),
                ("Press button to select measurements", ""),
                ("Representation of Nan/Inf", "NaN"),
                ("Add a prefix to file names?", "Yes"),
                ("Filename prefix", "MyExpt_"),
                ("Overwrite existing files without warning?", "No"),
                ("Data to export", "Do not use"),
                ("Combine these object measurements with those of the previous object?", "No"),
                ("File name", "DATA.csv"),
                ("Use the object name for the file name?", "Yes"),
            ],
        ),
    ]


def _pipeline(modules: Sequence[tuple[str, int, Settings]]) -> str:
    text = _HEAD.format(count=len(modules))
    for number, (name, revision, settings) in enumerate(modules, start=1):
        text += _MODULE.format(name=name, number=number, revision=revision)
        text += "".join(f"    {label}:{value}\n" for label, value in settings)
    return text
