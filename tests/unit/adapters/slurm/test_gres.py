from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.slurm.gres import Gres, gpus, gpus_in_tres, gpus_requested

TYPES = st.sampled_from(["", "h100", "1g.10gb", "nvidia_a100_1g.5gb", "a100-sxm4", "3090"])


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("gpu:h100:8", [Gres("h100", 8)]),
        ("gpu:h100:8(S:0-1)", [Gres("h100", 8)]),
        ("gpu:h100:3(IDX:0,2-3)", [Gres("h100", 3, (0, 2, 3))]),
        ("gpu:h100:16(IDX:0-15)", [Gres("h100", 16, tuple(range(16)))]),
        ("gpu:(null):2(IDX:0-1)", [Gres("", 2, (0, 1))]),
        ("gpu:0(IDX:N/A)", [Gres("", 0)]),
        ("gpu:8", [Gres("", 8)]),
        ("gpu", [Gres("", 1)]),
        ("gpu:a100", [Gres("a100", 1)]),
        ("gpu:3090:2", [Gres("3090", 2)]),
        ("gres:gpu:h100:2", [Gres("h100", 2)]),
        ("gres/gpu:h100:2", [Gres("h100", 2)]),
        ("gres/gpu:h100=2", [Gres("h100", 2)]),
        ("cpu=2,gres/gpu:h100=1", [Gres("h100", 1)]),
        ("gpu:1g.10gb:2", [Gres("1g.10gb", 2)]),
        ("gpu:nvidia_a100_1g.5gb:3(S:0)", [Gres("nvidia_a100_1g.5gb", 3)]),
        ("gpu:h100:2(IDX:0-1),gpu:a100:1(IDX:4)", [Gres("h100", 2, (0, 1)), Gres("a100", 1, (4,))]),
        ("gpu:h100:8(S:0-1),shard:h100:32(S:0-1)", [Gres("h100", 8)]),
        ("shard:4(0/0,2/4,2/4,0/4)", []),
        ("shard:h100:4(0/0,2/4),gpu:h100:1(IDX:0)", [Gres("h100", 1, (0,))]),
        ("gpumem:80,mps:100,license:x:1", []),
        ("(null)", []),
        ("N/A", []),
        ("", []),
    ],
)
def test_gpus_are_found_in_every_notation(text, entries):
    assert list(gpus(text)) == entries


@given(st.lists(st.tuples(TYPES, st.integers(1, 999), st.booleans()), max_size=4))
def test_any_list_with_other_resources_between_is_read_back(entries):
    text = ",".join(
        f"gpu{':' if kind else ''}{kind}:{number}"
        + (f"(IDX:0-{number - 1}),shard:2(0/1,1/1)" if indexed else "(S:0-1)")
        for kind, number, indexed in entries
    )
    assert [(one.kind, one.number, len(one.indexes)) for one in gpus(text)] == [
        (kind, number, number if indexed else 0) for kind, number, indexed in entries
    ]


@given(st.text(alphabet="gpu:h10()IDX,-/=resS."))
def test_no_text_breaks_it_with_anything_but_a_value_error(text):
    try:
        gpus("gpu:" + text)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cpu=1,gres/gpu=4,gres/gpu:h100=4", (4, "h100")),
        ("cpu=1,gres/gpu=4", (4, "")),
        ("gres/gpu:h100=2,gres/gpu:a100=1,gres/gpu=3", (3, "")),
        ("gres/gpu:h100=2", (2, "h100")),
        ("gres/gpumem=80,gres/gpuutil=5,cpu=1", (0, "")),
        ("gres/gpu=4,gres/gpu:h100=4,gres/gpu:a100=0", (4, "h100")),
        ("N/A", (0, "")),
    ],
)
def test_typed_and_untyped_tres_are_the_same_gpus(text, found):
    assert gpus_in_tres(text) == found


@pytest.mark.parametrize(
    ("asked", "nodes", "tasks", "found"),
    [
        (("gres:gpu:h100:8", "N/A", "N/A", "N/A"), 2, 1, (8, "h100")),
        (("N/A", "gres/gpu:2", "N/A", "N/A"), 3, 1, (6, "")),
        (("N/A", "N/A", "N/A", "gres/gpu:h100=1"), 1, 4, (4, "h100")),
        (("N/A", "N/A", "gres:gpu:1", "N/A"), 2, 2, (2, "")),
        (("N/A", "N/A", "N/A", "cpu=3"), 1, 1, (0, "")),
        (("N/A", "gres:gpu:h100:1,gres:gpu:a100:1", "N/A", "N/A"), 1, 1, (2, "")),
    ],
)
def test_requests_are_counted_for_the_whole_job(asked, nodes, tasks, found):
    assert gpus_requested(asked, nodes, tasks) == found
