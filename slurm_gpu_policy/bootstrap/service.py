"""What ``gpu-policyd`` is made of, and the books that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from slurm_gpu_policy.adapters.control.server import ControlServer
    from slurm_gpu_policy.adapters.database.connection import Database
    from slurm_gpu_policy.adapters.metrics import Metrics
    from slurm_gpu_policy.adapters.notify.notifier import Notifier
    from slurm_gpu_policy.adapters.notify.way import Way
    from slurm_gpu_policy.adapters.service_manager import ServiceManager
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.controller import Controller
    from slurm_gpu_policy.services.directory import Directory
    from slurm_gpu_policy.services.ledger.books import LedgerPort
    from slurm_gpu_policy.services.ledger.money import Follower, Money
    from slurm_gpu_policy.services.ledger.treasury import Treasury
    from slurm_gpu_policy.services.ports import (
        NotifyPort,
        ObserverPort,
        RecordsPort,
        SlurmPort,
    )

from slurm_gpu_policy import bootstrap


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
    policy: Policy,
    observers: Sequence[ObserverPort] = (),
    tick_seconds: float | None = None,
    notify: NotifyPort | None = None,
) -> Controller:
    """Return what ``gpu-policyd`` does; *tick_seconds* goes before the policy file's.

    People are told of budgets that run out where there is *notify*. Neither Slurm nor the
    database is asked for anything yet.

    Raises:
        RecordsUnavailable: the policy file names no database that this program can use.
        SlurmAbsent: as :func:`connect`.
    """
    import os  # noqa: PLC0415
    import socket  # noqa: PLC0415

    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.database.connection import Database  # noqa: PLC0415
    from slurm_gpu_policy.services.controller import Controller  # noqa: PLC0415

    clock = SystemClock()
    slurm = bootstrap.connect(policy)
    database = Database(policy.controller.database)
    actor = policy.controller.actor or f"gpu-policyd@{socket.gethostname().partition('.')[0]}"
    return Controller(
        policy=policy,
        slurm=slurm,
        open_records=_records_opener(database),
        clock=clock,
        directory=make_directory(policy),
        observers=observers,
        actor=actor,
        holder=f"{actor}:{os.getpid()}:{os.urandom(4).hex()}",
        tick_seconds=tick_seconds,
        open_money=_money_opener(policy, slurm, database, actor, notify),
    )


def make_directory(policy: Policy) -> Directory:
    """Return who may do what."""
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.identity import groups_of  # noqa: PLC0415
    from slurm_gpu_policy.adapters.slurm.people import SlurmPeople  # noqa: PLC0415
    from slurm_gpu_policy.services.directory import Directory  # noqa: PLC0415

    people = SlurmPeople(read_seconds=policy.slurm.timeout)
    return Directory(people, groups_of, SystemClock())


def _money_opener(
    policy: Policy, slurm: SlurmPort, database: Database, actor: str, notify: NotifyPort | None
) -> Callable[[str, Callable[[], Policy]], Money]:
    def open_money(cluster: str, present: Callable[[], Policy]) -> Money:
        from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
        from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger  # noqa: PLC0415
        from slurm_gpu_policy.adapters.files.local import LocalFiles  # noqa: PLC0415
        from slurm_gpu_policy.adapters.slurm.limiting import CommandLimits  # noqa: PLC0415
        from slurm_gpu_policy.services.ledger.charge import Charging  # noqa: PLC0415
        from slurm_gpu_policy.services.ledger.enforcing import Enforcing  # noqa: PLC0415
        from slurm_gpu_policy.services.ledger.money import Money  # noqa: PLC0415
        from slurm_gpu_policy.services.ledger.warn import BudgetWarnings  # noqa: PLC0415

        ledger = DatabaseLedger(database, cluster)
        enforcing = Enforcing(CommandLimits(policy.slurm.timeout), ledger, LocalFiles())
        followers: list[Follower] = [enforcing.run]
        if notify is not None:
            warnings = BudgetWarnings(ledger, notify, make_directory(policy).coordinators)

            def warn(snapshot: Snapshot, policy: Policy, state: LedgerState) -> tuple[str, ...]:
                warnings.run(state, snapshot, policy)
                return ()

            followers.append(warn)
        return Money(
            ledger,
            Charging(ledger, slurm, SystemClock(), actor),
            _treasury(policy, ledger, present),
            tuple(followers),
            enforcing.forget,
        )

    return open_money


def _treasury(policy: Policy, ledger: LedgerPort, present: Callable[[], Policy]) -> Treasury:
    """Return what answers requests to the books; it shares nothing else with a tick beside it."""
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.services.ledger.reconcile import Reconciling  # noqa: PLC0415
    from slurm_gpu_policy.services.ledger.treasury import Treasury  # noqa: PLC0415

    slurm = bootstrap.connect(policy)
    return Treasury(
        ledger=ledger,
        slurm=slurm,
        policy=present,
        clock=SystemClock(),
        directory=make_directory(policy),
        reconcile=Reconciling(slurm, ledger),
    )


def _records_opener(database: Database) -> Callable[[str], RecordsPort]:
    def open_records(cluster: str) -> RecordsPort:
        from slurm_gpu_policy.adapters.database.records import DatabaseRecords  # noqa: PLC0415
        from slurm_gpu_policy.adapters.database.upgrade import upgrade  # noqa: PLC0415

        upgrade(database)
        return DatabaseRecords(database, cluster)

    return open_records


def make_own_treasury(policy: Policy) -> Treasury:
    """Return the books that this process keeps itself (``ledger.own_books``), brought up to date.

    Raises:
        PolicyLayerError: Slurm cannot be read, or there is no such database.
    """
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.identity import current_user  # noqa: PLC0415
    from slurm_gpu_policy.errors import SlurmUnreadable  # noqa: PLC0415
    from slurm_gpu_policy.model.snapshot import Part  # noqa: PLC0415
    from slurm_gpu_policy.services.ledger.charge import Charging  # noqa: PLC0415

    need_controller_extra()
    slurm = bootstrap.connect(policy)
    snapshot = slurm.read(Part.JOBS, Part.ENDED, Part.ASSOCIATIONS, Part.QOS, Part.CONFIG)
    if snapshot.config is None or not snapshot.config.name:
        msg = "Slurm does not say what its cluster is called (scontrol show config)"
        raise SlurmUnreadable(msg)
    ledger = open_ledger(policy, snapshot.config.name)
    Charging(ledger, slurm, SystemClock(), current_user()).run(snapshot, policy)
    return _treasury(policy, ledger, lambda: policy)


def open_ledger(policy: Policy, cluster: str) -> LedgerPort:
    """Return the books of a cluster in ``controller.database``, made or upgraded if need be.

    Raises:
        RecordsUnavailable: the database cannot be reached.
    """
    from slurm_gpu_policy.adapters.database.connection import Database  # noqa: PLC0415
    from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger  # noqa: PLC0415
    from slurm_gpu_policy.adapters.database.upgrade import upgrade  # noqa: PLC0415

    database = Database(policy.controller.database)
    upgrade(database)
    return DatabaseLedger(database, cluster)


def make_control_servers(
    policy: Policy,
    handle: Callable[[Caller, Mapping[str, Any]], dict[str, Any]],
    on_defect: Callable[[Exception], None],
) -> dict[str, ControlServer]:
    """Return by its place each door at which ``gpu-policyd`` is asked; none listens yet."""
    from slurm_gpu_policy.adapters.control.doors import MungeDoor, UnixDoor  # noqa: PLC0415
    from slurm_gpu_policy.adapters.control.server import ControlServer  # noqa: PLC0415
    from slurm_gpu_policy.adapters.identity import caller_of  # noqa: PLC0415

    path, address = policy.controller.socket, policy.controller.listen
    servers = {path: ControlServer(UnixDoor(path), handle, caller_of, on_defect)}
    if address:
        door = MungeDoor(address, lambda: bootstrap.realm(policy))
        servers[address] = ControlServer(door, handle, caller_of, on_defect)
    return servers


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


def make_ways(policy: Policy) -> tuple[Way, ...]:
    """Return the ways to tell people that the policy file sets up; nothing is opened yet."""
    ways: list[Way] = []
    if policy.notify.mail is not None:
        from slurm_gpu_policy.adapters.notify.mail import Mail  # noqa: PLC0415
        from slurm_gpu_policy.adapters.notify.wording import Wording  # noqa: PLC0415

        ways.append(Mail(policy.notify.mail, Wording(policy.template_folders)))
    if policy.notify.webhook is not None:
        from slurm_gpu_policy.adapters.notify.webhook import Webhook  # noqa: PLC0415

        ways.append(Webhook(policy.notify.webhook))
    return tuple(ways)


def make_notifier(policy: Policy, logger: Any, observers: Sequence[ObserverPort] = ()) -> Notifier:
    """Return what sends notices in the background; into the log where no way is set up."""
    from slurm_gpu_policy.adapters.notify.notifier import Notifier  # noqa: PLC0415

    notifier = Notifier((), observers)
    renew_notifier(notifier, policy, logger)
    return notifier


def renew_notifier(notifier: Notifier, policy: Policy, logger: Any) -> None:
    """Let it send as *policy* wants it from now on."""
    from slurm_gpu_policy.adapters.notify.log import Log  # noqa: PLC0415

    notifier.use(make_ways(policy) or (Log(logger),), policy.notify.tries)


def make_metrics() -> Metrics:
    """Return the controller's metrics; they are not served yet."""
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.adapters.metrics import Metrics  # noqa: PLC0415

    return Metrics(SystemClock())


def make_ledger_metrics(metrics: Metrics) -> ObserverPort:
    """Return what shows the books among these metrics."""
    from slurm_gpu_policy.adapters.ledger_metrics import LedgerMetrics  # noqa: PLC0415

    ledger = LedgerMetrics()
    metrics.registry.register(ledger)
    return ledger
