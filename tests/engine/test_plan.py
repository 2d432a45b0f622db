"""Blocks, blocks at once and threads: within the limit by the model, and sensible."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import InputError
from cellscribble.engine.costs import BYTES_PER_BLOCK, MOST_CUT_BYTES, Costs, CutBytes, Work, peak_bytes
from cellscribble.engine.memory import parse_bytes
from cellscribble.engine.plan import make_plan, usual_plan
from cellscribble.infer.blockwise import DEFAULT_BLOCK_PX, PLANES_BLOCK_PX

MIB = 2**20
NOTHING = CutBytes(0, 0)
COSTS = Costs(held_bytes=120 * MIB, reached_bytes=0, network_bytes=250.0, network_s=4e-7)


def work(shape, halo=61, multiple=16, cut_halo=52, **changes):
    ndim = len(shape)
    values = {
        "shape": shape,
        "halo_px": (halo,) * ndim,
        "multiple": (multiple,) * ndim,
        "cut_halo_px": None if cut_halo is None else (cut_halo,) * ndim,
        "read_bytes": 30,
        "chunk_bytes": 2**18,
        "fit_bytes": 48 * MIB,
        "n_stored": 0,
    }
    return Work(**(values | changes))


works = st.one_of(
    st.builds(
        work,
        st.tuples(st.integers(1, 60_000), st.integers(1, 60_000)),
        halo=st.integers(0, 120),
        multiple=st.sampled_from([1, 2, 7, 16, 32]),
        cut_halo=st.one_of(st.none(), st.integers(2, 200)),
        n_stored=st.sampled_from([0, 2, 4]),
    ),
    st.builds(
        work,
        st.tuples(st.integers(1, 2000), st.integers(1, 3000), st.integers(1, 3000)),
        halo=st.integers(0, 60),
        multiple=st.sampled_from([1, 4, 8, 16]),
        cut_halo=st.one_of(st.none(), st.integers(2, 80)),
    ),
)
cores = st.integers(1, 64)


@given(works, cores, st.integers(0, 8000))
def test_a_plan_is_within_its_limit_on_the_stride_and_no_smaller_than_its_halo(work, n_cores, limit_mib):
    try:
        plan = make_plan(work, COSTS, limit_mib * MIB, n_cores)
    except InputError as error:
        # What is named as enough is enough.
        least = parse_bytes(re.search("give at least (.+?)(,|$)", str(error))[1])
        assert least > limit_mib * MIB
        assert make_plan(work, COSTS, least, n_cores).most_bytes <= least
        return
    assert plan.usual_bytes <= plan.most_bytes <= limit_mib * MIB
    assert plan.n_networks * plan.threads <= n_cores
    for block, n, multiple, halo in zip(plan.block_px, work.shape, work.multiple, work.halo_px, strict=True):
        assert block % multiple == 0
        assert block < n + multiple
        assert block >= min(halo, n)


@given(works, cores, st.integers(300, 4000))
def test_more_memory_is_never_slower(work, n_cores, limit_mib):
    seconds = []
    for limit in (limit_mib * MIB, 2 * limit_mib * MIB, 100 * limit_mib * MIB):
        try:
            seconds.append(make_plan(work, COSTS, limit, n_cores).seconds)
        except InputError:
            assert not seconds
    assert seconds == sorted(seconds, reverse=True)


@given(works, st.integers(1, 8))
def test_memory_rises_with_the_block_the_blocks_at_once_and_the_network(work, n):
    small, large = (tuple(b * k for b in work.multiple) for k in (32, 64))
    least = peak_bytes(work, COSTS, small, n, MOST_CUT_BYTES)
    assert least >= COSTS.held_bytes
    # There are more of the small ones, each with its line in the tables.
    tables = len(BlockGrid(work.shape, small)) * BYTES_PER_BLOCK
    assert peak_bytes(work, COSTS, large, n, MOST_CUT_BYTES) + tables >= least
    assert peak_bytes(work, COSTS, small, n + 1, MOST_CUT_BYTES) >= least
    dear = Costs(COSTS.held_bytes, 0, 2 * COSTS.network_bytes, COSTS.network_s)
    assert peak_bytes(work, dear, small, n, MOST_CUT_BYTES) >= least


@given(works, st.integers(2, 64), st.integers(2, 8))
def test_workers_share_the_cores_and_the_limit(work, n_cores, n_workers):
    with pytest.raises(InputError, match=f"{n_workers} workers") as refused:
        make_plan(work, COSTS, MIB, n_cores, n_workers=n_workers)
    limit = parse_bytes(re.search("give at least (.+?)(,|$)", str(refused.value))[1])
    plan = make_plan(work, COSTS, limit, n_cores, n_workers=n_workers)
    assert plan.most_bytes <= limit
    assert plan.n_networks * plan.threads <= max(1, n_cores // n_workers)
    each = peak_bytes(work, COSTS, plan.block_px, plan.n_networks, MOST_CUT_BYTES)
    # A worker fits nothing, and the tables of all blocks are where the run is driven.
    tables = len(BlockGrid(work.shape, plan.block_px)) * BYTES_PER_BLOCK
    assert plan.most_bytes >= n_workers * (each - work.fit_bytes - tables)


def test_of_planes_that_are_seen_one_by_one_the_network_takes_one():
    stack = replace(work((64, 2000, 2000)), halo_px=(0, 61, 61), multiple=(1, 16, 16))
    planes = replace(stack, by_planes=True)
    block, dear = (32, 384, 384), replace(COSTS, network_bytes=2 * COSTS.network_bytes)
    more = [peak_bytes(w, dear, block, 1, NOTHING) - peak_bytes(w, COSTS, block, 1, NOTHING) for w in (stack, planes)]
    assert more[0] == pytest.approx(32 * more[1], rel=1e-3)
    plan = usual_plan(planes, COSTS, 64_000 * MIB, 4, None)
    assert plan.seconds <= usual_plan(planes, COSTS, 64_000 * MIB, 4, PLANES_BLOCK_PX).seconds


def test_with_memory_enough_a_slide_is_cut_as_ever():
    plan = usual_plan(work((60_000, 80_000)), COSTS, 64_000 * MIB, 4, None)
    assert plan.block_px == DEFAULT_BLOCK_PX[2] == (1024, 1024)
    assert (plan.n_networks, plan.threads) == (4, 1)


def test_one_block_has_all_cores():
    plan = usual_plan(work((900, 1000)), COSTS, 64_000 * MIB, 4, (1024,))
    assert (plan.block_px, plan.n_networks, plan.threads) == ((912, 1008), 1, 4)


def test_without_a_limit_half_of_what_is_free_is_taken():
    for available in (800 * MIB, 1600 * MIB, 3200 * MIB):
        plan = usual_plan(work((60_000, 80_000)), COSTS, available, 8, None)
        assert plan.usual_bytes - COSTS.held_bytes <= available // 2
        assert math.prod(plan.block_px) * plan.n_networks < 8 * 1024**2
    # What there is may be too little: then it is tried with the least.
    least = usual_plan(work((60_000, 80_000)), COSTS, 10 * MIB, 8, None)
    assert least.n_networks == 1
    assert least.block_px[0] < 256


def test_in_3d_many_cores_do_not_mean_many_gigabytes():
    # 40 planes a stack, a network that looks 30 px far, and 16 cores with 16 GiB.
    thin = work((40, 4000, 4000), halo=30, multiple=8, cut_halo=20)
    plan = usual_plan(thin, COSTS, 16_384 * MIB, 16, None)
    assert plan.usual_bytes < 8_400 * MIB
    assert plan.block_px[0] == 40
    assert math.prod(plan.block_px) <= math.prod(DEFAULT_BLOCK_PX[3])


def test_a_block_that_was_asked_for_is_kept_and_fewer_are_done_at_once():
    slide = work((60_000, 80_000))
    plans = [make_plan(slide, COSTS, limit * MIB, 8, (512,)) for limit in (8000, 700, 520)]
    assert [plan.block_px for plan in plans] == [(512, 512)] * 3
    at_once = [plan.n_networks for plan in plans]
    assert at_once[0] == 8 > at_once[1] > at_once[2] >= 1
    with pytest.raises(InputError, match=r"blocks of 512 px.*give at least \d+ MB, or a smaller --block"):
        make_plan(slide, COSTS, 200 * MIB, 8, (512,))


def test_what_was_held_once_counts():
    reached = Costs(COSTS.held_bytes, 3000 * MIB, COSTS.network_bytes, COSTS.network_s)
    with pytest.raises(InputError, match=r"give at least 3\.\d GB"):
        make_plan(work((4096, 4096)), reached, 2000 * MIB, 2)


def test_blocks_are_read_ahead_where_memory_suffices_and_further_where_they_are_waited_for():
    image = work((60_000, 80_000))
    plan = usual_plan(image, COSTS, 64_000 * MIB, 4, None)
    assert (plan.n_networks, plan.n_writers, plan.n_ahead) == (4, 5, 4)
    assert usual_plan(replace(image, far=True), COSTS, 64_000 * MIB, 4, None).n_ahead == 16
    # Blocks of this size, one at a time, and nothing more.
    least = peak_bytes(image, COSTS, (512, 512), 1, MOST_CUT_BYTES)
    for tight in (image, replace(image, far=True)):
        plan = make_plan(tight, COSTS, least, 4, (512,))
        assert (plan.n_networks, plan.n_ahead) == (1, 0)
    # A device leaves the cores to those who read and write.
    device = usual_plan(image, COSTS, 64_000 * MIB, 8, None, n_most=2)
    assert (device.n_networks, device.n_writers, device.n_ahead) == (2, 9, 8)
    # Workers read for themselves, and do one step more than they have blocks in the network, on a device too.
    assert usual_plan(image, COSTS, 64_000 * MIB, 4, None, n_workers=2).n_ahead == 0
    shared = usual_plan(image, COSTS, 64_000 * MIB, 8, None, n_most=2, n_workers=2)
    assert (shared.n_networks, shared.n_writers, shared.n_ahead) == (2, 3, 0)
    assert shared.most_bytes == peak_bytes(image, COSTS, shared.block_px, 2, MOST_CUT_BYTES, 2)


def test_an_image_in_one_chunk_needs_room_for_it():
    many = make_plan(work((20_000, 20_000)), COSTS, 4000 * MIB, 4)
    one = make_plan(work((20_000, 20_000), chunk_bytes=400 * MIB), COSTS, 4000 * MIB, 4)
    assert one.n_networks < many.n_networks
