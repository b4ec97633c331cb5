"""The three ways to have the package: a wheel, an editable install, a plain checkout.

Each is tried in a virtual environment of its own, that sees the dependencies of the one the tests
run in but not the package itself.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LOOK = """
import importlib.metadata, json, os
import slurm_gpu_policy
from slurm_gpu_policy import resources
from slurm_gpu_policy.adapters.rendering.renderer import Renderer
folders = {name: resources.folder(name) for name in ("templates", "slurm_conf")}
try:
    scripts = sorted(
        each.name for each in importlib.metadata.distribution("slurm-gpu-policy").entry_points
    )
except importlib.metadata.PackageNotFoundError:
    scripts = None
print(json.dumps({
    "package": os.path.dirname(slurm_gpu_policy.__file__),
    "folders": folders,
    "files": {
        name: sorted(
            os.path.relpath(os.path.join(where, file), folder)
            for where, _, files in os.walk(folder) for file in files
        )
        for name, folder in folders.items()
    },
    "templates": [each.name for each in Renderer().list_templates()],
    "scripts": scripts,
}))
"""


def files_below(folder: str) -> list[str]:
    """The files of one of the checkout's folders."""
    path = ROOT / folder
    return sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file())


@pytest.fixture
def python(tmp_path):
    """A new environment's Python, which sees this one's dependencies."""
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=True, with_pip=False)
    site = Path(
        sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    )
    # Folders named in a .pth file are searched, but their own .pth files, ours among them, are not.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def pip(*args: str | Path, **kwargs) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def look(python: Path, tmp_path: Path, **env: str) -> dict:
    run = subprocess.run(
        [python, "-c", LOOK],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**{name: text for name, text in os.environ.items() if name != "PYTHONPATH"}, **env},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def programs() -> list[str]:
    return sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])


def test_a_wheel_brings_templates_and_configuration_along(python, tmp_path):
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    found = look(python, tmp_path)
    assert found["package"].startswith(str(tmp_path))
    for name, folder in found["folders"].items():
        assert folder == f"{found['package']}/_data/{name}"
        assert found["files"][name] == files_below(name)
    assert {"batch", "torchrun", "sweep", "jupyter", "serve", "interactive"} <= {
        *found["templates"]
    }
    assert found["scripts"] == programs()
    for program in programs():
        assert os.access(python.with_name(program), os.X_OK)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "slurm_gpu_policy/py.typed" in names
    assert "systemd/gpu-policyd.service" in found["files"]["slurm_conf"]
    database = "slurm_gpu_policy/adapters/database/migrations"
    assert {f"{database}/env.py", f"{database}/versions/v001_records.py"} <= {*names}
    assert not [each for each in names if each.startswith(("tests/", "vagrant/", "templates/"))]


def test_an_installation_can_make_its_database(python, tmp_path):
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    script = (
        "import sys\n"
        "from slurm_gpu_policy.adapters.database.connection import Database\n"
        "from slurm_gpu_policy.adapters.database.records import DatabaseRecords\n"
        "from slurm_gpu_policy.adapters.database.upgrade import upgrade\n"
        "database = Database(sys.argv[1])\n"
        "upgrade(database)\n"
        "print(upgrade.__code__.co_filename, DatabaseRecords(database, 'cluster').entries())\n"
    )
    done = subprocess.run(
        [python, "-c", script, f"sqlite:///{tmp_path}/records.db"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    where, entries = done.stdout.split()
    assert where.startswith(str(tmp_path))
    assert entries == "()"


def test_an_editable_install_uses_the_folders_of_the_checkout(python, tmp_path):
    pip(
        *("--python", python, "install", "--no-deps", "--no-index", "--no-build-isolation"),
        *("--editable", ROOT),
    )
    found = look(python, tmp_path)
    assert found["package"] == str(ROOT / "slurm_gpu_policy")
    assert found["folders"] == {name: str(ROOT / name) for name in ("templates", "slurm_conf")}
    assert found["scripts"] == programs()


def test_a_plain_checkout_needs_no_installation(python, tmp_path):
    found = look(python, tmp_path, PYTHONPATH=str(ROOT))
    assert found["package"] == str(ROOT / "slurm_gpu_policy")
    assert found["folders"] == {name: str(ROOT / name) for name in ("templates", "slurm_conf")}


def test_an_installation_without_its_folders_says_so(monkeypatch, tmp_path):
    from slurm_gpu_policy import resources  # noqa: PLC0415

    monkeypatch.setattr(resources, "_ROOTS", (str(tmp_path),))
    with pytest.raises(FileNotFoundError, match="lacks its folder 'templates'"):
        resources.folder("templates")
