"""A thousand wrong invocations: the right exit code each time, words, and never a traceback."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.submit import main
from slurm_gpu_policy.apps.submit.options import REQUEST_OPTIONS, RUN_OPTIONS
from slurm_gpu_policy.terminal.border import run_app
from tests.fakes.slurm import FakeSlurm

many = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = {option.name for option in (*REQUEST_OPTIONS, *RUN_OPTIONS)} | {"help"}

# What a shell can hand over: any character but NUL, and bytes that are no UTF-8.
argument = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    | st.integers(0xDC80, 0xDCFF).map(chr),
    max_size=30,
)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    slurm = FakeSlurm()
    monkeypatch.setattr(bootstrap, "connect", lambda _policy: slurm)
    monkeypatch.setattr(main, "current_user", lambda: "u1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GPU_POLICY_USER_FILE", str(tmp_path / "none.yaml"))
    monkeypatch.delenv("GPU_POLICY_FILE", raising=False)

    def call(*argv: str) -> tuple[int, str]:
        code = run_app(main.cli, "gpu-submit", argv)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        if code:
            assert said.err.startswith("gpu-submit: error: "), said.err
            assert slurm.submissions == []
        return code, said.err

    return call


def is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,7}", text) is not None


BAD_VALUES = {
    "gpus": lambda text: not re.fullmatch(r"[A-Za-z0-9_.-]*(:[0-9]+)?", text.strip()),
    "gpus-per-node": lambda text: not re.fullmatch(r"[A-Za-z0-9_.-]*(:[0-9]+)?", text.strip()),
    "ntasks": lambda text: not is_number(text),
    "cpus-per-task": lambda text: not is_number(text),
    "nodes": lambda text: not re.fullmatch(r"[0-9]+(-[0-9]+)?", text.strip()),
    "time": lambda text: not re.search(r"[0-9]|unlimited|infinite", text, re.IGNORECASE),
    "mem": lambda text: not re.search(r"[0-9]", text),
    "max-cost": lambda text: not re.search(r"[0-9]", text),
    "retries": lambda text: not is_number(text),
    "idle-ok": lambda text: not re.search(r"[0-9]", text),
    "param": lambda text: "=" not in text,
    "env": lambda text: not re.match(r"[A-Za-z_]", text) or "=" not in text,
    "sbatch-arg": lambda text: not text.startswith("--"),
    "fallback": lambda text: text != "cpu",
    "open-mode": lambda text: text not in {"append", "truncate"},
}


@many
@given(st.data())
def test_a_value_that_cannot_be_read_is_wrong_use(run, data):
    name = data.draw(st.sampled_from(sorted(BAD_VALUES)))
    value = data.draw(argument.filter(BAD_VALUES[name]))
    assert run(f"--{name}={value}", "--", "true")[0] == 2


@many
@given(name=argument.filter(lambda text: text.partition("=")[0] not in NAMES and text))
def test_an_option_that_does_not_exist_is_wrong_use(run, name):
    assert run(f"--{name}", "--", "true")[0] == 2


@many
@given(st.sampled_from(sorted(o.name for o in REQUEST_OPTIONS if not o.flag)))
def test_an_option_without_its_value_is_wrong_use(run, name):
    assert run(f"--{name}")[0] == 2
    assert run(f"--{name}=", "--", "true")[0] == 2


@many
@given(
    name=st.sampled_from(["account", "qos", "partition", "gpu-type", "workload"]),
    value=st.from_regex(r"[a-z][a-z0-9]{5,12}", fullmatch=True),
)
def test_a_name_the_cluster_does_not_know_is_refused_by_the_policy(run, name, value):
    code, words = run(f"--{name}", value, "--", "true")
    assert code == 3
    assert value in words
    assert "what would pass" in words


@many
@given(gpus=st.integers(17, 999_999))
def test_more_gpus_than_there_are_is_refused_by_the_policy(run, gpus):
    assert run("--gpus", str(gpus), "--", "true")[0] == 3


@many
@given(text=st.binary(max_size=200))
def test_a_script_that_is_none_is_wrong_use(run, tmp_path, text):
    path = tmp_path / "script"
    path.write_bytes(text.replace(b"#!", b""))
    assert run(str(path))[0] == 2


@many
@given(name=argument.filter(lambda text: text and not text.startswith("-")))
def test_a_script_that_is_not_there_is_wrong_use(run, name):
    assert run(f"/nonexistent/{name}")[0] == 2


@many
@given(
    text=st.binary(min_size=1, max_size=200).filter(lambda data: data.strip()),
)
def test_a_policy_file_of_noise_is_told_from_wrong_use(run, tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"no_such_field: " + text)
    assert run("--policy", str(path), "--", "true")[0] == 5


@many
@given(line=argument.filter(lambda text: text.split() and "\n" not in text and "\r" not in text))
def test_a_wrong_line_of_a_jobs_file_is_named_and_nothing_is_submitted(run, tmp_path, line):
    path = tmp_path / "jobs"
    path.write_bytes(b"true\n--no-such-option -- " + line.encode("utf-8", "surrogateescape"))
    code, words = run("--jobs", str(path))
    assert code == 2
    assert "line 2" in words


@many
@given(words=st.lists(argument | st.sampled_from([f"--{name}" for name in NAMES]), max_size=8))
def test_noise_never_ends_in_a_traceback(run, words):
    noise = [word for word in words if word not in {"--watch", "--wait", "-W", "--jobs"}]
    code, _ = run("--dry-run", *noise)
    assert code in {0, 2, 3, 5}
