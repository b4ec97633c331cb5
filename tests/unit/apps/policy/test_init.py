"""``gpu-policy init``: a file that is right, written whole, and never over another."""

from __future__ import annotations

import os

import pytest

from slurm_gpu_policy.config.validation import validate


def test_the_file_is_right_and_names_the_cluster(gpu_policy, tmp_path):
    path = tmp_path / "policy.yaml"
    assert gpu_policy("init", str(path)).code == 0
    policy = validate(path.read_bytes(), str(path))
    assert list(policy.clusters) == ["fake"]
    assert list(policy.gpu_types) == ["h100"]
    assert gpu_policy("check", "--live", str(path)).out.startswith(f"{path} is right\n")


def test_a_dash_writes_to_standard_output(gpu_policy):
    result = gpu_policy("init", "-")
    assert result.code == 0
    validate(result.out.encode(), "-")


def test_a_file_that_is_there_is_not_replaced(gpu_policy, tmp_path, slurm):
    path = tmp_path / "policy.yaml"
    path.write_text("mine")
    result = gpu_policy("init", str(path))
    assert (result.code, path.read_text()) == (2, "mine")
    assert "--force" in result.err
    assert slurm.calls == []


def test_force_replaces_it(gpu_policy, tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("mine")
    assert gpu_policy("init", str(path), "--force").code == 0
    assert "gpu_types" in path.read_text()


def test_force_writes_through_a_link(gpu_policy, tmp_path):
    target, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    target.write_text("mine")
    link.symlink_to(target)
    assert gpu_policy("init", str(link), "--force").code == 0
    assert link.is_symlink()
    assert "gpu_types" in target.read_text()


def test_a_dangling_link_is_not_written_through_unasked(gpu_policy, tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "nowhere.yaml")
    assert gpu_policy("init", str(link)).code == 2
    assert not (tmp_path / "nowhere.yaml").exists()


@pytest.mark.parametrize("name", ["missing/policy.yaml", ".", "x" * 300])
def test_a_place_that_cannot_be_written_ends_with_two(gpu_policy, tmp_path, name):
    result = gpu_policy("init", str(tmp_path / name), "--force")
    assert result.code == 2
    assert "cannot be written" in result.err


def test_nothing_is_left_behind_when_writing_fails(gpu_policy, tmp_path, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    result = gpu_policy("init", str(tmp_path / "policy.yaml"))
    assert result.code == 2
    assert "No space left on device" in result.err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_somebody_quicker_is_not_overwritten(gpu_policy, tmp_path, monkeypatch):
    path = tmp_path / "policy.yaml"
    monkeypatch.setattr(os, "fsync", lambda _: path.write_text("theirs"))
    assert gpu_policy("init", str(path)).code == 2
    assert path.read_text() == "theirs"


def test_without_a_name_it_goes_where_the_environment_says(gpu_policy, tmp_path, monkeypatch):
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "env.yaml"))
    assert gpu_policy("init").code == 0
    assert (tmp_path / "env.yaml").exists()


def test_when_slurm_is_away_nothing_is_written(gpu_policy, tmp_path, slurm):
    slurm.unavailable()
    assert gpu_policy("init", str(tmp_path / "policy.yaml")).code == 4
    assert not (tmp_path / "policy.yaml").exists()
