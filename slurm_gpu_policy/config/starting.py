"""A starting policy file, written from what a cluster has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.config.accounts import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.model.cluster import Node, Partition
    from slurm_gpu_policy.model.snapshot import Snapshot

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_NULL = frozenset({"null", "Null", "NULL"})
_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_NAME = re.compile(r"[^\s,|;=()]{1,255}")
_ACCOUNT = re.compile(NAME_PATTERN, re.ASCII)
_MOST_NODES_NAMED = 4

_HEAD = """\
# The policy of {cluster}, begun by `gpu-policy init`.
#
# Lines that begin with # are proposals: take the mark away to use one.
# `gpu-policy check` says whether this file is right, and `gpu-policy check --live` whether
# the cluster knows the names in it. docs/configuration.md describes every field.
version: 1

# The unit of prices: EUR, USD, credits.
currency: credits

# What happens where a limit below is broken: observe (say so), advise (warn), enforce (refuse).
enforcement: observe

"""
_TAIL = """\
# What a request gets where its user says nothing.
defaults:
  workload: generic
  gpus: 1
  # time: 4h
  # cpus_per_gpu: 8
  # memory_per_gpu: 64G

# Workload classes: the built-in ones (training, inference, embedding, ocr, graph_processing,
# generic, interactive) can be changed field by field, and others added.
# workloads:
#   training:
#     default_time: 12h

# What gpu-policyd does with the queue, where `enforcement` is enforce (docs/policy.md).
#
# Who goes first: fcfs, sjf, fair_share, priority; slurm leaves it to Slurm.
# ordering:
#   kind: fair_share
#
# When a job that failed by no fault of its own is started again.
# retries:
#   most: 3
#
# Which jobs wait for whose approval.
# approvals:
#   thresholds:
#     - gpus: 16
#   approvers:
#     coordinators: true
#
# What jobs cost at which hour, and who may spend how much (docs/budgets.md).
# pricing:
#   timezone: UTC
#   hours:
#     - {{start: '20:00', end: '08:00', factor: 0.5}}
# budgets:
#   {account}:
#     amount: 1000
#     period: month
"""


def starting_policy(snapshot: Snapshot) -> str:
    """Return the text of a policy file for the cluster in *snapshot*; it is always valid.

    *snapshot* must hold partitions, nodes, associations and the controller's settings. Names
    that the file's form cannot carry are left out.
    """
    cluster = snapshot.config.name if snapshot.config else ""
    parts = [_HEAD.format(cluster=_said(cluster) or "this cluster")]
    parts.extend(_clusters(cluster, snapshot.nodes))
    parts.extend(_gpu_types(snapshot))
    parts.extend(_limits(snapshot))
    accounts = sorted({item.account for item in snapshot.associations} - {"root"})
    named = next((name for name in accounts if _is_account(name)), "my-account")
    parts.append(_TAIL.format(account=_quoted(named)))
    return "".join(parts)


def _clusters(name: str, nodes: Sequence[Node]) -> Iterator[str]:
    typed = any(gpus.type for node in nodes for gpus in node.gpus)
    has_gpus = any(node.gpus for node in nodes)
    key = _quoted(name) if _NAME.fullmatch(name) and name.isprintable() else ""
    yield "# How this cluster wants to be asked for GPUs.\n"
    yield f"clusters:\n  {key}:\n" if key else "cluster_defaults:\n"
    indent = "    " if key else "  "
    yield f"{indent}# gres: --gres=gpu:h100:4; gpus-per-node or gpus: the options of that name\n"
    yield f"{indent}gpu_request: gres\n"
    yield f"{indent}# whether the cluster tells GPU types apart by name\n"
    yield f"{indent}typed: {'true' if typed or not has_gpus else 'false'}\n\n"


def _gpu_types(snapshot: Snapshot) -> Iterator[str]:
    found = {gpus.type for node in snapshot.nodes for gpus in node.gpus if gpus.total}
    types = sorted(name for name in found if _TYPE.fullmatch(name))
    yield "# The GPU types of this cluster; the key is what users give to --gpu-type.\n"
    if not types:
        yield "# (Slurm names none here: an example)\n"
        yield "# gpu_types:\n#   h100:\n#     memory: 80G\n#     price_per_hour: 2.50\n\n"
        return
    yield "gpu_types:\n"
    for name in types:
        has = [
            (node, gpus.total)
            for node in snapshot.nodes
            for gpus in node.gpus
            if gpus.type == name and gpus.total
        ]
        nodes = [node.name for node, _ in has]
        more = ", …" if len(nodes) > _MOST_NODES_NAMED else ""
        total = sum(count for _, count in has)
        named = _said(", ".join(nodes[:_MOST_NODES_NAMED]))
        yield f"  # {total} GPUs on {len(nodes)} nodes ({named}{more})\n"
        yield f"  {_quoted(name)}:\n"
        partitions = _partitions(snapshot.partitions, {node for node, _ in has})
        if partitions:
            yield "    # best first\n"
            yield f"    partitions: [{', '.join(map(_quoted, partitions))}]\n"
        else:
            yield "    partitions: []\n"
        yield "    # memory: 80G\n    # price_per_hour: 2.50\n"
    yield "\n"


def _partitions(partitions: Sequence[Partition], nodes: set[Node]) -> list[str]:
    """Return the partitions that have any of *nodes*, the default one first."""
    names = {name for node in nodes for name in node.partitions}
    order = sorted(partitions, key=lambda item: (not item.default, item.name))
    return [item.name for item in order if item.name in names and _is_name(item.name)]


def _limits(snapshot: Snapshot) -> Iterator[str]:
    accounts = sorted({item.account for item in snapshot.associations} - {"root"})
    yield "# Limits of the site, besides Slurm's own; one that is left out does not limit.\n"
    yield "# limits:\n#   everyone:\n#     gpus: 16\n#     gpus_per_job: 8\n#     time: 3d\n"
    named = [name for name in accounts if _is_name(name)]
    if named:
        yield "#   accounts:\n"
        yield from (f"#     {_quoted(name)}: {{gpus: 16}}\n" for name in named)
    yield "\n"


def _is_account(text: str) -> bool:
    return bool(_ACCOUNT.fullmatch(text))


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and text.isprintable()


def _quoted(text: str) -> str:
    """Return *text* as a YAML scalar that is read back as it stands."""
    if _PLAIN.fullmatch(text) and text not in _NULL:
        return text
    return "'" + text.replace("'", "''") + "'"


def _said(text: str) -> str:
    """Return *text* for a comment: on one line, printable."""
    return "".join(char if char.isprintable() else "?" for char in text)
