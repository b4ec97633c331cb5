"""Which tests may run beside one another (tools/test runs several at a time)."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the marks
def pytest_collection_modifyitems(items):
    """Keep on one worker what shares a cluster; unit tests go wherever there is room.

    A module that raises clusters of its own is a group by itself, and each kind of cluster one
    within it; all that use the machine's shared cluster are one group.
    """
    for item in items:
        if item.path.is_relative_to(item.config.rootpath / "tests/unit"):
            continue
        group = "shared cluster"
        if hasattr(item.module, "PrivateCluster") or "steered_cluster" in item.fixturenames:
            kind = "pyslurm" if "pyslurm" in item.name else "native"
            group = f"{item.path.stem} {kind}"
        elif "records" in item.path.parts:
            group = "records"
        item.add_marker(pytest.mark.xdist_group(group))
