"""The site's policy file, field by field.

This is the only definition of the file: ``docs/configuration.md`` is generated from it, the
loader validates with it, and the rest of the program reads attributes of the same names.
At run time the rest of the program holds a frozen copy without pydantic (see
``config/frozen.py``), so these classes have fields and checks but no methods to call.

Durations become seconds, memory MiB, prices micro-units of ``currency``: integers all.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from slurm_gpu_policy.config.accounts import Account, ManagedName, NoTwins
from slurm_gpu_policy.config.applying import Apply
from slurm_gpu_policy.config.approvals import Approvals
from slurm_gpu_policy.config.budgets import Budget, Ledger
from slurm_gpu_policy.config.builtin import WORKLOADS
from slurm_gpu_policy.config.controller import Controller
from slurm_gpu_policy.config.fields import (
    Count,
    Duration,
    GpuTypeName,
    LowerCase,
    Memory,
    Name,
    PoolName,
    Positive,
    Price,
    RuleId,
    Strict,
    Version,
)
from slurm_gpu_policy.config.notify import Notify
from slurm_gpu_policy.config.ordering import Ordering
from slurm_gpu_policy.config.over_quota import OverQuota
from slurm_gpu_policy.config.pricing import Pricing
from slurm_gpu_policy.config.qos import Qos
from slurm_gpu_policy.config.retries import Retries
from slurm_gpu_policy.config.submission import Submission

Level = Literal["observe", "advise", "enforce"]


class Cluster(Strict):
    """How one cluster wants to be asked. The key is Slurm's ClusterName."""

    gpu_request: Literal["gres", "gpus-per-node", "gpus"] = Field(
        default="gres",
        description="The form of GPU requests: `--gres=gpu:h100:4`, `--gpus-per-node=h100:4` "
        "or `--gpus=h100:4`.",
    )
    typed: bool = Field(
        default=True,
        description="Whether requests name the GPU type. `false` for a site whose GRES has no "
        "types; it tells types apart by partition or feature.",
    )


class GpuType(Strict):
    """One kind of GPU. The key is the name users give to `--gpu-type`."""

    gres_type: GpuTypeName | None = Field(
        default=None, description="Slurm's type name in gres.conf; the key itself if left out."
    )
    memory: Memory | None = Field(
        default=None,
        description="Memory of one GPU, such as `80G`; for people, nothing decides by it yet.",
    )
    price_per_hour: Price | None = Field(
        default=None, description="Price of one GPU for an hour, in `currency`, such as `2.50`."
    )
    partitions: tuple[Name, ...] = Field(
        default=(),
        description="Partitions to use for it, best first; any that has such nodes if empty.",
    )
    features: tuple[Name, ...] = Field(
        default=(), description="Node features a job needs to get it (`--constraint`)."
    )


class CpuFallback(Strict):
    """What `--fallback cpu` may do with a job of this class."""

    allowed: bool = Field(default=False, description="Whether the class can run without a GPU.")
    cpus_per_gpu: Positive = Field(default=8, description="CPUs to ask for in place of each GPU.")
    partitions: tuple[Name, ...] = Field(
        default=(), description="Partitions to use, best first; any without GPUs if empty."
    )


class Workload(Strict):
    """One workload class (`--workload`). Fields left out keep their built-in value."""

    description: str = Field(default="", description="One line for `gpu-policy workloads`.")
    pools: tuple[PoolName, ...] = Field(
        default=("*",),
        description="GPU types in order of preference; `*` stands for all others, cheapest first.",
    )
    partitions: tuple[Name, ...] = Field(
        default=(), description="Partitions to prefer for this class, best first."
    )
    default_time: Duration | None = Field(
        default=None, description="Time limit where the user gives none; else the partition's."
    )
    template: Name = Field(default="batch", description="Script template.")
    qos: Name | None = Field(default=None, description="QOS where the user gives none.")
    cpu_fallback: CpuFallback = Field(
        default=CpuFallback(), description="What `--fallback cpu` may do."
    )


class Limit(Strict):
    """A set of limits; one left out does not limit."""

    gpus: Count | None = Field(default=None, description="GPUs held at once.")
    gpus_per_job: Count | None = Field(default=None, description="GPUs of one job.")
    time: Duration | None = Field(default=None, description="Time limit of one job.")


class Limits(Strict):
    """Who may ask for how much. Slurm's own limits hold besides these."""

    everyone: Limit = Field(default=Limit(), description="For each user that has no own entry.")
    users: dict[Name, Limit] = Field(default_factory=dict, description="By user name.")
    accounts: Annotated[dict[Name, Limit], LowerCase] = Field(
        default_factory=dict, description="By Slurm account; `gpus` counts the whole account."
    )
    workloads: dict[Name, Limit] = Field(
        default_factory=dict, description="By workload class; `gpus` counts one user's jobs of it."
    )


class Defaults(Strict):
    """What a request gets where its user says nothing."""

    workload: Name = Field(default="generic", description="Workload class.")
    gpus: Count = Field(default=1, description="GPUs of a command that asks for none itself.")
    gpu_type: GpuTypeName | None = Field(
        default=None, description="GPU type; by workload class if left out."
    )
    account: Name | None = Field(
        default=None, description="Account; the user's default account if left out."
    )
    partition: Name | None = Field(default=None, description="Partition to prefer.")
    qos: Name | None = Field(default=None, description="QOS; Slurm's default if left out.")
    time: Duration | None = Field(
        default=None, description="Time limit where the workload class has none either."
    )
    cpus_per_gpu: Positive | None = Field(
        default=None, description="CPUs to ask for with each GPU; Slurm's default if left out."
    )
    memory_per_gpu: Memory | None = Field(
        default=None, description="Memory to ask for with each GPU; Slurm's default if left out."
    )


class Slurm(Strict):
    """How this program reaches Slurm."""

    adapter: Literal["auto", "pyslurm", "commands"] = Field(
        default="auto",
        description="`auto` takes pyslurm where it imports and fits Slurm's release, else the "
        "commands. For a few calls it stays with the commands, because importing pyslurm takes "
        "as long as a dozen of them; `pyslurm` insists.",
    )
    timeout: Duration = Field(
        default=30, description="How long one call to Slurm may take before it counts as lost."
    )
    retry_for: Duration = Field(
        default=120,
        description="How long a submission keeps trying while the controller is away; then "
        "`gpu-submit` ends with code 4.",
    )


class Policy(Strict):
    """The whole file."""

    version: Version = Field(default=1, description="Version of this file's form.")
    currency: str = Field(
        default="credits",
        pattern=r"^[A-Za-z][A-Za-z0-9 _-]{0,15}$",
        description="Name of the unit prices are in: `EUR`, `USD`, `credits`.",
    )
    enforcement: Level = Field(
        default="observe",
        description="What happens where a limit of the site is exceeded: `observe` notes it, "
        "`advise` warns, `enforce` refuses. What Slurm cannot run is always refused. The "
        "controller takes it for its actions too: only under `enforce` does it act.",
    )
    rules: dict[RuleId, Level] = Field(
        default_factory=dict,
        description="Enforcement of single rules (docs/policy.md) where it differs.",
    )
    accounts: Annotated[dict[ManagedName, Account], NoTwins, LowerCase] = Field(
        default_factory=dict,
        description="Slurm accounts by name: what `gpu-policy apply` keeps in Slurm, and each "
        "account's guaranteed share of GPUs.",
    )
    qos: Annotated[dict[ManagedName, Qos], NoTwins, LowerCase] = Field(
        default_factory=dict,
        description="Slurm's QOS by name: what `gpu-policy apply` keeps in Slurm.",
    )
    apply: Apply = Field(default=Apply(), description="What `gpu-policy apply` writes, and where.")
    ordering: Ordering | None = Field(
        default=None,
        description="Who goes first (rules P-6xx). Left out, no site factor is touched, "
        "save for the place in the queue that a retry keeps (T-804).",
    )
    over_quota: OverQuota | None = Field(
        default=None,
        description="What becomes of jobs beyond their account's guarantee (rules Q-7xx). Left "
        "out, no job's QOS is touched.",
    )
    on_failure: Literal["open", "closed"] = Field(
        default="open",
        description="Whether a raw job passes that job_submit.lua fails over (an error in the "
        "script itself): `open` lets it pass, `closed` refuses it.",
    )
    clusters: dict[Name, Cluster] = Field(
        default_factory=dict,
        description="Clusters by Slurm's ClusterName.",
    )
    cluster_defaults: Cluster = Field(
        default=Cluster(), description="For clusters that `clusters` does not name."
    )
    gpu_types: dict[GpuTypeName, GpuType] = Field(
        default_factory=dict,
        description="GPU types by name. A type the cluster has is usable also when it is not "
        "listed; it then has no price.",
    )
    workloads: dict[Name, Workload] = Field(
        default_factory=dict,
        description="Workload classes by name: the built-in ones, and the site's own.",
    )
    pricing: Pricing | None = Field(
        default=None, description="What jobs cost, beside the prices in `gpu_types`."
    )
    budgets: dict[ManagedName, Budget] = Field(
        default_factory=dict, description="Who may spend how much, by name."
    )
    ledger: Ledger = Field(
        default=Ledger(), description="How the books are kept, and what follows from them."
    )
    limits: Limits = Field(default=Limits(), description="Limits of the site.")
    retries: Retries = Field(
        default=Retries(), description="When a job that ended is started again."
    )
    approvals: Approvals = Field(
        default=Approvals(), description="Which jobs wait for an approval, and whose."
    )
    operators: tuple[Name, ...] = Field(
        default=(),
        description="Users who may act as operators through `gpu-policy`, besides root, SlurmUser "
        "and those whom Slurm itself calls Operator or Administrator.",
    )
    defaults: Defaults = Field(default=Defaults(), description="What requests get by default.")
    submission: Submission = Field(
        default=Submission(), description="What raw sbatch, srun and salloc are held to."
    )
    template_folders: tuple[str, ...] = Field(
        default=(),
        description="Folders with the site's own templates, of scripts (`NAME.sh.j2`) and mails "
        "(`NAME.txt.j2`); they come before the built-in ones of the same name.",
    )
    notify: Notify = Field(default=Notify(), description="How people are told what concerns them.")
    slurm: Slurm = Field(default=Slurm(), description="How Slurm is reached.")
    controller: Controller = Field(default=Controller(), description="How `gpu-policyd` runs.")

    @model_validator(mode="before")
    @classmethod
    def _start_from_builtin_workloads(cls, data: Any) -> Any:
        """Lay the site's workload classes over the built-in ones, field by field."""
        if not isinstance(data, dict):
            return data
        site = data.get("workloads") or {}
        if not isinstance(site, dict) or not all(isinstance(v, dict) for v in site.values()):
            return data
        merged = {name: {**WORKLOADS.get(name, {}), **site.get(name, {})} for name in WORKLOADS}
        return {
            **data,
            "workloads": {**merged, **{k: v for k, v in site.items() if k not in merged}},
        }
