"""Who creates what: settings -> adapters -> services. Nothing is made at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from slurm_gpu_policy.adapters.control.client import ControlClient
    from slurm_gpu_policy.adapters.control.remote_client import RemoteClient
    from slurm_gpu_policy.adapters.control.sealing import Realm
    from slurm_gpu_policy.adapters.rendering.renderer import Renderer
    from slurm_gpu_policy.adapters.slurm.diagnose import Report
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.services.plan import Planning
    from slurm_gpu_policy.services.ports import PromisePort, SlurmPort
    from slurm_gpu_policy.services.submit import Submit

_DOCTORS_PATIENCE_SECONDS = 10


def load_policy(path: str | None = None) -> Policy:
    """Return the policy in force (see :func:`slurm_gpu_policy.config.loader.load_policy`).

    Raises:
        PolicyFileError: the file cannot be read or is wrong, or names a rule that does not exist.
    """
    from slurm_gpu_policy.config import loader  # noqa: PLC0415 - each program pays for what it uses

    policy = loader.load_policy(path)
    need_known_rules(policy, loader.find_policy_file(path) or "")
    return policy


def need_known_rules(policy: Policy, file: str) -> None:
    """Refuse a mistyped rule, which would leave the one that was meant at another level.

    Raises:
        PolicyFileError: the policy names a rule that does not exist.
    """
    if not policy.rules:
        return
    from slurm_gpu_policy.errors import PolicyFileError  # noqa: PLC0415
    from slurm_gpu_policy.policy.rules import KNOWN  # noqa: PLC0415

    unknown = sorted(set(policy.rules) - KNOWN)
    if unknown:
        words = "found no such rule, wanted the id of one (docs/policy.md)"
        raise PolicyFileError(file, [f"{file}: rules.{rule}: {words}" for rule in unknown])


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
        promises=make_promises(policy),
    )


def make_promises(policy: Policy) -> PromisePort | None:
    """Return the site's books, to set amounts aside in; ``None`` where it keeps none."""
    from slurm_gpu_policy.policy.ledger.keeping import keeps_books  # noqa: PLC0415

    if not keeps_books(policy):
        return None
    from slurm_gpu_policy.adapters.control.promises import AskedPromises  # noqa: PLC0415

    return AskedPromises(lambda request: ask_ledger(policy, request))


def make_planning(
    policy: Policy, slurm: SlurmPort, on_wait: Callable[[], None] = lambda: None
) -> Planning:
    """Return the use case of ``gpu-policy plan`` and ``gpu-policy apply``."""
    from slurm_gpu_policy.adapters.files.applied import AppliedFile  # noqa: PLC0415
    from slurm_gpu_policy.adapters.files.local import LocalFiles  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.managing import CommandManaging  # noqa: PLC0415
    from slurm_gpu_policy.resources import folder  # noqa: PLC0415
    from slurm_gpu_policy.services.plan import Planning  # noqa: PLC0415

    return Planning(
        slurm=slurm,
        manage=CommandManaging(policy.slurm.timeout),
        made=AppliedFile(policy.apply.state_folder, on_wait),
        files=LocalFiles(),
        policy=policy,
        script=f"{folder('slurm_conf')}/job_submit.lua",
    )


def realm(policy: Policy) -> Realm:
    """Return whose MUNGE credentials count, by slurm.conf; where it is elsewhere, by Slurm's word.

    Raises:
        SlurmError: neither can be had.
    """
    from slurm_gpu_policy.adapters.control.munge import Munge  # noqa: PLC0415
    from slurm_gpu_policy.adapters.control.sealing import Realm  # noqa: PLC0415
    from slurm_gpu_policy.adapters.identity import user_id_of  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm import conf_file  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.run import run  # noqa: PLC0415
    from slurm_gpu_policy.model.snapshot import Part  # noqa: PLC0415

    found = conf_file.identity()
    if not found:
        config = connect(policy).read(Part.CONFIG).config
        found = conf_file.identity_in(config.settings if config else {})
    slurm_user = user_id_of(found["slurmuser"])
    server_ids = frozenset({0} if slurm_user is None else {0, slurm_user})
    return Realm(found["clustername"], server_ids, Munge(run, found["socket"]))


def make_control_client(
    policy: Policy, *, answer_seconds: float = 90.0
) -> ControlClient | RemoteClient:
    """Return the way by which this machine asks ``gpu-policyd``: its socket, or over the network.

    *answer_seconds* is how long an answer is waited for.
    """
    import os  # noqa: PLC0415

    path, address = policy.controller.socket, policy.controller.reach
    if address and not os.path.exists(path):  # noqa: PTH110 - pathlib costs 4 ms
        from slurm_gpu_policy.adapters.control.remote_client import RemoteClient  # noqa: PLC0415

        return RemoteClient(address, lambda: realm(policy), answer_seconds=answer_seconds)
    from slurm_gpu_policy.adapters.control.client import ControlClient  # noqa: PLC0415

    return ControlClient(path, answer_seconds=answer_seconds)


def ask_controller(policy: Policy, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``gpu-policyd`` answers to a request; ``request["request"]`` is its name.

    Raises:
        ControllerUnavailable: it cannot be reached.
        PolicyLayerError: what it answered with.
    """
    fields = dict(request)
    return make_control_client(policy).ask(fields.pop("request"), **fields)


def ask_ledger(policy: Policy, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what whoever keeps the books answers: ``gpu-policyd``, or this process itself.

    Raises:
        PolicyLayerError: as :func:`ask_controller`, and :meth:`Treasury.handle`.
    """
    if not policy.ledger.own_books:
        return ask_controller(policy, request)
    import os  # noqa: PLC0415

    from slurm_gpu_policy.adapters.identity import caller_of  # noqa: PLC0415
    from slurm_gpu_policy.bootstrap.service import make_own_treasury  # noqa: PLC0415

    return make_own_treasury(policy).handle(caller_of(os.geteuid()), request)
