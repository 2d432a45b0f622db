"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def processor() -> str:
    """Cores and processor."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"(?m)^model name\s*: (.*)$", info.read_text(encoding="utf-8")) if info.exists() else None
    return f"{os.cpu_count()} cores of {found[1] if found else platform.processor() or platform.machine()}"


def machine(device: str) -> str:
    """Processor or graphics card, and the version of torch."""
    import torch  # late: what measures other things must not wait for it

    use_cuda = device != "cpu" and torch.cuda.is_available()
    return f"{torch.cuda.get_device_name() if use_cuda else processor()}, torch {torch.__version__}"
