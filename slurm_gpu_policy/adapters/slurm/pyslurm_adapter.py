"""Slurm through pyslurm, where that is quicker than starting a program.

Submitting, steering and who holds which GPU go through the library: a millisecond each
instead of five, and one process for a thousand. Snapshots, fair share, priorities, accounting,
many changes at once (one scontrol does 2,000 in a second, pyslurm 1,100) and everything about
whole arrays go through the commands, which this class extends: pyslurm has no fair share, no
``sprio``, no billing weights, reads arrays and dependencies with less detail, decodes names
strictly, and holds Python's lock while it waits.

pyslurm 25.11's defects, each worked around below and named in tests/unit/adapters/slurm:

* the numbers 0 for ``nice`` and ``site_factor`` mean "not set": texts are passed;
* ``hold(mode="user")`` crashes the process: never called;
* ``cancel()`` of an unknown job says nothing, and a stale errno may say anything: the job is
  looked up first, and a failure is asked of scancel;
* signals only under their full names;
* ``modify`` of an array changes its waiting tasks only: arrays go through scontrol;
* what a site's job_submit plugin tells the user goes to the C library's standard error: it is
  caught there.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.slurm.commands import SUBMIT_SECONDS, CommandSlurm
from slurm_gpu_policy.adapters.slurm.run import READ_SECONDS
from slurm_gpu_policy.adapters.slurm.states import job_state
from slurm_gpu_policy.adapters.slurm.words import error_for
from slurm_gpu_policy.errors import SlurmError, SlurmUnavailable
from slurm_gpu_policy.model.hostlist import indexes
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import NodeAllocation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from slurm_gpu_policy.adapters.slurm.kept_answers import KeptAnswers
    from slurm_gpu_policy.model.submission import Submission
    from slurm_gpu_policy.services.ports import Clock

_PYSLURM = ("pyslurm",)
_WORTH_IT = 20
"""Calls from which on importing pyslurm (80 ms) costs less than starting programs (5 ms)."""
_NO_LAUNCHERS = "disable_slurm_hydra_bootstrap"
"""Word in LaunchParameters that keeps sbatch from setting up MPI's launchers."""


class PyslurmSlurm(CommandSlurm):
    """Implements :class:`slurm_gpu_policy.services.ports.SlurmPort`."""

    def __init__(
        self,
        clock: Clock,
        *,
        read_seconds: float = READ_SECONDS,
        submit_seconds: float = SUBMIT_SECONDS,
        kept: KeptAnswers | None = None,
        always: bool = True,
    ) -> None:
        """*always* uses the library for a single call too, and insists that it fits.

        Importing pyslurm takes as long as a dozen sbatch, so otherwise it is loaded for many
        calls only, and left alone where it does not fit.
        """
        super().__init__(clock, read_seconds=read_seconds, submit_seconds=submit_seconds, kept=kept)
        self._always = always
        self._library: Any = None
        self._config: Any = None
        self._why_not = ""

    @property
    def why_not(self) -> str:
        """Why the library cannot be used; ``""`` if it can, or was not looked at yet."""
        return self._why_not

    @property
    def description(self) -> str:
        """Such as ``pyslurm 25.11.2 and commands of Slurm 26.05.5``."""
        library = self._load_library(calls=_WORTH_IT)
        commands = super().description
        return f"pyslurm {library.__version__} and {commands}" if library else commands

    # --- reading ---------------------------------------------------------------------------

    def allocations(
        self, job_ids: Sequence[str] = ()
    ) -> Mapping[JobId, tuple[NodeAllocation, ...]]:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.allocations`."""
        library = self._load_library()
        if library is None or job_ids:  # the library cannot load some jobs only
            return super().allocations(job_ids)
        found = {}
        for number, job in self._call(library.Jobs.load).items():
            if job_state(job.state).is_active and (layout := job.get_resource_layout_per_node()):
                found[JobId(int(number))] = tuple(_held(layout))
        return found

    # --- submitting ------------------------------------------------------------------------

    def submit(self, submission: Submission) -> JobId:
        """See :meth:`slurm_gpu_policy.services.ports.SubmitPort.submit`."""
        library = self._load_library()
        if library is None:
            return super().submit(submission)
        said = self._said(submission)
        if said is None:
            return super().submit(submission)
        try:
            job_id = self._call(lambda: library.JobSubmitDescription(**said).submit())
        except (TypeError, ValueError):  # raised while it reads the attributes: nothing was sent
            return super().submit(submission)
        return JobId(int(job_id))

    def submit_many(self, submissions: Sequence[Submission]) -> tuple[JobId | Exception, ...]:
        """See :meth:`slurm_gpu_policy.services.ports.SubmitPort.submit_many`."""
        if self._load_library(calls=len(submissions)) is None:
            return super().submit_many(submissions)
        answers: dict[int, JobId | Exception] = {}
        for_sbatch: list[int] = []
        away: SlurmUnavailable | None = None
        for place, submission in enumerate(submissions):
            if away is not None:  # each further try would wait ten seconds for the same answer
                answers[place] = SlurmUnavailable(f"not tried: {away}")
                continue
            try:
                if self._said(submission) is None:
                    for_sbatch.append(place)
                else:
                    answers[place] = self.submit(submission)
            except SlurmUnavailable as error:
                answers[place] = away = error
            except SlurmError as error:
                answers[place] = error
        # What only sbatch can say goes to several of them at once, not to one after another.
        if for_sbatch:
            said = super().submit_many([submissions[place] for place in for_sbatch])
            answers |= dict(zip(for_sbatch, said, strict=True))
        return tuple(answers[place] for place in range(len(submissions)))

    def _said(self, submission: Submission) -> dict[str, Any] | None:
        """Return the submission in pyslurm's words; ``None`` where only sbatch has them."""
        from slurm_gpu_policy.adapters.slurm.pyslurm_submission import (  # noqa: PLC0415
            Inexpressible,
            description,
        )

        if self._config is None:
            self._config = self._call(self._library.slurmctld.Config.load)
        if self._config.cli_filter_plugins:  # the site checks submissions in sbatch itself
            return None
        launchers = _NO_LAUNCHERS not in str(self._config.launch_parameters)
        try:
            said = description(submission, os.environ, launchers=launchers)
        except Inexpressible:
            return None
        return said if submission.submit_as is None else said | _person(submission.submit_as)

    # --- steering --------------------------------------------------------------------------

    def script(self, job_id: str) -> str:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.script`."""
        if self._load_library() is None or not job_id.isdigit():
            return super().script(job_id)
        try:
            text = self._call(self._library.Job(int(job_id)).get_batch_script, job_id)
        except (UnicodeDecodeError, SlurmError):
            return super().script(job_id)  # with bytes that are no UTF-8, or to say why not
        return str(text)

    def cancel(self, job_id: str, *, signal: str | None = None) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.cancel`."""
        from slurm_gpu_policy.adapters.slurm.pyslurm_submission import (  # noqa: PLC0415
            full_signal,
        )

        if self._load_library() is None or not job_id.isdigit():
            super().cancel(job_id, signal=signal)
            return
        job = self._load(job_id)
        try:
            if signal is None:
                self._call(job.cancel, job_id)
            else:
                self._call(lambda: job.send_signal(full_signal(signal), steps="all"), job_id)
        except (SlurmError, ValueError):
            super().cancel(job_id, signal=signal)

    def hold(self, job_id: str) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.hold`."""
        if (job := self._single(job_id)) is None:
            super().hold(job_id)
        else:
            self._call(job.hold, job_id)

    def release(self, job_id: str) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.release`."""
        if (job := self._single(job_id)) is None:
            super().release(job_id)
        else:
            self._call(job.release, job_id)

    def requeue(self, job_id: str, *, hold: bool = False) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.requeue`."""
        if (job := self._single(job_id)) is None:
            super().requeue(job_id, hold=hold)
        else:
            self._call(lambda: job.requeue(hold=hold), job_id)

    def modify(self, job_id: str, changes: Mapping[str, str]) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.modify`."""
        attributes = _attributes(changes)
        job = self._single(job_id) if attributes is not None else None
        if job is None or attributes is None:
            super().modify(job_id, changes)
            return
        changed = self._library.JobSubmitDescription(**attributes)
        self._call(lambda: job.modify(changed), job_id)

    def notify(self, job_id: str, message: str) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.notify`."""
        if (job := self._single(job_id)) is None:
            super().notify(job_id, message)
        else:
            self._call(lambda: job.notify(message), job_id)

    # --- the library -----------------------------------------------------------------------

    def _load_library(self, calls: int = 1) -> Any:
        """Return pyslurm if it is there, fits, and pays for *calls* calls; else ``None``.

        Raises:
            SlurmUnavailable: it was chosen by name and cannot be used.
        """
        if self._library is None and not self._why_not and (self._always or calls >= _WORTH_IT):
            # Importing it where Slurm's configuration cannot be read ends the whole process,
            # so a command looks first.
            from slurm_gpu_policy.model.snapshot import Part  # noqa: PLC0415

            config = self.read(Part.CONFIG).config
            self._why_not = self._import(config.release if config else (0, 0))
        if self._why_not and self._always:
            raise SlurmUnavailable(self._why_not)
        return self._library

    def _import(self, release: tuple[int, int]) -> str:
        """Import pyslurm and return why it cannot be used, ``""`` if it can."""
        try:
            import pyslurm  # noqa: PLC0415 - only where it is installed and chosen

            built_for = tuple(pyslurm.slurm_api_version()[:2])
        except (ImportError, AttributeError) as error:  # AttributeError: a release before 22.05
            return f"pyslurm cannot be imported: {error}"
        if built_for != release:
            mine, theirs = (f"{major}.{minor:02d}" for major, minor in (built_for, release))
            return f"pyslurm {pyslurm.__version__} was built for Slurm {mine}, and this is {theirs}"
        self._library = pyslurm
        return ""

    def _load(self, job_id: str) -> Any:
        """Return pyslurm's record of a job.

        Raises:
            JobNotFound: there is none.
        """
        return self._call(lambda: self._library.Job.load(int(job_id)), job_id)

    def _single(self, job_id: str) -> Any | None:
        """Return a job that is no array and no part of a het job; ``None`` for the others."""
        if self._load_library() is None or not job_id.isdigit():
            return None
        job = self._load(job_id)
        return None if job.array_id is not None or job.heterogeneous_id is not None else job

    def _call(self, call: Any, job_id: str | None = None) -> Any:
        """Return ``call()``, with pyslurm's errors as ours and Slurm's words to the user."""
        with _standard_error() as words:
            try:
                return call()
            except self._library.RPCError as error:
                text = str(error)
                told = _told(words())
                raise error_for(f"{told}\n{text}" if told else text, _PYSLURM, 1, job_id) from error


def _held(layout: Mapping[str, Any]) -> Iterator[NodeAllocation]:
    """Yield one allocation for each node and type of GPU, as parse_detail does."""
    for node, share in layout.items():
        cpus, memory = str(share.get("cpu_ids") or ""), int(share.get("memory") or 0)
        held = [
            (name.partition(":")[2], indexes(str(gres.get("indexes") or "")))
            for name, gres in share.get("gres", {}).items()
            if name.partition(":")[0] == "gpu"
        ]
        for kind, numbers in held or [("", ())]:
            yield NodeAllocation(node, kind, numbers, cpus, memory)


@contextmanager
def _standard_error() -> Iterator[Any]:
    """Catch what the C library prints on file descriptor 2, and hand out a reader of it.

    pyslurm holds Python's lock during its calls, so no other Python thread prints meanwhile.
    """
    kept = os.dup(2)
    caught = os.memfd_create("slurm", os.MFD_CLOEXEC)
    os.dup2(caught, 2)
    try:
        yield lambda: os.pread(caught, 1 << 16, 0).decode("utf-8", "surrogateescape")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(caught)


def _told(text: str) -> str:
    """Return the lines that Slurm meant for the user, without ``python: error:`` before them."""
    lines = [line.partition("error: ")[2] for line in text.splitlines() if "error: " in line]
    return "\n".join(line for line in lines if line)


def _person(user: str) -> dict[str, int]:
    import pwd  # noqa: PLC0415 - root only

    try:
        person = pwd.getpwnam(user)
    except KeyError:
        msg = f"there is no user {user!r} on this machine to submit for"
        raise SlurmError(msg) from None
    return {"user_id": person.pw_uid, "group_id": person.pw_gid}


_CHANGES = {
    "time_limit": ("time_limit", lambda text: -(-int(text) // 60)),
    "nice": ("nice", str),
    "priority": ("priority", int),
    "qos": ("qos", str),
    "partition": ("partitions", str),
    "account": ("account", str),
    "name": ("name", str),
    "comment": ("comment", str),
    "admin_comment": ("admin_comment", str),
    "features": ("constraints", str),
    "excluded_nodes": ("excluded_nodes", str),
    "site_factor": ("site_factor", str),
}


def _attributes(changes: Mapping[str, str]) -> dict[str, Any] | None:
    """Return *changes* as attributes; ``None`` where scontrol has to do it (or to refuse it).

    An empty text means "not set" to pyslurm, and "nothing" to scontrol.
    """
    if not changes.keys() <= _CHANGES.keys() or not all(changes.values()):
        return None
    try:
        for value in changes.values():
            value.encode()
        return {_CHANGES[key][0]: _CHANGES[key][1](value) for key, value in changes.items()}  # type: ignore[operator]
    except ValueError:
        return None
