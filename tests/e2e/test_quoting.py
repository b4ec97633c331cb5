"""Rendered scripts through real bash: every byte arrives, and nothing is ever interpreted.

The programs that templates start (srun, torchrun, vllm …) are one stand-in here that writes its
arguments and environment down, as bytes; ``test_rendered_jobs.py`` has Slurm's own.
"""

import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.rendering.script import _OWNED_BY_BASH
from tests.scripts import in_bash, make_decision, make_request, rendered

# -SE keeps Python from reading the environment; the arguments are read as the bytes they are.
RECORDER = f"""#!{sys.executable} -SE
import os
args = open("/proc/self/cmdline", "rb").read().split(b"\\0")[3:-1]
with open(os.environb[b"RECORD"], "wb") as file:
    for each in args:
        file.write(b"A" + each + b"\\0")
    for name, value in os.environb.items():
        file.write(b"E" + name + b"=" + value + b"\\0")
"""

FORGERIES = [
    "$(touch forged)",
    "`touch forged`",
    "'; touch forged; '",
    '"; touch forged; "',
    "\ntouch forged\n",
    "\n#SBATCH --uid=0\n",
    "#SBATCH --hold",
    "-n",
    "--",
    "--help",
    "%j%a%N",
    "~root",
    "*",
    "{a,b}",
    "!!",
    "a=b",
    "\\",
    "\r\n",
    "\t",
    "\x01\x7f\x1b[31m",
    "\udcff\udcfe",
    "\u202e\u2028",
    "{{ 7 * 7 }}{% raw %}{# #}",
    "END",
    "",
]

raw = st.binary(max_size=40).map(lambda value: value.replace(b"\0", b"")).map(os.fsdecode)
value = st.one_of(
    raw, st.sampled_from(FORGERIES), st.text(st.sampled_from("'\"\\$`\n #é"), max_size=9)
)
values = st.lists(value, max_size=6)
name = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda each: each not in _OWNED_BY_BASH and not each.startswith("_gs_")
)
# Variables that would change which programs run, or how bash itself works, are tried by name below.
STEERING = {"PATH", "RECORD", "LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "PWD", "OLDPWD"}
names = name.filter(lambda each: each not in STEERING and not each.startswith(("LC_", "LANG")))
environment = st.dictionaries(names, value, max_size=4).map(lambda each: tuple(each.items()))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a stand-in for every program, and the environment to run scripts in."""
    folder = tmp_path_factory.mktemp("world")
    for program in ("recorder", "srun", "salloc", "vllm", "ollama"):
        path = folder / program
        path.write_text(RECORDER)
        path.chmod(stat.S_IRWXU)
    scontrol = folder / "scontrol"
    scontrol.write_text("#!/bin/sh\nprintf 'node1\\nnode2\\n'\n")
    scontrol.chmod(stat.S_IRWXU)
    return folder


def recorded(submission, world: Path, **slurm: str) -> tuple[list[str], dict[str, str]]:
    """Run the script and return what the stand-in was given."""
    record = world / "record"
    record.unlink(missing_ok=True)
    env = {
        "PATH": f"{world}:{os.environ['PATH']}",
        "RECORD": str(record),
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        **slurm,
    }
    run = in_bash(submission, world, env=env)
    assert record.exists(), run.stderr.decode(errors="replace")
    assert not list(Path.cwd().glob("forged")), "a value was interpreted"
    assert not (world / "forged").exists(), "a value was interpreted"
    entries = record.read_bytes().split(b"\0")[:-1]
    args = [os.fsdecode(each[1:]) for each in entries if each[:1] == b"A"]
    pairs = (each[1:].partition(b"=") for each in entries if each[:1] == b"E")
    return args, {os.fsdecode(key): os.fsdecode(found) for key, _, found in pairs}


many = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
some = settings(many, max_examples=40)


@many
@given(values=values, variables=environment, job=value, comment=value)
@example(FORGERIES, (), "", "")
@example([], tuple((f"V{i}", each) for i, each in enumerate(FORGERIES)), "\n\n", "\n#SBATCH -H")
def test_a_command_and_its_variables_arrive_byte_for_byte(world, values, variables, job, comment):
    options = (("comment", comment),) if comment else ()
    request = make_request("recorder", *values, name=job, options=options, environment=variables)
    args, env = recorded(rendered(request), world)
    assert args == values
    assert {key: env.get(key) for key, _ in variables} == dict(variables)


@many
@given(values=values, variables=environment)
def test_the_arguments_and_variables_of_a_users_script_arrive(world, values, variables):
    script = '#!/bin/bash\n#SBATCH -J x\nexec recorder "$@"\n'
    args, env = recorded(
        rendered(make_request(*values, script=script, environment=variables)), world
    )
    assert args == values
    assert {key: env.get(key) for key, _ in variables} == dict(variables)


@some
@given(variables=environment)
def test_variables_arrive_in_a_script_of_a_posix_shell(world, variables):
    # dash has variables of its own that it checks.
    assume(not {key for key, _ in variables} & {"OPTIND", "PPID", "IFS"})
    script = "#!/bin/sh\nexec recorder\n"
    _, env = recorded(rendered(make_request(script=script, environment=variables)), world)
    assert {key: env.get(key) for key, _ in variables} == dict(variables)


@some
@given(values=values, variables=environment, launcher=value.filter(bool))
def test_torchrun_is_given_the_command_as_it_was(world, values, variables, launcher):
    request = make_request(
        "train.py",
        *values,
        template="torchrun",
        nodes=2,
        gpus=8,
        environment=variables,
        params=(("launcher", launcher),),
    )
    args, env = recorded(rendered(request, make_decision(nodes=2, gpus=8)), world)
    command = args[args.index("--") + 1 :]
    assert command[:2] == ["bash", "-c"]
    assert command[3:] == ["torchrun", launcher, "node1:15077", "77.0", "0", "train.py", *values]
    assert {key: env.get(key) for key, _ in variables} == dict(variables)


@some
@given(values=values, variables=environment)
def test_what_torchruns_step_runs_on_a_node_is_given_the_command_as_it_was(
    world, values, variables
):
    # srun as it is to one task: it runs what stands after `--`.
    srun = world / "srun"
    kept = srun.read_text()
    srun.write_text('#!/bin/bash\nwhile [[ $1 != -- ]]; do shift; done\nshift\nexec "$@"\n')
    try:
        request = make_request(
            "train.py",
            *values,
            template="torchrun",
            environment=variables,
            params=(("launcher", "recorder"),),
        )
        args, _ = recorded(rendered(request), world, SLURM_NNODES="2", SLURM_GPUS_ON_NODE="4")
    finally:
        srun.write_text(kept)
    assert args == [
        "--nnodes=2",
        "--nproc-per-node=4",
        "--max-restarts=0",
        "--rdzv-backend=c10d",
        "--rdzv-id=77.0",
        "--rdzv-endpoint=node1:15077",
        "train.py",
        *values,
    ]


lines = st.lists(
    st.one_of(
        raw.filter(lambda each: not {"\n", "'", '"', "\\", "\r"} & {*each}),
        st.sampled_from([each for each in FORGERIES if "\n" not in each and "'" not in each]),
    )
    .map(lambda each: each.replace('"', "").replace("\\", "").strip(" \t"))
    .filter(lambda each: each and not each.startswith("#")),
    min_size=1,
    max_size=5,
)


@some
@given(values=values, lines=lines, variables=environment, data=st.data())
def test_each_task_of_a_sweep_is_given_its_own_line(world, values, lines, variables, data):
    assume(not {"SWEEP_LINE", "SWEEP_INDEX", "SWEEP_COUNT"} & {key for key, _ in variables})
    path = world / "params"
    path.write_bytes(b"# head\n\n" + b"\r\n".join(map(os.fsencode, lines)))
    request = make_request(
        "recorder", *values, template="sweep", params=(("file", str(path)),), environment=variables
    )
    submission = rendered(request)
    path.write_text("changed after the submission\n")
    task = data.draw(st.integers(1, len(lines)))
    args, env = recorded(submission, world, SLURM_ARRAY_TASK_ID=str(task))
    line = lines[task - 1]
    assert args == [*values, *(word for word in line.replace("\t", " ").split(" ") if word)]
    assert env["SWEEP_LINE"] == line
    assert (env["SWEEP_INDEX"], env["SWEEP_COUNT"]) == (str(task), str(len(lines)))
    assert {key: env.get(key) for key, _ in variables} == dict(variables)


@some
@given(values=values, variables=environment, launcher=st.sampled_from(["srun", "salloc"]))
def test_an_interactive_command_is_given_as_it_was(world, values, variables, launcher):
    assume(not any(key.startswith(("SLURM_", "SRUN_")) for key, _ in variables))
    request = make_request(
        "cmd",
        *values,
        template="interactive",
        environment=variables,
        params=(("launcher", launcher),),
        options=(("comment", "a'b\n$(touch forged)"),),
    )
    args, env = recorded(rendered(request), world)
    at = args.index("--")
    assert args[at + 1 :] == ["cmd", *values]
    assert any(each.startswith("--comment=a'b\n$(touch forged) gpu-submit(") for each in args[:at])
    assert {key: env.get(key) for key, _ in variables} == dict(variables)


@settings(some, max_examples=12)  # a fifth of a second each
@given(values=values, variables=environment, model=value.filter(bool))
def test_a_server_is_given_its_model_and_arguments_as_they_were(world, values, variables, model):
    request = make_request(
        *values,
        template="serve",
        environment=variables,
        params=(("model", model), ("port", "1"), ("host", "127.0.0.1")),
    )
    args, env = recorded(rendered(request), world, SLURM_GPUS_ON_NODE="4")
    assert args[:2] == ["serve", model]
    assert args[2:] == [
        *("--host", "127.0.0.1", "--port", "1", "--tensor-parallel-size", "4"),
        *values,
    ]
    assert {key: env.get(key) for key, _ in variables} == dict(variables)


@pytest.mark.parametrize("size", [100_000, 1_500_000])
def test_a_huge_command_arrives(world, size):
    words = ["x'\n" * 300] * (size // 900)
    args, _ = recorded(rendered(make_request("recorder", *words)), world)
    assert args == words


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("IFS", "a$\n"),
        ("LC_ALL", "xx_XX.unknown"),
        ("POSIXLY_CORRECT", "1"),
        ("PS4", "$(touch forged)"),
        ("BASH_ENV", "$(touch forged)"),
        ("PROMPT_COMMAND", "touch forged"),
        ("CDPATH", "/"),
        ("GLOBIGNORE", "*"),
        ("HOME", ""),
    ],
)
def test_a_variable_that_means_something_to_bash_is_only_passed_on(world, key, wanted):
    request = make_request("recorder", "a b", "*", environment=((key, wanted),))
    args, env = recorded(rendered(request), world)
    assert args == ["a b", "*"]
    assert env[key] == wanted


@many
@given(job=value, comment=value, words=values)
def test_no_value_forges_a_directive(job, comment, words):
    from slurm_gpu_policy.adapters.rendering.directives import parse_directives  # noqa: PLC0415

    options = (("comment", comment),) if comment else ()
    submission = rendered(make_request("recorder", *words, name=job, options=options))
    given_names = {name for name, _ in submission.options}
    read = [(each.name, each.value) for each in parse_directives(submission.script)]
    assert {name for name, _ in read} <= given_names
    assert set(read) <= set(submission.options)


def test_a_commands_exit_code_is_the_scripts(world):
    for command, code in ((("sh", "-c", "exit 7"), 7), (("/nonexistent",), 127), (("/",), 126)):
        run = in_bash(rendered(make_request(*command)), world, env={"PATH": os.environ["PATH"]})
        assert run.returncode == code
