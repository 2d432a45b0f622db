"""What this installation consists of, and what to repair. Nothing here raises: a broken part is an answer."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from cellscribble._version import __version__
from cellscribble.bridge import fiji as bridge
from cellscribble.bridge.find import FIJI_VARIABLES, find_fiji, find_imagej_jar
from cellscribble.infer.find_model import shipped_models
from cellscribble.infer.runner import CUDA, cuda_device_present

OK, OPTIONAL, WARNING, PROBLEM = "ok", "optional", "warning", "problem"

MIN_PYTHON = (3, 11)
TORCH_RANGE = ((2, 6), (2, 14))
"""From, and below: the range that is tested; as in setup.py."""
PROBE_TIMEOUT_S = 60.0
MIN_MEMORY_GB, MIN_DISK_GB = 4.0, 2.0
PACKAGES = (
    "numpy",
    "scipy",
    "scikit-image",
    "tifffile",
    "zarr",
    "dask",
    "onnx",
    "pillow",
    "matplotlib",
    "roifile",
    "yaozarrs",
)
CODECS = ("ZLIB", "LZW", "JPEG8", "JPEG2K", "ZSTD", "BLOSC", "PACKBITS")

_TORCH_PROBE = """
import json, torch
print(json.dumps({"threads": torch.get_num_threads(), "cuda_build": torch.version.cuda,
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.cuda.is_available() else []}))
"""
_RUNTIME_PROBE = """
import json, onnxruntime
print(json.dumps({"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    status : "ok", "optional" (not there, not needed), "warning", or "problem" (CellScribble cannot work)
    remedy : what to do; empty where nothing is to be done
    """

    name: str
    status: str
    found: str
    remedy: str = ""


def examine(folder: Path | None = None) -> Iterator[Check]:
    """Yield the checks in order; `folder` is where results would go, by default the current one."""
    folder = folder or Path.cwd()
    # Importing these two takes seconds, and a broken library can kill the process that loads it.
    torch, runtime = _start(_TORCH_PROBE), _start(_RUNTIME_PROBE)
    yield check_python(sys.version_info[:3])
    yield Check("cellscribble", OK, f"{__version__} in {Path(__file__).parent}")
    yield check_packages()
    yield check_imagecodecs()
    yield check_machine()
    yield check_memory(_memory_gb())
    yield check_folder(folder)
    yield check_disk(folder)
    yield check_torch(_version("torch"), _answer(torch))
    yield check_runtime([n for n in ("onnxruntime", "onnxruntime-gpu") if _version(n)], _answer(runtime))
    yield check_models()
    fiji = find_fiji()
    yield check_fiji(fiji)
    yield check_imagej(find_imagej_jar(fiji))
    yield check_cellprofiler(find_cellprofiler())


def check_python(version: tuple[int, ...]) -> Check:
    found = f"{'.'.join(map(str, version))} at {sys.executable}"
    if version[:2] < MIN_PYTHON:
        return Check("python", PROBLEM, found, "install Python 3.11 or newer and make a new environment with it")
    return Check("python", OK, found)


def check_packages() -> Check:
    versions = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if not version]
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if missing:
        return Check("packages", PROBLEM, f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Check("packages", OK, found)


def check_imagecodecs() -> Check:
    try:
        import imagecodecs
    except (ImportError, OSError) as error:
        return Check(
            "imagecodecs", PROBLEM, f"cannot be imported ({error})", "pip install --force-reinstall imagecodecs"
        )
    able = [name for name in CODECS if getattr(getattr(imagecodecs, name, None), "available", False)]
    missing = [name for name in CODECS if name not in able]
    found = f"{imagecodecs.__version__}: {', '.join(able)}"
    if missing:
        remedy = f"files packed with {', '.join(missing)} cannot be read; pip install -U imagecodecs"
        return Check("imagecodecs", WARNING, found, remedy)
    return Check("imagecodecs", OK, found)


def check_machine() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total = os.cpu_count() or usable
    text = f"{usable} of {total} cores usable, {platform.system()} {platform.machine()}"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) < usable:
        remedy = f"OMP_NUM_THREADS is {threads}, so training uses fewer cores than there are; unset it"
        return Check("cores", WARNING, text, remedy)
    return Check("cores", OK, text)


def check_memory(gigabytes: float | None) -> Check:
    if gigabytes is None:
        return Check("memory", OK, "size unknown on this system")
    found = f"{gigabytes:.1f} GB"
    if gigabytes < MIN_MEMORY_GB:
        return Check("memory", WARNING, found, "little: close other programs, and give predict a smaller --block")
    return Check("memory", OK, found)


def check_folder(folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        remedy = "go to a folder of your own, or give the commands an output with -o"
        return Check("this folder", WARNING, f"cannot write into {folder} ({error.strerror})", remedy)
    return Check("this folder", OK, f"{folder} can be written to")


def check_disk(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        return Check("disk", WARNING, f"free space unknown ({error.strerror})")
    if free < MIN_DISK_GB:
        return Check("disk", WARNING, f"{free:.1f} GB free", "free some space, or choose another disk with -o")
    return Check("disk", OK, f"{free:.1f} GB free")


def check_torch(version: str, answer: dict[str, object] | str) -> Check:
    """`answer` is what the probe printed, or why it did not."""
    remedy = "pip install --force-reinstall 'torch>=2.6,<2.14' (training needs it; predict does not)"
    if isinstance(answer, str):
        return Check("torch", PROBLEM, f"{version or 'not installed'}: {answer}", remedy)
    devices = answer["devices"]
    assert isinstance(devices, list)
    found = f"{version}, {answer['threads']} CPU threads, CUDA {', '.join(devices) or 'no'}"
    low, high = TORCH_RANGE
    if not low <= _numbers(version) < high:
        return Check("torch", WARNING, found, "outside the tested range; pip install 'torch>=2.6,<2.14'")
    if not devices and cuda_device_present():
        reason = "is built for the CPU" if not answer["cuda_build"] else "cannot use it with this driver"
        return Check("torch", WARNING, found, f"an NVIDIA device is there but torch {reason}; install a CUDA build")
    return Check("torch", OK, found)


def check_runtime(wheels: list[str], answer: dict[str, object] | str) -> Check:
    """`wheels` are the installed ones of the two that own the folder onnxruntime/."""
    best = (
        "onnxruntime-gpu" if platform.machine() in ("x86_64", "AMD64") and sys.platform != "darwin" else "onnxruntime"
    )
    again = f"pip uninstall -y onnxruntime onnxruntime-gpu, then pip install {best}"
    if isinstance(answer, str):
        return Check("onnxruntime", PROBLEM, f"{' and '.join(wheels) or 'not installed'}: {answer}", again)
    providers = answer["providers"]
    assert isinstance(providers, list)
    able = ", ".join(str(name).removesuffix("ExecutionProvider") for name in providers)
    found = f"{answer['version']} ({' and '.join(wheels) or 'no wheel of it'}), providers {able}"
    if len(wheels) > 1:
        remedy = f"the two wheels overwrite each other's files; {again}"
        return Check("onnxruntime", WARNING, found, remedy)
    if cuda_device_present() and CUDA not in providers:
        return Check("onnxruntime", WARNING, found, "an NVIDIA device is there but this build cannot use it; " + again)
    return Check("onnxruntime", OK, found)


def check_models() -> Check:
    names = ", ".join(shipped_models())
    return Check("models", OK, names) if names else Check("models", OPTIONAL, "none shipped with this version")


def check_fiji(place: Path | None) -> Check:
    if place is not None:
        commands = bridge.examine(place)
        again = f"cellscribble fiji-install {shlex.quote(str(place))}"
        if commands is None:
            remedy = f"for its menu Plugins > CellScribble: {again}"
            return Check("Fiji", OK, f"{place}, without CellScribble's commands", remedy)
        if not commands.current:
            remedy = f"they are of another version or call another Python: {again}"
            return Check("Fiji", WARNING, f"{place}, CellScribble's commands in {commands.folder}", remedy)
        return Check("Fiji", OK, f"{place}, with CellScribble's commands")
    remedy = (
        f"to draw strokes in it, install Fiji (fiji.sc); if it is installed, set {FIJI_VARIABLES[0]} to its folder"
    )
    return Check("Fiji", OPTIONAL, "not found", remedy)


def check_imagej(jar: Path | None) -> Check:
    if jar is not None:
        return Check("ImageJ", OK, str(jar))
    return Check("ImageJ", OPTIONAL, "no ij.jar found", "comes with Fiji; on Debian also as the package imagej")


def check_cellprofiler(place: Path | None) -> Check:
    if place is not None:
        return Check("CellProfiler", OK, f"{place}; the folder of our plugin for it is {find_plugin('cellprofiler')}")
    return Check("CellProfiler", OPTIONAL, "not found", "to measure the objects in it, install it (cellprofiler.org)")


def find_plugin(name: str) -> Path | None:
    """The folder of a plugin that comes with CellScribble, installed or in the source."""
    package = Path(__file__).parent
    places = (package / "plugins" / name, package.parent / "plugins" / name)
    return next((place for place in places if place.is_dir()), None)


def find_cellprofiler() -> Path | None:
    """The program, or its package in this environment."""
    program = shutil.which("cellprofiler")
    if program:
        return Path(program)
    fixed = (Path("/Applications/CellProfiler.app"), Path("C:/Program Files/CellProfiler/CellProfiler.exe"))
    found = next((p for p in fixed if p.exists()), None)
    spec = util.find_spec("cellprofiler")
    return found or (Path(spec.origin) if spec and spec.origin else None)


def _start(code: str) -> subprocess.Popen[str]:
    # -P: a file json.py or torch.py in the user's folder must not be taken for the library.
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def _answer(probe: subprocess.Popen[str]) -> dict[str, object] | str:
    """What a probe found, or in words why it failed."""
    try:
        out, err = probe.communicate(timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return f"did not load within {PROBE_TIMEOUT_S:.0f} s"
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if probe.returncode == 0 and lines:
        answer: dict[str, object] = json.loads(lines[-1])
        return answer
    last = (err.strip().splitlines() or [f"ended with code {probe.returncode}"])[-1]
    return f"cannot be imported ({last})"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """ "2.13.0+cpu" -> (2, 13)."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _memory_gb() -> float | None:
    """Memory of the machine, or what the container may use of it, in GB."""
    sizes = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file():
        text = limit.read_text().strip()
        sizes += [int(text)] if text.isdecimal() else []
    return min(sizes) / 1e9 if sizes else None
