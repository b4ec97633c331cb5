"""A snapshot by commands: which program answers for which part, all run at the same time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.slurm.run import Answer, Call, Started, reading_environment, run
from slurm_gpu_policy.adapters.slurm.words import error_in
from slurm_gpu_policy.errors import SlurmError, SlurmUnavailable
from slurm_gpu_policy.model.snapshot import Part, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_gpu_policy.adapters.slurm.kept_answers import KeptAnswers
    from slurm_gpu_policy.adapters.slurm.parse_jobs import JobReader
    from slurm_gpu_policy.model.account import Association

_SCONTROL = ("scontrol", "-a", "-o")
_WHOLE_CONFIG = "Configuration data as of"
_EMPTY = ("No nodes in the system", "No partitions in the system")
"""What scontrol says, with code 1, to a controller that has freed its tables or not filled them."""
_NOTHING_PENDING = "Unable to find jobs matching"


class Reading:
    """One snapshot in the making: start the programs, then put their answers together."""

    def __init__(
        self,
        parts: frozenset[Part],
        *,
        user: str | None,
        kept: KeptAnswers | None,
        fresh: bool,
        timeout: float,
    ) -> None:
        self._parts = parts
        self._user = user
        self._kept = kept
        self._fresh = fresh
        self._timeout = timeout
        self._jobs: JobReader | None = None
        self._calls: dict[str, Call] = {}
        self._texts: dict[str, str] = {}
        self._plan()
        self._started = Started(list(self._calls.values()), timeout=timeout)

    def finish(self, now: int) -> Snapshot:
        """Wait for the answers and return the snapshot of the moment *now*."""
        for name, answer in zip(self._calls, self._started.answers(), strict=True):
            self._take(name, answer)
        return self._snapshot(now)

    def _plan(self) -> None:
        env = reading_environment()

        def ask(name: str, *argv: str, sink: Callable[[bytes], object] | None = None) -> None:
            self._calls[name] = Call(argv, env=env, sink=sink)

        parts = self._parts
        if Part.JOBS in parts:
            from slurm_gpu_policy.adapters.slurm.parse_jobs import (  # noqa: PLC0415
                JobReader,
                draw_mark,
                squeue_format,
            )

            mark = draw_mark()
            self._jobs = JobReader(mark)
            which = ("-t", "all") if Part.ENDED in parts else ()
            form = squeue_format(mark)
            ask("jobs", "squeue", "-h", "-a", *which, "-O", form, sink=self._jobs.feed)
        if Part.NODES in parts:
            ask("nodes", *_SCONTROL, "-d", "show", "node")
        if Part.PARTITIONS in parts:
            ask("partitions", *_SCONTROL, "show", "partition")
        if Part.RESERVATIONS in parts:
            ask("reservations", *_SCONTROL, "show", "reservation")
        # Associations need the cluster's name, usage the folder of the controller's state.
        if parts & {Part.CONFIG, Part.ASSOCIATIONS, Part.USAGE}:
            ask("config", "scontrol", "show", "config")
        if Part.PRIORITIES in parts:
            from slurm_gpu_policy.adapters.slurm import parse_priority  # noqa: PLC0415

            ask("priorities", "sprio", "-h", "-o", parse_priority.FORMAT)
        if Part.USAGE in parts:
            from slurm_gpu_policy.adapters.slurm import parse_usage  # noqa: PLC0415

            ask("usage", *parse_usage.ARGV)
        if parts & {Part.ASSOCIATIONS, Part.QOS, Part.SHARES}:
            self._plan_accounts(ask)

    def _plan_accounts(self, ask: Callable[..., None]) -> None:
        from slurm_gpu_policy.adapters.slurm import parse_accounts as accounts  # noqa: PLC0415

        def ask_database(name: str, *argv: str) -> None:
            text = self._kept.get(name, argv) if self._kept and not self._fresh else None
            if text is None:
                ask(name, *argv)
            else:
                self._texts[name] = text

        show = ("sacctmgr", "-n", "-P", "show")
        if Part.ASSOCIATIONS in self._parts:
            whose: tuple[str, ...] = ("where", f"user={self._user}") if self._user else ()
            who = ("where", f"name={self._user}") if self._user else ()
            form = accounts.format_of(accounts.ASSOCIATION_FIELDS)
            ask_database("associations", *show, "assoc", *whose, f"format={form}")
            if self._user:
                # The accounts' own rows, where the limits for all their users stand: "nobody"
                # selects them, and no other word of sacctmgr does so beside a user's.
                ask_database("accounts", *show, "assoc", "where", "user=", f"format={form}")
            form = accounts.format_of(accounts.DEFAULT_FIELDS)
            ask_database("users", *show, "user", *who, f"format={form}")
        if Part.QOS in self._parts:
            form = accounts.format_of(accounts.QOS_FIELDS)
            ask_database("qos", *show, "qos", f"format={form}")
        if Part.SHARES in self._parts:
            whose = ("-u", self._user) if self._user else ("-a",)
            form = accounts.format_of(accounts.SHARE_FIELDS)
            ask("shares", "sshare", *whose, "-m", "-h", "-P", "-o", form)

    def _take(self, name: str, answer: Answer) -> None:
        call = self._calls[name]
        # `show config` pings the controller once it has printed all, and fails with the ping.
        if answer.code == 0 or answer.stdout.startswith(_WHOLE_CONFIG):
            self._texts[name] = answer.stdout
            if self._kept and call.argv[0] == "sacctmgr":
                self._kept.put(name, call.argv, answer.stdout)
            return
        error: SlurmError = error_in(answer)
        if answer.stdout.startswith(_EMPTY):
            error = SlurmUnavailable(f"Slurm's controller is starting or stopping: {answer.stdout}")
        old = self._kept.get(name, call.argv, stale=True) if self._kept else None
        if name == "priorities" and _NOTHING_PENDING in str(error):
            self._texts[name] = ""
        elif old is not None and isinstance(error, SlurmUnavailable):
            self._texts[name] = old  # slurmdbd is down; slurmctld goes on without it, so do we
        else:
            raise error

    def _snapshot(self, now: int) -> Snapshot:
        texts = self._texts
        found: dict[str, Any] = {}
        if texts.keys() & {"nodes", "partitions", "reservations", "config"}:
            self._take_cluster(found)
        if self._jobs is not None:
            found["jobs"] = self._jobs.close()
            found["unknown_states"] = self._jobs.unknown_states
        if "priorities" in texts:
            from slurm_gpu_policy.adapters.slurm import parse_priority  # noqa: PLC0415

            found["priorities"] = parse_priority.priorities(texts["priorities"])
        if texts.keys() & {"associations", "shares", "qos", "usage"}:
            from slurm_gpu_policy.adapters.slurm import parse_accounts  # noqa: PLC0415

            if "qos" in texts:
                found["qos"] = parse_accounts.qos(texts["qos"])
            if texts.keys() & {"associations", "shares", "usage"}:
                found["associations"] = self._associations()
        return Snapshot(time=now, **found)

    def _take_cluster(self, found: dict[str, Any]) -> None:
        from slurm_gpu_policy.adapters.slurm import parse_cluster  # noqa: PLC0415

        texts = self._texts
        for name in ("nodes", "partitions", "reservations", "config"):
            if name in texts and Part(name) in self._parts:
                found[name] = getattr(parse_cluster, name)(texts[name])
        if "usage" in texts:
            from slurm_gpu_policy.adapters.slurm import conf_file, parse_usage  # noqa: PLC0415

            config = found.get("config") or parse_cluster.config(texts["config"])
            found["calculated_at"] = parse_usage.last_calculation(config.settings)
            if "config" in found:
                found["config"] = replace(config, settings=conf_file.corrected(config.settings))

    def _associations(self) -> tuple[Association, ...]:
        from slurm_gpu_policy.adapters.slurm import parse_accounts as accounts  # noqa: PLC0415

        texts = self._texts
        shares = accounts.shares(texts["shares"]) if "shares" in texts else ()
        found = self._from_database(shares) if "associations" in texts else shares
        if "usage" not in texts:
            return tuple(found)
        from slurm_gpu_policy.adapters.slurm import parse_usage  # noqa: PLC0415

        usage = parse_usage.usage(texts["usage"])
        merged = accounts.with_usage(found, usage)
        if "associations" not in texts:
            merged = merged[: len(usage)]  # what the controller hides has no usage
        if (
            shares
            and parse_usage.worth_exact(merged)
            and self._release() >= parse_usage.EXACT_SINCE
        ):
            call = run(parse_usage.EXACT_ARGV, timeout=self._timeout, env=reading_environment())
            if call.code == 0:
                return parse_usage.exact(merged, call.stdout)
        return parse_usage.sharpened(merged)

    def _release(self) -> tuple[int, int]:
        from slurm_gpu_policy.adapters.slurm import parse_cluster  # noqa: PLC0415

        return parse_cluster.config(self._texts["config"]).release

    def _from_database(self, shares: tuple[Association, ...]) -> tuple[Association, ...]:
        from slurm_gpu_policy.adapters.slurm import parse_accounts as accounts  # noqa: PLC0415
        from slurm_gpu_policy.adapters.slurm import parse_cluster  # noqa: PLC0415

        texts = self._texts
        here = parse_cluster.config(texts["config"]).name
        found = accounts.associations(texts["associations"], here)
        if "accounts" in texts:
            found += accounts.above(found, accounts.associations(texts["accounts"], here))
        marked = accounts.mark_defaults(found, accounts.defaults(texts["users"]))
        return accounts.with_shares(marked, shares) if shares else marked
