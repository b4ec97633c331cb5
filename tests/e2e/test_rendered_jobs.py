"""Rendered scripts as real jobs, on both releases of Slurm that run here."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from slurm_gpu_policy.adapters.rendering.directives import parse_directives
from slurm_gpu_policy.adapters.rendering.renderer import Renderer
from tests.scripts import make_decision, make_request, option, rendered

CLUSTER = Path(__file__).parents[2] / "vagrant" / "cluster"
# Runs the job to its end and prints what it wrote, then its exit code.
RUN = """
out=$(mktemp) && chmod 666 "$out"
sbatch --wait --output="$out" "$@" >/dev/null
code=$?
cat "$out"
rm -f "$out"
exit "$code"
"""
# Queues the job held, shows it, and takes it away again.
SHOW = """
id=$(sbatch --parsable --hold --output=/dev/null "$@") || exit 1
squeue --noheader --jobs="$id" --Format=Name:4000,Comment:4000
squeue --noheader --jobs="$id" --format='%P|%l|%D|%C|%f|%b|%m'
scontrol show job "$id" | grep -o 'TresPer[A-Za-z]*=[^ ]*'
scancel "$id"
"""
HOSTILE = ["a b", "$(exit 9)", "`id`", "'", '"', "\\", "two\nlines\r\n", "-n", "%j", "\udcff", ""]
ONE_NODE = {"gpus": 1, "account": "", "qos": "", "time_seconds": 300}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("native", marks=[pytest.mark.cluster, pytest.mark.root]),
        pytest.param("pyslurm", marks=[pytest.mark.pyslurm, pytest.mark.root]),
    ],
)
def kind(request):
    status = subprocess.run([CLUSTER, "status", request.param], capture_output=True, check=False)
    if status.returncode == 0:
        return request.param
    reason = f"the cluster {request.param!r} is not up (make cluster, make cluster-pyslurm)"
    if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1" and request.param == "native":
        pytest.fail(reason)
    return pytest.skip(reason)


def on(kind, program, submission=None, *args, data=None, **env):
    """Run a program of bash on a cluster, with a submission as sbatch's input and options."""
    options = [
        f"--{name}" if value is None else f"--{name}={value}"
        for name, value in (submission.options if submission else ())
    ]
    place = [] if kind == "native" else [str(CLUSTER), "exec", kind, "--"]
    settings = [f"{name}={value}" for name, value in env.items()]
    return subprocess.run(
        [os.fsencode(each) for each in (*place, "env", *settings, "bash", "-c", program, "x")]
        + [os.fsencode(each) for each in (*options, *args)],
        input=os.fsencode(submission.script) if data is None else os.fsencode(data),
        capture_output=True,
        timeout=120,
        check=False,
    )


def show(kind, submission, *, with_options=True):
    argv = submission if with_options else None
    run = on(kind, SHOW, argv, data=submission.script)
    assert run.returncode == 0, run.stderr.decode()
    return [" ".join(line.split()) for line in os.fsdecode(run.stdout).splitlines()]


def test_a_command_and_its_variables_reach_the_job_byte_for_byte(kind):
    command = ("bash", "-c", 'printf "%s\\0" "$@" "$GREETING"; exit 7', "x", *HOSTILE)
    request = make_request(*command, environment=(("GREETING", "\n#SBATCH\t\udcfe$(id)"),))
    run = on(kind, RUN, rendered(request, make_decision(**ONE_NODE)))
    assert run.returncode == 7
    words = [os.fsdecode(each) for each in run.stdout.split(b"\0")[:-1]]
    assert words == [*HOSTILE, "\n#SBATCH\t\udcfe$(id)"]


def test_a_users_script_runs_with_its_arguments_and_without_what_was_replaced(kind):
    script = '#!/bin/bash\n#SBATCH --gpus=2 --mem-per-gpu=1G\nprintf "%s\\0" "$@" "$A"; exit 5\n'
    own = tuple((each.name, each.value) for each in parse_directives(script))
    request = make_request(
        "a b", "$x\n", script=script, script_options=own, memory_mb=900, environment=(("A", "'"),)
    )
    submission = rendered(request, make_decision(**ONE_NODE))
    # sbatch takes arguments after a file only, so the script travels through one here.
    program = 'f=$(mktemp); cat > "$f"; n=${@:$#}; set -- "${@:1:$#-1}"; ' + RUN.replace(
        '"$@" >', '"$@" "$f" "a b" "$n" >'
    )
    run = on(kind, program, submission, "$x\n")
    assert (run.returncode, run.stdout) == (5, b"a b\0$x\n\0'\0")


@pytest.mark.parametrize("form", ["gres", "gpus-per-node", "gpus"])
def test_the_script_alone_makes_the_same_job_as_script_and_options(kind, form):
    request = make_request(
        "true",
        name="a \"quoted\" 'name' #1 \\",
        memory_mb=1000,
        nodes=2,
        options=(("comment", "my $(words) # here"), ("constraint", "h100|simulated")),
    )
    decision = make_decision(
        **{**ONE_NODE, "gpus": 2, "nodes": 2}, features=("simulated",), gpu_request=form
    )
    submission = rendered(request, decision)
    shown = show(kind, submission)
    assert shown == show(kind, submission, with_options=False)
    assert shown[0] == f"{request.name} {option(submission, 'comment')}"


def test_a_comment_that_no_directive_can_carry_arrives_by_the_command_line(kind):
    request = make_request("true", options=(("comment", "tab\there \udcff \x01"),))
    submission = rendered(request, make_decision(**ONE_NODE))
    assert "tab here \udcff \x01 gpu-submit(token=" in show(kind, submission)[0]
    assert "gpu-submit(" not in show(kind, submission, with_options=False)[0]


@pytest.mark.parametrize("form", ["gres", "gpus-per-node", "gpus"])
def test_torchrun_starts_one_task_a_node_with_all_its_gpus(kind, form):
    stand_in = 'printf "%s\\n" "$CUDA_VISIBLE_DEVICES $*"; sleep 1; exit 3'
    request = make_request("train.py", "a b", template="torchrun", nodes=2, gpus=4)
    request = Renderer().expand(request)
    decision = make_decision(**{**ONE_NODE, "gpus": 4, "nodes": 2}, gpu_request=form)
    submission = rendered(request, decision)
    # A file of the node's own would have to be there in both worlds: hand it in by PATH instead.
    program = (
        "d=$(mktemp -d) && chmod 755 \"$d\" && printf '#!/bin/bash\\n%s\\n' "
        + shlex.quote(stand_in)
        + ' > "$d/torchrun" && chmod 755 "$d/torchrun" && PATH=$d:$PATH && export PATH; '
        + RUN
    )
    # As in a job that was submitted from within another one.
    run = on(kind, program, submission, SLURM_GPUS_PER_NODE="1", SLURM_MEM_PER_GPU="5")
    assert run.returncode == 3, run.stdout
    lines = [line for line in run.stdout.decode().splitlines() if "--nnodes" in line]
    assert len(lines) == 2
    for line in lines:
        assert len(line.split(" ", 1)[0].split(",")) == 2, line
        assert "--nnodes=2 --nproc-per-node=2" in line
        assert line.endswith("train.py a b")
    assert len({word for line in lines for word in line.split() if "endpoint" in word}) == 1


def test_each_task_of_a_sweep_gets_its_line(kind, tmp_path):
    (tmp_path / "p").write_bytes(b"--lr 1 'a b'\r\n# no\n--lr 2 $(id)\n")
    request = make_request(
        "bash", "-c", 'printf "%s|" "$SWEEP_INDEX/$SWEEP_COUNT" "$@"; echo', "x",
        template="sweep", params=(("file", str(tmp_path / "p")),),
    )  # fmt: skip
    submission = rendered(request, make_decision(**ONE_NODE, tasks=2))
    (tmp_path / "p").write_text("changed\n")
    program = RUN.replace('"$out" "$@"', '"$out" --open-mode=append "$@"')
    run = on(kind, program, submission)
    assert sorted(run.stdout.decode().splitlines()) == [
        "1/2|--lr|1|a b|",
        "2/2|--lr|2|$(id)|",
    ]


@pytest.mark.parametrize("launcher", ["srun", "salloc"])
def test_an_interactive_command_runs_where_its_gpus_are(kind, launcher):
    request = make_request(
        "bash", "-c", 'echo "$SLURM_JOB_NAME|$SLURM_JOB_PARTITION|$1|$A"; exit 6', "x", "b c",
        template="interactive", params=(("launcher", launcher),), environment=(("A", "1 2"),),
    )  # fmt: skip
    submission = rendered(request, make_decision(**ONE_NODE))
    run = on(kind, 'exec bash -c "$1"', None, submission.script, data="", SLURM_GPUS_PER_NODE="9",
             SLURM_JOB_ID="1")  # fmt: skip
    assert run.returncode == 6, run.stderr
    assert run.stdout.decode() == "interactive|gpu|b c|1 2\n"
