"""Who creates what: settings -> adapters -> services. Nothing is made at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from slurm_gpu_policy.adapters.control.server import ControlServer
    from slurm_gpu_policy.adapters.metrics import Metrics
    from slurm_gpu_policy.adapters.rendering.renderer import Renderer
    from slurm_gpu_policy.adapters.service_manager import ServiceManager
    from slurm_gpu_policy.adapters.slurm.diagnose import Report
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.services.controller import Controller
    from slurm_gpu_policy.services.plan import Planning
    from slurm_gpu_policy.services.ports import ObserverPort, RecordsPort, SlurmPort
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
    )


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


def need_controller_extra() -> None:
    """Look whether what ``gpu-policyd`` needs beside the others is installed.

    Raises:
        PolicyLayerError: it is not.
    """
    from importlib.util import find_spec  # noqa: PLC0415

    needed = ("alembic", "prometheus_client", "sqlalchemy", "structlog")
    if missing := [name for name in needed if find_spec(name) is None]:
        from slurm_gpu_policy.errors import PolicyLayerError  # noqa: PLC0415

        msg = (
            f"gpu-policyd needs {', '.join(missing)}: "
            "install it with pip install 'slurm-gpu-policy[controller]'"
        )
        raise PolicyLayerError(msg)


def make_controller(
    policy: Policy, observers: Sequence[ObserverPort] = (), tick_seconds: float | None = None
) -> Controller:
    """Return what ``gpu-policyd`` does; *tick_seconds* goes before the policy file's.

    Neither Slurm nor the database is asked for anything yet.

    Raises:
        RecordsUnavailable: the policy file names no database that this program can use.
        SlurmAbsent: as :func:`connect`.
    """
    import os  # noqa: PLC0415
    import socket  # noqa: PLC0415

    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.identity import groups_of  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.people import SlurmPeople  # noqa: PLC0415
    from slurm_gpu_policy.services.controller import Controller  # noqa: PLC0415
    from slurm_gpu_policy.services.directory import Directory  # noqa: PLC0415

    clock = SystemClock()
    actor = policy.controller.actor or f"gpu-policyd@{socket.gethostname().partition('.')[0]}"
    return Controller(
        policy=policy,
        slurm=connect(policy),
        open_records=_records_opener(policy),
        clock=clock,
        directory=Directory(SlurmPeople(read_seconds=policy.slurm.timeout), groups_of, clock),
        observers=observers,
        actor=actor,
        holder=f"{actor}:{os.getpid()}:{os.urandom(4).hex()}",
        tick_seconds=tick_seconds,
    )


def _records_opener(policy: Policy) -> Callable[[str], RecordsPort]:
    from slurm_gpu_policy.adapters.database.connection import Database  # noqa: PLC0415

    database = Database(policy.controller.database)

    def open_records(cluster: str) -> RecordsPort:
        from slurm_gpu_policy.adapters.database.records import DatabaseRecords  # noqa: PLC0415
        from slurm_gpu_policy.adapters.database.upgrade import upgrade  # noqa: PLC0415

        upgrade(database)
        return DatabaseRecords(database, cluster)

    return open_records


def make_control_server(
    policy: Policy,
    handle: Callable[[Caller, Mapping[str, Any]], dict[str, Any]],
    on_defect: Callable[[Exception], None],
) -> ControlServer:
    """Return the socket on which ``gpu-policyd`` is asked; it does not listen yet."""
    from slurm_gpu_policy.adapters.control.server import ControlServer  # noqa: PLC0415
    from slurm_gpu_policy.adapters.identity import caller_of  # noqa: PLC0415

    return ControlServer(policy.controller.socket, handle, caller_of, on_defect)


def make_service_manager() -> ServiceManager:
    """Return the way to systemd, if it started this process."""
    from slurm_gpu_policy.adapters.service_manager import ServiceManager  # noqa: PLC0415

    return ServiceManager()


def make_logger(*, verbose: bool = False) -> Any:
    """Return the controller's own log."""
    from slurm_gpu_policy.adapters import logs  # noqa: PLC0415

    return logs.make_logger(level="debug" if verbose else "info")


def make_log_observer(logger: Any) -> ObserverPort:
    """Return what writes into the log what the controller does."""
    from slurm_gpu_policy.adapters.logs import LogObserver  # noqa: PLC0415

    return LogObserver(logger)


def make_metrics() -> Metrics:
    """Return the controller's metrics; they are not served yet."""
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.metrics import Metrics  # noqa: PLC0415

    return Metrics(SystemClock())


def ask_controller(policy: Policy, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``gpu-policyd`` answers to a request; ``request["request"]`` is its name.

    Raises:
        ControllerUnavailable: it cannot be reached.
        PolicyLayerError: what it answered with.
    """
    from slurm_gpu_policy.adapters.control.client import ControlClient  # noqa: PLC0415

    fields = dict(request)
    return ControlClient(policy.controller.socket).ask(fields.pop("request"), **fields)
