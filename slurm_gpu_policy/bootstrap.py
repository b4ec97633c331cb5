"""Who creates what: settings -> adapters -> services. Nothing is made at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_gpu_policy.adapters.rendering.renderer import Renderer
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.finding import Finding
    from slurm_gpu_policy.services.ports import SlurmPort
    from slurm_gpu_policy.services.submit import Submit


def load_policy(path: str | None = None) -> Policy:
    """Return the policy in force (see :func:`slurm_gpu_policy.config.loader.load_policy`)."""
    from slurm_gpu_policy.config import loader  # noqa: PLC0415 - each program pays for what it uses

    return loader.load_policy(path)


def default_policy() -> Policy:
    """Return the policy of a site without a policy file, whatever file is in force."""
    from slurm_gpu_policy.config.frozen import from_plain, to_plain  # noqa: PLC0415
    from slurm_gpu_policy.config.schema import Policy  # noqa: PLC0415 - pydantic

    return from_plain(to_plain(Policy()))


def connect(policy: Policy) -> SlurmPort:
    """Return the way to Slurm that the policy file chooses."""
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.select import select_slurm  # noqa: PLC0415

    slurm, _why = select_slurm(
        policy.slurm.adapter, clock=SystemClock(), timeout_seconds=policy.slurm.timeout
    )
    return slurm


def diagnose(policy: Policy) -> tuple[Finding, ...]:
    """Return how Slurm is reached, and why so.

    Raises:
        SlurmUnavailable: it is not.
    """
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.select import select_slurm  # noqa: PLC0415
    from slurm_gpu_policy.model.finding import Finding  # noqa: PLC0415

    slurm, why = select_slurm(
        policy.slurm.adapter, clock=SystemClock(), timeout_seconds=policy.slurm.timeout
    )
    return (Finding("ok", "adapter", f"{slurm.description} ({why})"),)


def make_renderer(policy: Policy) -> Renderer:
    """Return the renderer with the site's template folders before the built-in ones."""
    from slurm_gpu_policy.adapters.rendering.renderer import Renderer  # noqa: PLC0415

    return Renderer(folders=policy.template_folders)


def make_submit(
    policy: Policy, slurm: SlurmPort, on_wait: Callable[[str], None] = lambda _: None
) -> Submit:
    """Return the use case of ``gpu-submit``."""
    import os  # noqa: PLC0415

    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.services.submit import Submit  # noqa: PLC0415

    return Submit(
        slurm=slurm,
        renderer=make_renderer(policy),
        policy=policy,
        clock=SystemClock(),
        new_token=lambda: os.urandom(10).hex(),
        on_wait=on_wait,
    )
