"""What memory there is, as the system tells it, and sizes as people type them."""

import mmap

import numpy as np
import pytest

from cellscribble.core.errors import InputError
from cellscribble.engine.memory import available_bytes, format_bytes, parse_bytes, resident

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("2GB", 2 * 10**9),
        ("2g", 2 * 10**9),
        ("1.5 G", 1_500_000_000),
        ("800M", 8 * 10**8),
        ("512MiB", 512 * 2**20),
        ("64 KiB", 2**16),
        ("1T", 10**12),
        ("123456789", 123456789),
        ("500 B", 500),
    ],
)
def test_sizes_as_people_type_them(text, n):
    assert parse_bytes(text) == n


@pytest.mark.parametrize("text", ["", "GB", "-2GB", "2 GBB", "2iB", "two", "0", "0.0GB", "1e9"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="give for example 2GB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("n", "text"), [(12, "12 bytes"), (870e6, "870 MB"), (999.7e6, "1 GB"), (1.444e9, "1.44 GB"), (2e15, "2000 TB")]
)
def test_sizes_in_words(n, text):
    assert format_bytes(n) == text


def test_what_this_process_holds_grows_with_what_it_holds():
    before = resident()
    # Not from the allocator, which may have kept that much of what others have freed.
    held = mmap.mmap(-1, 50_000_000)
    np.frombuffer(held, np.uint8)[:] = 1
    after = resident()
    assert after.now - before.now > 40_000_000
    assert after.peak >= after.now


def machine(root, cgroup, files):
    """A system with 16 GiB available of which the kernel tells under `root`."""
    files |= {"proc/meminfo": "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n", "proc/self/cgroup": cgroup}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))
    return available_bytes(root)


def test_without_a_limit_it_is_what_the_machine_has(tmp_path):
    assert machine(tmp_path, "0::/\n", {"sys/fs/cgroup/memory.max": "max\n"}) == 16 * GIB


def test_a_batch_job_has_what_its_group_leaves_even_far_above_it(tmp_path):
    group = "sys/fs/cgroup/slurm/job_7"
    left = machine(
        tmp_path,
        "0::/slurm/job_7/step_0\n",
        {
            f"{group}/memory.max": 4 * GIB,
            f"{group}/memory.current": 3 * GIB,
            # A gibibyte of it is files that were read once and give way.
            f"{group}/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            f"{group}/step_0/memory.max": "max",
        },
    )
    assert left == 2 * GIB


def test_a_container_of_the_first_version_is_heard_too(tmp_path):
    left = machine(
        tmp_path,
        "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n",
        {
            # Inside of a container its own group is the top.
            "sys/fs/cgroup/memory/memory.limit_in_bytes": GIB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB // 4,
        },
    )
    assert left == 3 * GIB // 4


def test_no_limit_in_the_first_version_is_a_huge_number(tmp_path):
    left = machine(
        tmp_path,
        "4:memory:/\n",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB,
        },
    )
    assert left == 16 * GIB
