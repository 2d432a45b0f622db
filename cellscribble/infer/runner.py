"""One ONNX Runtime session that turns a normalised block into probability.

ONNX Runtime falls back to the CPU without a word in its return values but with loud lines on
stderr where CUDA libraries are missing. So CUDA is asked for only when it is wanted, and what the
session really uses is read back.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import INT8, TRIM, Model, ModelMetadata
from cellscribble.core.blocks import Slices
from cellscribble.core.errors import InputError, MissingExtraError, ModelError
from cellscribble.infer.planes import sees_planes

DEVICES = ("auto", "cpu", "cuda")
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

CUDA_REMEDY = (
    'install NVIDIA\'s driver and "onnxruntime-gpu[cuda,cudnn]", and remove plain onnxruntime; '
    "'cellscribble doctor' says what is found; or use --device cpu"
)


class Runner:
    """A loaded network; call it with blocks.

    Parameters
    ----------
    model : the model file
    device : {"auto", "cpu", "cuda"}
        "auto" takes a CUDA device where there is one and it works, else the CPU.
    threads : CPU threads; None for as many as this process may use

    Attributes
    ----------
    provider : "CUDAExecutionProvider" or "CPUExecutionProvider": what really runs.
    note : why the CPU runs although a CUDA device is there, or that the model is made for the CPU; else empty.

    Raises
    ------
    InputError
        If the device has another name, or "cuda" was asked for and does not work.
    MissingExtraError
        If ONNX Runtime is not installed.
    ModelError
        If ONNX Runtime cannot load the network, or it has other inputs and outputs than promised.
    """

    def __init__(self, model: Model, device: str = "auto", threads: int | None = None) -> None:
        if device not in DEVICES:
            raise InputError(f"device is {device!r}; expected one of {', '.join(DEVICES)}")
        self._ort = _import_onnxruntime()
        self._model, self._threads = model, threads or usable_cores()
        self.metadata = model.metadata
        self.note = ""
        wanted = wants_cuda(device)
        self._session = self._open(model.path, cuda=wanted)
        self.provider = str(self._session.get_providers()[0])
        if wanted and self.provider != CUDA:
            if device == "cuda":
                raise InputError(f"CUDA was asked for but ONNX Runtime cannot use it: {CUDA_REMEDY}")
            self.note = f"a CUDA device is there but ONNX Runtime cannot use it, so the CPU runs: {CUDA_REMEDY}"
        elif self.provider == CUDA and model.metadata.precision == INT8:
            self.note = "int8 models are made for processors; on a CUDA device take the float model"
        self._check_contract(model)

    def seen_as(self, metadata: ModelMetadata) -> Runner:
        """The same session for an image that sees the model so (`fit.Fit.metadata`)."""
        other = copy.copy(self)
        other.metadata = metadata
        return other

    def with_threads(self, threads: int) -> Runner:
        """The same network on so many CPU threads, for several blocks at once; itself on a CUDA device.

        Raises
        ------
        ModelError
            If the file is no longer there.
        """
        if self.provider != CPU or threads == self._threads:
            return self
        return Runner(self._model, "cpu", threads)

    @property
    def by_planes(self) -> bool:
        """Whether this is a 2D network that is asked about one plane of a block after the other."""
        return self._rank == self.metadata.ndim + 1

    def __call__(self, block: npt.NDArray[np.float32], keep: Slices | None = None) -> npt.NDArray[np.float32]:
        """Probability (K, *spatial) float32 of a normalised block (C, *spatial) float32.

        A 2D network that is seen as one of stacks is asked plane by plane.

        Parameters
        ----------
        keep : the part of the block that is wanted, as in `core.blocks.Block`; None for all of it. What only serves to
            see is not computed further than it has to be

        Raises
        ------
        ModelError
            If the network fails on this block; most often memory does not suffice.
        """
        keep = keep or tuple(slice(0, n) for n in block.shape[1:])
        if self.by_planes:
            planes = block[:, keep[0]]
            out = np.empty((len(self.metadata.classes), *(s.stop - s.start for s in keep)), np.float32)
            for z in range(planes.shape[1]):
                out[:, z] = self._ask(planes[:, z], keep[1:])
            return out
        return self._ask(block, keep)

    def _ask(self, block: npt.NDArray[np.float32], keep: Slices) -> npt.NDArray[np.float32]:
        batch = np.ascontiguousarray(block[np.newaxis], dtype=np.float32)
        sides = self._sides(block, keep)
        left_out = sides * self._halo_px[:, np.newaxis]
        expected = (len(self.metadata.classes), *(np.array(block.shape[1:]) - left_out.sum(axis=1)))
        try:
            (probability,) = self._session.run(
                ["probability"], {"image": batch, **({TRIM: sides} if sides.any() else {})}
            )
        except self._failures() as error:
            raise ModelError(
                f"the network failed on a block of {block.shape[1:]} px ({_first_line(error)}); "
                "if memory is short, use a smaller --block"
            ) from error
        out: npt.NDArray[np.float32] = probability[0]
        if out.shape != expected:
            raise ModelError(
                f"the network answered {out.shape} to a block {block.shape}; expected "
                f"{tuple(map(int, expected))}: export the model again"
            )
        wanted = (slice(s.start - n, s.stop - n) for s, n in zip(keep, left_out[:, 0].tolist(), strict=True))
        return out[(slice(None), *wanted)]

    def _sides(self, block: npt.NDArray[np.float32], keep: Slices) -> npt.NDArray[np.int64]:
        """On which sides of a block its halo lies, as the network's `trim`."""
        if not self._trims:
            return np.zeros((len(keep), 2), np.int64)
        around = np.array([(s.start, n - s.stop) for s, n in zip(keep, block.shape[1:], strict=True)])
        return (around >= self._halo_px[:, np.newaxis]).astype(np.int64)

    def _open(self, path: Path, *, cuda: bool) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        # ONNX Runtime's own default counts the machine's cores, also where a cluster gave us few.
        options.intra_op_num_threads = self._threads
        # With it each run asks for one large piece of memory, whose pages the system clears anew: a quarter slower.
        options.enable_mem_pattern = False
        providers: list[Any] = [CPU]
        if cuda and CUDA in self._ort.get_available_providers():
            providers = [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC"}), CPU]
        try:
            with _quiet(self._ort, active=len(providers) > 1):
                session = self._ort.InferenceSession(str(path), options, providers=providers)
            # A device that fails in the middle ends the run: ONNX Runtime would say so on stdout and go on on the CPU.
            session.disable_fallback()
            return session
        except self._failures() as error:
            raise ModelError(
                f"ONNX Runtime {self._ort.__version__} cannot load {path} ({_first_line(error)}); "
                "copy the model again, or export it with 'cellscribble export'"
            ) from None

    def _check_contract(self, model: Model) -> None:
        inputs = {i.name: i.shape for i in self._session.get_inputs()}
        outputs = {o.name: o.shape for o in self._session.get_outputs()}
        self._rank = len(inputs.get("image", ()))
        self._trims = any(i.name == TRIM for i in self._session.get_overridable_initializers())
        self._halo_px = np.array(model.metadata.read_halo_px[-(self._rank - 2) :])
        rank = model.metadata.ndim + 2
        allowed = (rank, rank - 1) if sees_planes(model.metadata) else (rank,)
        if self._rank not in allowed or len(outputs.get("probability", ())) != self._rank:
            raise ModelError(
                f"{model.path} has inputs {inputs} and outputs {outputs}; expected 'image' and 'probability' "
                f"of {rank} axes (N, {', '.join(model.metadata.axes)}): export the model again"
            )

    def _failures(self) -> tuple[type[Exception], ...]:
        # Its exceptions share no base but Exception, and their list grows from release to release.
        state = vars(self._ort.capi.onnxruntime_pybind11_state).values()
        kinds = [kind for kind in state if isinstance(kind, type) and issubclass(kind, Exception)]
        return (*kinds, RuntimeError, ValueError)


def wants_cuda(device: str) -> bool:
    """Whether CUDA is to be tried, of the names in `DEVICES`."""
    return device == "cuda" or (device == "auto" and cuda_device_present())


def cuda_device_present() -> bool:
    """Whether a CUDA device can be seen, by its device files alone: no library is loaded."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").is_file()
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"))


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"ONNX Runtime cannot be imported ({error}); run: pip install --force-reinstall onnxruntime-gpu "
            "(onnxruntime on a Mac or ARM); removing one of the two wheels breaks the other"
        ) from None
    return onnxruntime


@contextlib.contextmanager
def _quiet(ort: Any, *, active: bool) -> Iterator[None]:
    """Load CUDA's libraries from pip's wheels where they are, without the lines printed about it."""
    if not active:
        yield
        return
    ort.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()
            yield
    finally:
        ort.set_default_logger_severity(2)


def usable_cores() -> int:
    """The processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
