"""ReadPort, held to its docstrings on every backend."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.errors import JobNotFound, SlurmUnavailable
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.snapshot import Part

HOSTILE = (
    "a|b \x1f\x1e c\n   UserId=root(0)\n"
    "     Nodes=gpu02 CPU_IDs=0 Mem=1 GRES=gpu:h100:8(IDX:0-7)\né=✓"
)


def test_the_nodes_have_eight_h100_each(cluster):
    nodes = {node.name: node for node in cluster.slurm.read(Part.NODES).nodes}
    assert set(nodes) == {"gpu01", "gpu02", "cpu01"}
    for name in ("gpu01", "gpu02"):
        assert [(gpus.type, gpus.total) for gpus in nodes[name].gpus] == [("h100", 8)]
        assert nodes[name].partitions == ("gpu", "interactive")
        assert "h100" in nodes[name].features
        assert nodes[name].memory_mb == 1_000_000
    assert nodes["cpu01"].gpus == ()
    assert nodes["cpu01"].cpus == 64


def test_partitions_tell_nodes_limits_and_default(cluster):
    found = {one.name: one for one in cluster.slurm.read(Part.PARTITIONS).partitions}
    assert set(found) == {"gpu", "interactive", "cpu"}
    assert found["gpu"].default
    assert not found["cpu"].default
    assert found["gpu"].nodes == ("gpu01", "gpu02")
    assert found["gpu"].max_time_seconds == 7 * 86400
    assert found["interactive"].max_time_seconds == 8 * 3600
    assert found["gpu"].default_time_seconds == 3600
    assert found["gpu"].max_nodes is None
    assert found["gpu"].allow_accounts == frozenset()
    assert found["gpu"].billing_weights["GRES/gpu"] == "8.0"
    assert found["interactive"].priority_tier == 2


def test_associations_are_the_account_tree_with_its_shares(cluster):
    found = cluster.slurm.read(Part.ASSOCIATIONS, Part.SHARES).associations
    by_place = {(one.account, one.user): one for one in found}
    assert by_place["nlp-pretrain", ""].parent == "nlp"
    assert by_place["nlp", ""].raw_shares == 60
    assert by_place["nlp-pretrain", "u1"].raw_shares == 10
    assert by_place["nlp-pretrain", "u1"].is_default
    assert not by_place["vision", "u1"].is_default
    assert "high" in by_place["nlp-pretrain", "u1"].qos
    assert "high" not in by_place["vision-seg-medical", "u4"].qos
    assert by_place["nlp-pretrain", "u1"].default_qos == "normal"


def test_associations_of_one_user_are_theirs_and_the_accounts_above_them(cluster):
    found = cluster.slurm.read(Part.ASSOCIATIONS, user="u1").associations
    mine = {one.account for one in found if one.user}
    assert mine == {"nlp-pretrain", "nlp-finetune", "vision"}
    assert {one.user for one in found} == {"u1", ""}
    above = {one.account: one.parent for one in found if not one.user}
    assert above == {
        "nlp-pretrain": "nlp",
        "nlp-finetune": "nlp",
        "vision": "root",
        "nlp": "root",
        "root": "",
    }
    assert len(found) == len(mine) + len(above)
    assert [one.account for one in found if one.is_default] == ["nlp-pretrain"]


def test_a_user_without_an_account_has_no_associations(cluster):
    assert cluster.slurm.read(Part.ASSOCIATIONS, user="nobody").associations == ()


def test_qos_have_their_limits_in_plain_numbers(cluster):
    found = {one.name: one for one in cluster.slurm.read(Part.QOS).qos}
    assert found["debug"].max_wall_seconds == 1800
    assert dict(found["debug"].max_tres_per_user) == {"gres/gpu": 2}
    assert found["debug"].flags == {"DenyOnLimit"}
    assert found["high"].preempts == {"low"}
    assert found["high"].priority == 100
    assert found["normal"].max_wall_seconds is None


def test_the_settings_name_cluster_and_release(cluster):
    config = cluster.slurm.read(Part.CONFIG).config
    assert config.name
    assert config.release >= (22, 5)
    assert config.settings["PriorityType"] == "priority/multifactor"


def test_parts_that_were_not_asked_for_are_empty(cluster):
    snapshot = cluster.slurm.read(Part.CONFIG)
    assert snapshot.nodes == snapshot.jobs == snapshot.partitions == snapshot.qos == ()
    assert cluster.slurm.read().config is None


def test_all_parts_can_be_read_together(cluster):
    cluster.submit(gpus="h100:1")
    snapshot = cluster.slurm.read(*Part)
    assert snapshot.jobs
    assert snapshot.nodes
    assert snapshot.associations
    assert snapshot.unknown_states == 0


def test_a_snapshot_has_the_time_it_was_taken(cluster):
    now = SystemClock().now() if cluster.is_real else cluster.clock.now()
    assert abs(cluster.slurm.read(Part.CONFIG).time - now) <= 2


def test_a_gpu_job_tells_count_type_place_and_indexes(cluster):
    job_id = cluster.submit(gres="gpu:h100:3", cpus_per_task="2", account="nlp-pretrain")
    job = cluster.running(job_id)
    assert (job.gpus, job.gpu_type, job.nodes, job.cpus) == (3, "h100", 1, 2)
    assert job.memory_mb == 16000
    assert (job.user, job.account, job.qos) == ("u1", "nlp-pretrain", "normal")
    assert job.partitions == ("gpu",)
    assert job.time_limit_seconds == 600
    detail = cluster.slurm.job(str(job_id))
    (held,) = detail.allocations
    assert held.node == job.node_list
    assert held.gpu_type == "h100"
    assert len(held.gpu_indexes) == len(set(held.gpu_indexes)) == 3
    assert set(held.gpu_indexes) <= set(range(8))
    node = next(n for n in cluster.slurm.read(Part.NODES).nodes if n.name == job.node_list)
    assert node.gpus[0].used >= 3
    assert job.job_id in {one.job_id for one in cluster.slurm.read(Part.JOBS).jobs}


def test_a_job_on_two_nodes_has_indexes_on_each(cluster):
    job_id = cluster.submit(gres="gpu:h100:1", nodes="2")
    job = cluster.running(job_id)
    assert (job.gpus, job.nodes) == (2, 2)
    allocations = cluster.slurm.job(str(job_id)).allocations
    assert sorted(held.node for held in allocations) == ["gpu01", "gpu02"]
    assert all(len(held.gpu_indexes) == 1 for held in allocations)
    assert cluster.slurm.allocations()[job_id] == allocations
    assert cluster.slurm.allocations([str(job_id)]) == {job_id: allocations}


def test_a_job_without_gpus_holds_a_node_and_no_index(cluster):
    job_id = cluster.submit(partition="cpu")
    job = cluster.running(job_id)
    assert (job.gpus, job.gpu_type) == (0, "")
    (held,) = cluster.slurm.job(str(job_id)).allocations
    assert (held.node, held.gpu_type, held.gpu_indexes) == ("cpu01", "", ())


def test_pending_jobs_say_what_they_ask_for_and_why_they_wait(cluster):
    for options, gpus, kind in (
        ({"gpus": "h100:3"}, 3, "h100"),
        ({"gres": "gpu:2"}, 2, ""),
        ({"gpus-per-node": "h100:2", "nodes": "2"}, 4, "h100"),
        ({"gpus-per-task": "h100:1", "ntasks": "2"}, 2, "h100"),
        ({}, 0, ""),
    ):
        job_id = cluster.submit(*options.items(), ("hold", None))
        (job,) = cluster.slurm.jobs([str(job_id)])
        assert job.state is JobState.PENDING
        assert (job.gpus, job.gpu_type) == (gpus, kind), options
        assert job.reason.startswith("JobHeld")
        assert job.priority == 0
        assert job.node_list == ""
        assert job.elapsed_seconds == 0


def test_no_text_of_a_user_shifts_a_field_or_forges_one(cluster):
    job_id = cluster.submit(
        ("job-name", HOSTILE), ("comment", HOSTILE + "(token=x)"), gres="gpu:h100:2"
    )
    job = cluster.running(job_id)
    assert job.name == HOSTILE
    assert job.comment == HOSTILE + "(token=x)"
    assert job.user == "u1"
    detail = cluster.slurm.job(str(job_id))
    assert detail.job.name == HOSTILE
    (held,) = detail.allocations
    assert len(held.gpu_indexes) == 2
    assert cluster.slurm.allocations()[job_id] == detail.allocations
    assert [one for one in cluster.slurm.read(Part.JOBS).jobs if one.name == HOSTILE]


def test_the_waiting_tasks_of_an_array_are_one_record(cluster):
    job_id = cluster.submit(("hold", None), array="1-5,8%2", gres="gpu:h100:1")
    (job,) = cluster.slurm.jobs([str(job_id)])
    assert job.job_id == job.array_job_id == job_id
    assert job.display_id == f"{job_id}_[1-5,8%2]"
    assert job.array_task == "1-5,8%2"
    assert job.gpus == 1


def test_started_tasks_have_numbers_of_their_own(cluster):
    job_id = cluster.submit(array="0-2%1", partition="cpu")
    cluster.wait(f"{job_id}_0", lambda job: job.state is JobState.RUNNING)
    records = cluster.slurm.jobs([str(job_id)])
    assert {job.display_id for job in records} == {f"{job_id}_0", f"{job_id}_[1-2%1]"}
    assert {job.array_job_id for job in records} == {job_id}
    (first,) = cluster.slurm.jobs([f"{job_id}_0"])
    assert first.array_task == "0"
    assert cluster.slurm.job(f"{job_id}_0").job.job_id == first.job_id


def test_what_some_jobs_hold_can_be_asked_for_alone(cluster):
    first, second = (cluster.submit(gres="gpu:h100:1") for _ in range(2))
    array = cluster.submit(gres="gpu:h100:1", array="0-1")
    held = {cluster.running(one).job_id for one in (first, second)}
    cluster.wait(array, lambda job: job.state is JobState.RUNNING)
    assert set(cluster.slurm.allocations([str(first)])) == {first}
    assert set(cluster.slurm.allocations([str(first), "66000000", str(second)])) == held
    assert cluster.slurm.allocations(["66000000"]) == {}
    tasks = {task.display_id: task.job_id for task in cluster.slurm.jobs([str(array)])}
    assert set(cluster.slurm.allocations([f"{array}_0"])) == {tasks[f"{array}_0"]}
    assert set(cluster.slurm.allocations([str(array)])) == set(tasks.values())
    many = [str(number) for number in range(66000000, 66000100)]
    assert set(cluster.slurm.allocations([*many, str(second)])) == {second}


def test_the_controllers_own_associations_have_parents_and_shares(cluster):
    snapshot = cluster.slurm.read(Part.USAGE)
    found = {(one.account, one.user): one for one in snapshot.associations}
    assert found["nlp-pretrain", ""].parent == "nlp"
    assert found["nlp-pretrain", ""].raw_shares == 70
    assert found["nlp-pretrain", "u1"].raw_shares == 10
    assert snapshot.config is None
    if cluster.is_real:
        assert found["nlp", ""].usage is not None
        assert found["nlp-pretrain", "u1"].priority == 20
        assert snapshot.calculated_at <= snapshot.time + 1


def test_a_job_says_all_that_it_asks_for(cluster):
    job_id = cluster.submit(("hold", None), gres="gpu:h100:2", nodes="1")
    (job,) = cluster.slurm.jobs([str(job_id)])
    assert (job.tres["gres/gpu"], job.tres["node"], job.deadline) == (2, 1, None)


def test_jobs_slurm_does_not_know_are_left_out(cluster):
    job_id = cluster.submit(("hold", None))
    assert cluster.slurm.jobs(["66000000"]) == ()
    assert [job.job_id for job in cluster.slurm.jobs(["66000000", str(job_id)])] == [job_id]
    assert cluster.slurm.jobs([]) == ()


def test_ended_jobs_are_still_found_by_their_id(cluster):
    job_id = cluster.submit(("hold", None))
    cluster.slurm.cancel(str(job_id))
    job = cluster.over(job_id)
    assert job.state is JobState.CANCELLED
    assert job_id not in {one.job_id for one in cluster.slurm.read(Part.JOBS).jobs}


def test_an_unknown_job_has_no_detail(cluster):
    with pytest.raises(JobNotFound) as caught:
        cluster.slurm.job("66000000")
    assert caught.value.job_id == "66000000"


def test_the_detail_tells_paths_and_exit_code(cluster):
    script = "#!/bin/sh\nsleep 1\nexit 3\n"
    job_id = cluster.submit(script=script, partition="cpu", output="/tmp/contract-%j.out")
    cluster.wait(job_id, lambda job: job.state is JobState.FAILED)
    detail = cluster.slurm.job(str(job_id))
    assert (detail.exit_code, detail.exit_signal) == (3, 0)
    assert detail.std_out == f"/tmp/contract-{job_id}.out"
    assert detail.std_err == detail.std_out
    assert detail.work_dir == "/tmp"
    assert detail.allocations == ()
    assert detail.restarts == 0


def test_the_script_is_what_was_submitted(cluster):
    script = "#!/bin/sh\n# é ✓ \udcff\nsleep 300\n"
    job_id = cluster.submit(("hold", None), script=script)
    assert cluster.slurm.script(str(job_id)) == script


def test_an_unknown_job_has_no_script(cluster):
    with pytest.raises(JobNotFound):
        cluster.slurm.script("66000000")


def test_planned_starts_are_only_those_of_waiting_jobs(cluster):
    waiting = cluster.submit(("hold", None))
    running = cluster.submit(partition="cpu")
    cluster.running(running)
    assert cluster.slurm.estimated_starts([str(waiting), str(running)]) == {}


def test_a_controller_that_is_away_is_unavailable(cluster):
    with pytest.raises(SlurmUnavailable):
        cluster.unreachable("read", Part.PARTITIONS)


def test_the_adapter_says_how_it_reaches_slurm(cluster):
    assert "Slurm" in cluster.slurm.description
