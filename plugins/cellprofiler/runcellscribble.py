"""
RunCellScribble
===============

**RunCellScribble** finds objects with a model that *CellScribble* trained on a few strokes.

CellScribble is a program of its own with its own Python: install it beside CellProfiler and name it in the setting
*CellScribble program*. This module hands it each image as a TIFF file, with the grey values of the original file, and
takes back what ``cellscribble predict`` writes, so that a pipeline finds the same objects as the command line. The
program stays in memory between images, for all of CellProfiler's workers together.

|

============ ============ ===============
Supports 2D? Supports 3D? Respects masks?
============ ============ ===============
YES          YES          YES
============ ============ ===============

What you need
^^^^^^^^^^^^^

-  CellScribble (``cellscribble doctor`` says whether it works), and a model: one that you trained, or one that comes
   with it. ``cellscribble info MODEL`` says which channels a model expects.
-  This file in the folder that *File > Preferences > CellProfiler plugins directory* names.

What comes out
^^^^^^^^^^^^^^

-  Objects, numbered 1, 2, 3 ... without gaps. What lies outside of a mask is removed from the objects; the model sees
   the image as it is handed on (**MaskImage** and **Crop** make the outside black).
-  An image of one constant value (an empty field) has no objects; the log says so.
-  Optionally the probability that a pixel is not background, and how uncertain the model is, as images.

Measurements made by this module
^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-  *Count*, *Location_Center_X, Y, Z* and *Number_Object_Number*, as by all modules that find objects.
-  *CellScribble_Class*: the number of the object's class, in the order of the model's classes, 1 for the first.
"""
# One file, the syntax of Python 3.8, and nothing that CellProfiler does not bring along: a plugin whose imports fail
# does not appear in CellProfiler's list, and nothing says why.

import hashlib
import hmac
import json
import logging
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time

import numpy
import tifffile
from cellprofiler_core.constants.measurement import COLTYPE_INTEGER
from cellprofiler_core.image import Image
from cellprofiler_core.module.image_segmentation import ImageSegmentation
from cellprofiler_core.object import Objects
from cellprofiler_core.setting import Binary, HiddenCount, SettingsGroup, ValidationError
from cellprofiler_core.setting.choice import Choice
from cellprofiler_core.setting.do_something import DoSomething, RemoveSettingButton
from cellprofiler_core.setting.subscriber import ImageSubscriber
from cellprofiler_core.setting.text import Float, ImageName, Integer, Pathname, Text

LOGGER = logging.getLogger(__name__)

FIND_OBJECTS, FIND_CLASSES = "Single objects", "Classes"
C_CELLSCRIBBLE, F_CLASS = "CellScribble", "Class"
M_CLASS = "CellScribble_Class"

MAX_PIXELS = 1 << 26
"""Above, `cellscribble predict` writes OME-Zarr, which CellProfiler 4 does not read."""

N_SETTINGS_BEFORE_CHANNELS = 18
PIXEL_SIZE_SETTING = 10
"""Where it stands among the settings of a pipeline file."""

IDLE_MINUTES = 10
"""The program that stays in memory ends when it was not needed for so long."""

START_SECONDS = 120
"""In which it has to answer; a busy computer may take long to start it."""

GREETING_SECONDS = 30

STARTED = []
"""The programs that this process started: Python complains about one that runs on when nothing knows of it any more."""


class Program(Pathname):
    """A program: the full path of a file, or a name that the system finds."""

    def test_valid(self, pipeline):
        if shutil.which(self.value) is None:
            raise ValidationError("There is no program %s; give its full path" % self.value, self)


class Model(Pathname):
    """A model file or run folder, or the name of a model that comes with CellScribble."""

    def test_valid(self, pipeline):
        is_path = os.path.basename(self.value) != self.value or self.value.endswith(".onnx")
        if not self.value or (is_path and not os.path.exists(self.value)):
            raise ValidationError("There is no model %s" % self.value, self)


class RunCellScribble(ImageSegmentation):
    category = "Object Processing"
    module_name = "RunCellScribble"
    variable_revision_number = 3

    doi = {
        "Please cite the following when using RunCellScribble:": "https://doi.org/10.1007/978-3-030-59710-8_2",
    }

    def create_settings(self):
        super(RunCellScribble, self).create_settings()
        self.x_name.doc = """\
The image to segment: grey or colour, 2D or 3D, as the model expects it. If the model expects several channels, this
is the first; add the others below."""
        self.program = Program(
            "CellScribble program",
            value="cellscribble",
            doc="""\
The command *cellscribble*. CellProfiler started from the desktop does not know the folders of your terminal, so give the
full path; ``which cellscribble`` (Windows: ``where cellscribble``) in the terminal prints it.""",
        )
        self.model = Model(
            "Model",
            value="nuclei_fluorescence",
            doc="""\
A file *model.onnx*, the folder of a training run, or the name of a model that comes with CellScribble.""",
        )
        self.find = Choice(
            "What to find",
            [FIND_OBJECTS, FIND_CLASSES],
            value=FIND_OBJECTS,
            doc="""\
-  *{0}*: each object gets a number of its own.
-  *{1}*: all pixels of a class are one object; nothing is told apart.""".format(FIND_OBJECTS, FIND_CLASSES),
        )
        self.keep_classes = Text(
            "Keep objects of these classes",
            value="",
            doc="""\
Names of classes with commas between them, for example *tumor, stroma*. Empty: objects of all classes.""",
        )
        self.wants_threshold = Binary(
            "Use another threshold than the model's?",
            value=False,
            doc="""\
A model decides at the probability at which cells ended in the images of its training. Select *Yes* to set another.""",
        )
        self.threshold = Float(
            "Threshold",
            value=0.5,
            minval=0.001,
            maxval=0.999,
            doc="""\
*(Used only if another threshold is wanted)*

Pixels above this probability belong to objects: higher makes objects smaller and fewer.""",
        )
        self.smallest = Integer(
            "Smallest object",
            value=0,
            minval=0,
            doc="""\
Objects of fewer pixels (in 3D voxels) are removed. At 0 those that the model itself keeps remain.""",
        )
        self.device = Choice(
            "Device",
            ["auto", "cpu", "cuda"],
            value="auto",
            doc="""\
Where the model runs. *auto* takes a graphics card where one can be used.""",
        )
        self.keep_running = Binary(
            "Keep the program running between images?",
            value=True,
            doc="""\
To start the program and to load the model takes longer than to segment a small image. Select *Yes* to start it once for
all images, and once for all workers: they wait for each other, so that they can share one graphics card. The program ends
by itself {0} minutes after the last image. Select *No* to start it anew for each image.""".format(IDLE_MINUTES),
        )
        # A pipeline file ends the words of a setting at the first colon, so none may stand in them.
        self.pixel_size = Float(
            "Size of a pixel in micrometers, 0 if not known",
            value=0.0,
            minval=0.0,
            doc="""\
CellProfiler does not hand on the pixel size of a file. If you give it here, CellScribble compares it with that of the
model. In 3D the spacing that you set in **NamesAndTypes** says how much thicker the planes are.""",
        )
        self.wants_rescale = Binary(
            "Resample the image to the model's pixel size?",
            value=False,
            doc="""\
*(Used only if the size of a pixel is given)*

Select *Yes* if the image was taken at another magnification than those the model was trained on.""",
        )
        self.wants_probability = Binary(
            "Keep the probability as an image?",
            value=False,
            doc="""\
Select *Yes* for an image of the probability, 0 to 1, that a pixel is not background.""",
        )
        self.probability_name = ImageName(
            "Name the probability image", "CellProbability", doc="*(Used only if the probability is kept)*"
        )
        self.wants_uncertainty = Binary(
            "Keep the uncertainty as an image?",
            value=False,
            doc="""\
Select *Yes* for an image of how unsure the model is: 0 where it is certain, 1 where two classes are equally probable.""",
        )
        self.uncertainty_name = ImageName(
            "Name the uncertainty image", "CellUncertainty", doc="*(Used only if the uncertainty is kept)*"
        )
        self.channels = []
        self.channel_count = HiddenCount(self.channels)
        self.add_channel_button = DoSomething("", "Add another channel", self.add_channel)

    def add_channel(self):
        group = SettingsGroup()
        group.append(
            "image_name",
            ImageSubscriber(
                "Select the next channel",
                doc="An image of the same size. The channels must be in the order in which the model was trained.",
            ),
        )
        group.append("remover", RemoveSettingButton("", "Remove this channel", self.channels, group))
        self.channels.append(group)

    def settings(self):
        # This order is the format of pipeline files: append only, with a new variable_revision_number.
        fixed = [
            self.program,
            self.model,
            self.find,
            self.keep_classes,
            self.wants_threshold,
            self.threshold,
            self.smallest,
            self.device,
            self.pixel_size,
            self.wants_rescale,
            self.wants_probability,
            self.probability_name,
            self.wants_uncertainty,
            self.uncertainty_name,
            self.keep_running,
            self.channel_count,
        ]
        return super(RunCellScribble, self).settings() + fixed + [group.image_name for group in self.channels]

    def visible_settings(self):
        visible = [self.x_name]
        for group in self.channels:
            visible += [group.image_name, group.remover]
        visible += [self.add_channel_button, self.y_name, self.program, self.model, self.find, self.keep_classes]
        if self.find.value == FIND_OBJECTS:
            visible += [self.wants_threshold]
            if self.wants_threshold.value:
                visible += [self.threshold]
        visible += [self.smallest, self.device, self.keep_running, self.pixel_size]
        if self.pixel_size.value > 0 or self.wants_rescale.value:
            visible += [self.wants_rescale]
        visible += [self.wants_probability]
        if self.wants_probability.value:
            visible += [self.probability_name]
        visible += [self.wants_uncertainty]
        if self.wants_uncertainty.value:
            visible += [self.uncertainty_name]
        return visible

    def prepare_settings(self, setting_values):
        n_channels = int(setting_values[N_SETTINGS_BEFORE_CHANNELS - 1])
        del self.channels[n_channels:]
        while len(self.channels) < n_channels:
            self.add_channel()

    def upgrade_settings(self, setting_values, variable_revision_number, module_name):
        if variable_revision_number == 1:
            # Revision 2 keeps the program running.
            setting_values = list(setting_values[:16]) + ["Yes"] + list(setting_values[16:])
            variable_revision_number = 2
        if variable_revision_number == 2:
            # The words of the size of a pixel had a colon, so the value came with the rest of them: " not known):0.5".
            setting_values = list(setting_values)
            setting_values[PIXEL_SIZE_SETTING] = setting_values[PIXEL_SIZE_SETTING].rpartition(":")[2]
            variable_revision_number = 3
        return setting_values, variable_revision_number

    def get_categories(self, pipeline, object_name):
        own = [C_CELLSCRIBBLE] if object_name == self.y_name.value else []
        return super(RunCellScribble, self).get_categories(pipeline, object_name) + own

    def get_measurements(self, pipeline, object_name, category):
        if object_name == self.y_name.value and category == C_CELLSCRIBBLE:
            return [F_CLASS]
        return super(RunCellScribble, self).get_measurements(pipeline, object_name, category)

    def get_measurement_columns(self, pipeline, object_name=None):
        columns = super(RunCellScribble, self).get_measurement_columns(pipeline, object_name)
        return columns + [(object_name or self.y_name.value, M_CLASS, COLTYPE_INTEGER)]

    def volumetric(self):
        return True

    def validate_module(self, pipeline):
        super(RunCellScribble, self).validate_module(pipeline)
        if self.wants_rescale.value and not self.pixel_size.value > 0:
            raise ValidationError("To resample the image CellScribble must know the size of a pixel", self.pixel_size)

    def run(self, workspace):
        names = [self.x_name.value] + [group.image_name.value for group in self.channels]
        images = [workspace.image_set.get_image(name) for name in names]
        first = images[0]
        spatial = first.pixel_data.shape[: first.dimensions]
        if all(numpy.ptp(image.pixel_data) == 0 for image in images):
            LOGGER.warning("RunCellScribble: %s has one constant value, so it has no objects", ", ".join(names))
            labels, classes = numpy.zeros(spatial, numpy.int32), numpy.zeros(0, int)
            maps = {kind: numpy.zeros(spatial, numpy.float32) for kind in self.wanted_maps()}
        else:
            labels, classes, maps = self.predict(images)
        # A pixel that is masked in one channel is not seen as it should be.
        seen = numpy.logical_and.reduce([image.mask for image in images])
        labels, kept = self.choose(labels, classes, seen)

        objects = Objects()
        objects.segmented = labels
        # Not the image that this one was cropped or masked from: later modules take mask and crop from here.
        objects.parent_image = first
        workspace.object_set.add_objects(objects, self.y_name.value)
        self.add_measurements(workspace)
        workspace.measurements.add_measurement(self.y_name.value, M_CLASS, kept)
        wanted = self.wanted_maps()
        for kind, name in wanted.items():
            image = Image(maps[kind], parent_image=first, convert=False, dimensions=first.dimensions)
            workspace.image_set.add(name, image)
        if self.show_window:
            workspace.display_data.x_data = first.pixel_data
            workspace.display_data.y_data = labels
            workspace.display_data.probability = maps["probability"] if "probability" in wanted else None
            workspace.display_data.dimensions = first.dimensions

    def display(self, workspace, figure):
        data = workspace.display_data
        figure.set_subplots((2, 1) if data.probability is None else (3, 1), dimensions=data.dimensions)
        figure.subplot_imshow(colormap="gray", image=data.x_data, title=self.x_name.value, x=0, y=0)
        figure.subplot_imshow_labels(
            background_image=data.x_data,
            image=data.y_data,
            sharexy=figure.subplot(0, 0),
            title="%s: %d" % (self.y_name.value, data.y_data.max()),
            x=1,
            y=0,
        )
        if data.probability is not None:
            figure.subplot_imshow(
                colormap="viridis",
                image=data.probability,
                sharexy=figure.subplot(0, 0),
                title="Probability",
                x=2,
                y=0,
            )

    def predict(self, images):
        """Labels (*spatial), the class of labels 1, 2, ... (n,), and the maps (*spatial) 0..1 that are wanted."""
        with tempfile.TemporaryDirectory(prefix="cellscribble_") as folder:
            source, out = os.path.join(folder, "image.tif"), os.path.join(folder, "out")
            write_image(source, images, self.pixel_size.value)
            arguments = [source, "-o", out] + self.options()
            if self.keep_running.value:
                code, said = ask_program(self.program.value, arguments)
            else:
                code, said = run_program(self.program.value, arguments)
            if code:
                LOGGER.error("cellscribble predict %s ended with %d and said:\n%s", " ".join(arguments), code, said)
                lines = [line for line in said.splitlines() if line.strip()]
                raise RuntimeError("CellScribble: %s" % (lines[-1] if lines else "exit code %d" % code))
            labels = tifffile.imread(os.path.join(out, "image_labels.tif"))
            maps = {}
            for kind in self.wanted_maps():
                values = tifffile.imread(os.path.join(out, "image_%s.tif" % kind))
                if kind == "probability":
                    # Of each class, background first; ImageJ's order of axes is ZCYX.
                    maps[kind] = 1 - (values[:, 0] if labels.ndim == 3 else values[0])
                else:
                    maps[kind] = values.reshape(labels.shape) / numpy.float32(255)
            with open(os.path.join(out, "image_labels.json"), encoding="utf-8") as file:
                record = json.load(file)
        for note in record["notes"]:
            LOGGER.info("RunCellScribble: %s", note)
        highest = int(labels.max())
        if self.find.value == FIND_CLASSES:
            classes = numpy.arange(1, highest + 1)
        else:
            classes = numpy.asarray(record.get("object_classes", [1] * highest), int)
        wanted = [name.strip() for name in self.keep_classes.value.split(",") if name.strip()]
        known = record["classes"][1:]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise RuntimeError("The model has no class %s; its classes are %s" % (unknown[0], ", ".join(known)))
        if wanted:
            chosen = numpy.array([number + 1 for number, name in enumerate(known) if name in wanted])
            classes = numpy.where(numpy.isin(classes, chosen), classes, 0)
        return labels, classes, maps

    def wanted_maps(self):
        """What is kept besides the objects, by the option of `cellscribble predict`: the name of its image."""
        wanted = {}
        if self.wants_probability.value:
            wanted["probability"] = self.probability_name.value
        if self.wants_uncertainty.value:
            wanted["uncertainty"] = self.uncertainty_name.value
        return wanted

    def options(self):
        model = self.model.value
        if os.path.exists(model):
            # A program that is running already may stand in another folder.
            model = os.path.abspath(model)
        # What a program that was killed had written of this image gives way.
        options = ["-m", model, "--device", self.device.value, "--overwrite"]
        if self.find.value == FIND_CLASSES:
            options += ["--classes"]
        elif self.wants_threshold.value:
            options += ["--threshold", str(self.threshold.value)]
        if self.pixel_size.value > 0 and self.wants_rescale.value:
            options += ["--rescale"]
        return options + ["--" + kind for kind in self.wanted_maps()]

    def choose(self, labels, classes, mask):
        """The labels that are kept as 1..n without gaps, and their classes (n,); class 0 is not kept.

        CellProfiler would count each number that is left out as an object without pixels.
        """
        labels = numpy.where(mask, labels, 0)
        n_pixels = numpy.bincount(labels.ravel(), minlength=len(classes) + 1)[1:]
        kept = numpy.flatnonzero((n_pixels >= max(self.smallest.value, 1)) & (classes > 0))
        numbers = numpy.zeros(len(classes) + 1, numpy.int32)
        numbers[kept + 1] = numpy.arange(1, len(kept) + 1)
        return numbers[labels], classes[kept]


def write_image(path, images, pixel_size):
    """Write images of one size as the channels of one TIFF, with the grey values of their files.

    images : CellProfiler's, of values 0..1; (Y, X) or (Z, Y, X), or one of colour (Y, X, 3)
    pixel_size : in the plane, micrometers; 0 if not known
    """
    first = images[0]
    ndim = first.dimensions
    if numpy.prod(first.pixel_data.shape[:ndim]) > MAX_PIXELS:
        raise RuntimeError(
            "The image has more than 64 million pixels; run \"cellscribble predict IMAGE --cellprofiler\" on it instead"
        )
    metadata, resolution = {}, None
    if pixel_size > 0:
        metadata["unit"], resolution = "um", (1 / pixel_size, 1 / pixel_size)
        if ndim == 3:
            metadata["spacing"] = pixel_size * first.spacing[0]
    if first.multichannel:
        colours = first.pixel_data.shape[-1]
        if len(images) > 1 or colours != 3 or ndim == 3:
            raise RuntimeError(
                "A colour image must be 2D, have 3 channels and stand alone; it has %d, and %d images are given. "
                "Split it with ColorToGray and add the channels one by one" % (colours, len(images))
            )
        # A picture that was computed in the pipeline has no scale of its own.
        scale = max(first.scale or 255, 255)
        values = numpy.rint(first.pixel_data * scale)
        if scale == 255:
            values, metadata["axes"] = values.clip(0, 255).astype(numpy.uint8), "YXS"
        else:
            # ImageJ has no colours of 16 bits; as three channels they are the same to the model.
            values, metadata["axes"] = numpy.moveaxis(values.clip(0, 65535).astype(numpy.uint16), -1, 0), "CYX"
        tifffile.imwrite(path, values, imagej=True, resolution=resolution, metadata=metadata)
        return
    shapes = [image.pixel_data.shape for image in images]
    if len(set(shapes)) > 1:
        raise RuntimeError("The channels differ in size: %s" % ", ".join(str(shape) for shape in shapes))
    planes = [grey_values(image) for image in images]
    # Channels of several types become one that holds them all.
    values = numpy.stack(planes, axis=1 if ndim == 3 else 0)
    if values.dtype not in (numpy.uint8, numpy.uint16):
        values = values.astype(numpy.float32)
    metadata["axes"] = "ZCYX" if ndim == 3 else "CYX"
    tifffile.imwrite(path, values, imagej=True, resolution=resolution, metadata=metadata)


def grey_values(image):
    """What stood in the image's file: CellProfiler divides by `scale` (255, 65535 ...) when it reads a file."""
    scale = image.scale or 1.0
    values = image.pixel_data * scale
    whole = numpy.rint(values)
    # An image that was computed in the pipeline holds fractions and stays as it is.
    if 255 <= scale <= 65535 and abs(values - whole).max() < 0.02 and whole.min() >= 0 and whole.max() <= scale:
        return whole.astype(numpy.uint8 if scale == 255 else numpy.uint16)
    return values


def run_program(program, arguments):
    """Exit code and stderr of `cellscribble predict`, started for this image."""
    try:
        done = subprocess.run(
            [program, "predict"] + arguments,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            # Without a black window for each image on Windows.
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise cannot_be_started(program, error.strerror)
    return done.returncode, done.stderr


def environment():
    """Of the program: CellProfiler's own Python would otherwise be searched for the program's packages."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    kept["PYTHONIOENCODING"] = "utf-8"
    return kept


def cannot_be_started(program, why):
    return RuntimeError(
        "CellScribble cannot be started as %s (%s); set the full path of the program in RunCellScribble" % (program, why)
    )


def ask_program(program, arguments):
    """As `run_program`, of a `cellscribble serve` that is running already; if there is none it is started."""
    for _ in range(2):
        server = reach_server(program)
        try:
            return server.predict(arguments)
        except (OSError, ValueError) as error:
            LOGGER.warning("RunCellScribble: the program ended in the middle of an image (%s)", error)
        finally:
            server.close()
    raise RuntimeError(
        "CellScribble ended twice in the middle of an image, as programs do that the system kills because memory is "
        "short; close other programs, use fewer workers, or choose another device"
    )


def reach_server(program):
    """The server of this user and program, started if there is none. Of several that are started at once one stays."""
    place = server_place(program)
    log = place[: -len(".json")] + ".log"
    deadline, next_start, process, written = time.monotonic() + START_SECONDS, 0, None, 0
    while time.monotonic() < deadline:
        server = connect(place)
        if server is not None:
            return server
        if process is not None and process.poll():
            with open(log, "rb") as file:
                # What stood there before is of other programs.
                file.seek(written)
                lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
            raise cannot_be_started(program, lines[-1] if lines else "exit code %d" % process.returncode)
        if (process is None or process.poll() is not None) and time.monotonic() > next_start:
            # One that finds another ends without an error. That one may be about to end, so ask again after a while.
            written = os.path.getsize(log) if os.path.exists(log) else 0
            process, next_start = start_server(program, place, log), time.monotonic() + 2
        time.sleep(0.05)
    raise RuntimeError(
        "CellScribble did not answer within %d seconds; %s may say why. Choose No for \"Keep the program running "
        "between images?\" to go on without it" % (START_SECONDS, log)
    )


def server_place(program):
    """The file in which the server of `program` says how to ask it; one that was installed anew has another."""
    found = shutil.which(program)
    if found is None:
        raise cannot_be_started(program, "there is no such program")
    which = "%s %d %s" % (os.path.realpath(found), os.stat(found).st_mtime_ns, os.environ.get("CUDA_VISIBLE_DEVICES"))
    name = hashlib.sha256(which.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return os.path.join(server_folder(), name + ".json")


def server_folder():
    """A folder on this computer that only this user can read."""
    # On Windows and macOS the folder for temporary files is the user's own.
    whose = "-%d" % os.getuid() if hasattr(os, "getuid") else ""
    folder = os.path.join(tempfile.gettempdir(), "cellscribble" + whose)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    if hasattr(os, "getuid"):
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise RuntimeError(
                "%s is another user's or open to others, so what answers there is not trusted; delete it, or choose No "
                "for \"Keep the program running between images?\"" % folder
            )
    return folder


def start_server(program, place, log):
    # In a session of its own: it serves other workers too, so it must not end with this one.
    apart = {"start_new_session": True} if os.name == "posix" else {"creationflags": subprocess.CREATE_NO_WINDOW}
    with open(log, "ab") as file:
        try:
            process = subprocess.Popen(
                [shutil.which(program), "serve", place, "--idle-minutes", str(IDLE_MINUTES)],
                env=environment(),
                # The user's folders stay free to be moved.
                cwd=os.path.dirname(place),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                **apart
            )
        except OSError as error:
            raise cannot_be_started(program, error.strerror)
    STARTED.append(process)
    return process


def connect(place):
    """The running server that the file `place` tells of; None if there is none."""
    try:
        with open(place, encoding="utf-8") as file:
            told = json.load(file)
        connection = socket.create_connection(("127.0.0.1", told["port"]), GREETING_SECONDS)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        return Server(connection, told["secret"])
    except (OSError, ValueError, KeyError, TypeError):
        # After a server was killed its port may be another program's.
        connection.close()
        return None


class Server:
    """A connection to `cellscribble serve`. Each message proves that its sender could read the file with the secret."""

    def __init__(self, connection, secret):
        self.connection, self.secret = connection, secret
        self.lines = connection.makefile("rb")
        own = secrets.token_hex(16)
        connection.sendall(own.encode() + b"\n")
        self.drawn = own
        self.drawn += self.receive()["drew"]

    def predict(self, arguments):
        """Exit code and stderr; OSError or ValueError if the server ends before it answers."""
        text = json.dumps({"arguments": arguments})
        self.connection.sendall(("%s %s\n" % (self.sign(text), text)).encode())
        # Others may be first, and an image may be large.
        self.connection.settimeout(None)
        answer = self.receive()
        return answer["code"], answer["said"]

    def receive(self):
        signature, _, text = self.lines.readline().decode("ascii").strip().partition(" ")
        if not hmac.compare_digest(signature, self.sign(text)):
            raise ValueError("no answer" if not text else "an answer of somebody else")
        return json.loads(text)

    def sign(self, text):
        return hmac.new(self.secret.encode(), ("%s\n%s" % (self.drawn, text)).encode(), "sha256").hexdigest()

    def close(self):
        self.lines.close()
        self.connection.close()
