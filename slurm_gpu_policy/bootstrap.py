"""Who creates what: settings -> adapters -> services. Nothing is made at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_gpu_policy.adapters.rendering.renderer import Renderer
    from slurm_gpu_policy.adapters.slurm.diagnose import Report
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.services.ports import SlurmPort
    from slurm_gpu_policy.services.submit import Submit

_DOCTORS_PATIENCE_SECONDS = 10


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
    """Return the way to Slurm that the policy file chooses.

    Raises:
        SlurmAbsent: ``$SLURM_CONF`` names no file; Slurm's programs would look for it a minute.
    """
    import os  # noqa: PLC0415

    conf = os.environ.get("SLURM_CONF")
    if conf and not os.path.exists(conf):  # noqa: PTH110 - pathlib costs 4 ms
        from slurm_gpu_policy.errors import SlurmAbsent  # noqa: PLC0415

        msg = f"Slurm is not set up here: $SLURM_CONF names {conf}, and there is no such file"
        raise SlurmAbsent(msg)
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.select import select_slurm  # noqa: PLC0415

    slurm, _why = select_slurm(
        policy.slurm.adapter, clock=SystemClock(), timeout_seconds=policy.slurm.timeout
    )
    return slurm


def diagnose(policy: Policy) -> Report:
    """Return what there is to know about the way to Slurm; what is broken is in the report.

    Raises:
        SlurmUnavailable: the policy file chooses an adapter that is not installed.
    """
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.identity import current_user  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.diagnose import diagnose  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.select import select_slurm  # noqa: PLC0415
    from slurm_gpu_policy.errors import SlurmError  # noqa: PLC0415

    clock = SystemClock()
    patience = min(policy.slurm.timeout, _DOCTORS_PATIENCE_SECONDS)
    slurm, why = select_slurm(policy.slurm.adapter, clock=clock, timeout_seconds=patience)
    try:
        adapter = slurm.description
    except SlurmError:
        adapter = ""
    return diagnose(slurm, adapter, why, current_user(), clock.now())


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
    from slurm_gpu_policy.adapters.identity import groups_of  # noqa: PLC0415
    from slurm_gpu_policy.services.submit import Submit  # noqa: PLC0415

    return Submit(
        slurm=slurm,
        renderer=make_renderer(policy),
        policy=policy,
        clock=SystemClock(),
        new_token=lambda: os.urandom(10).hex(),
        groups_of=groups_of,
        on_wait=on_wait,
    )
