"""``gpu-policy priority``: rows, their order, and the JSON that scripts rely on."""

from __future__ import annotations

TERMS = "site age association fair_share job_size partition qos nice tres".split()  # noqa: SIM905


def fill(submit):
    submit(gpus=8, nodes=2)
    return submit(gpus=1), submit(gpus=2, nice="70", partition="gpu,interactive")


def test_the_json_has_every_term_of_every_place(gpu_policy, submit):
    first, second = fill(submit)
    found = gpu_policy("priority", "--json").json
    assert [(one["job_id"], one["partition"], one["qos"]) for one in found] == [
        (int(first), "gpu", "normal"),
        (int(second), "gpu", "normal"),
        (int(second), "interactive", "normal"),
    ]
    for one in found:
        assert set(one) == {"job_id", "partition", "qos", "priority", "terms"}
        assert list(one["terms"]) == TERMS
    assert [one["terms"]["nice"] for one in found] == [0, 70, 70]
    assert found[0]["priority"] == found[1]["priority"] + 70
    assert found[0]["terms"]["qos"] == 600.0  # 10 of 100, by 6000


def test_the_table_says_what_each_priority_is_made_of(gpu_policy, submit):
    fill(submit)
    lines = gpu_policy("priority").out.splitlines()
    assert lines[0].split()[:6] == ["JOB", "USER", "PARTITION", "QOS", "PRIORITY", "FAIR"]
    assert lines[2].split()[-1] == "-70"
    assert lines[-1] == "2 jobs have a priority"


def test_some_jobs_only(gpu_policy, submit):
    _, second = fill(submit)
    found = gpu_policy("priority", second, "--json").json
    assert {one["job_id"] for one in found} == {int(second)}
    assert gpu_policy("priority", second).out.splitlines()[-1] == "1 job has a priority"


def test_a_job_without_a_priority_is_an_error_with_the_reason(gpu_policy, submit, slurm):
    first, _ = fill(submit)
    slurm.hold(first)
    for name in (first, "4711", "\x1b[2J"):
        result = gpu_policy("priority", name)
        assert result.code == 1
        assert "has no priority" in result.err
        assert "\x1b" not in result.err


def test_without_waiting_jobs_there_is_nothing(gpu_policy):
    assert gpu_policy("priority", "--json").json == []
    assert gpu_policy("priority").out == "0 jobs have a priority\n"
