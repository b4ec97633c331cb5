"""The one place where Slurm's programs are started.

Argument lists only, never a shell; every call has a deadline. Several programs run at once
without threads. ``os.posix_spawnp`` rather than ``subprocess``: it starts a program in half
the time, and ``gpu-submit`` feels each import.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import (
    SlurmAbsent,
    SlurmError,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

READ_SECONDS = 20.0
"""Longest wait for a question; slurmctld gives up on its own clients after 10 (MessageTimeout)."""

_CHUNK = 1 << 18
_PIPE_BYTES = 1 << 20
"""Asked of the kernel for long answers, so that a program goes on printing while we parse."""
_F_SETPIPE_SZ = 1031
CODE_LOST = 256
"""In the place of an exit code, which is at most 255, where something else took it."""
_SHORT_OF = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Too many processes or open files: it may do with fewer programs at once."""
_BAD_ARGUMENTS = frozenset({errno.E2BIG, errno.EINVAL})
_LONGEST_POLL_SECONDS = 3600.0
"""poll counts milliseconds in 32 bits."""
_FOREIGN = ("SQUEUE_", "SINFO_", "SACCT_", "SCONTROL_", "SPRIO_", "SSHARE_", "SCANCEL_")
"""A user's own defaults for these programs would change what we parse."""


_started = 0


def started_programs() -> int:
    """Return how many programs this process has started here, to tell how much Slurm was asked."""
    return _started


class Call:
    """One program to run. ``sink`` takes its output in pieces as they come, else it is kept."""

    __slots__ = ("argv", "env", "sink", "stdin")

    def __init__(
        self,
        argv: list[str] | tuple[str, ...],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        sink: Callable[[bytes], object] | None = None,
    ) -> None:
        self.argv = argv
        self.stdin = stdin
        self.env = env
        self.sink = sink


class Answer:
    """What a program said. Bytes that are no UTF-8 come through as surrogate escapes.

    ``code`` is negative for a signal. Where it was lost it is 0 for a program that printed an
    answer or said nothing at all, and :data:`CODE_LOST` for one that only complained.
    """

    __slots__ = ("argv", "code", "stderr", "stdout")

    def __init__(self, argv: Sequence[str], code: int, stdout: bytes, stderr: bytes) -> None:
        self.argv = argv
        self.code = code
        self.stdout = stdout.decode("utf-8", "surrogateescape")
        self.stderr = stderr.decode("utf-8", "surrogateescape")


def run(
    argv: list[str] | tuple[str, ...],
    *,
    stdin: bytes = b"",
    timeout: float = READ_SECONDS,
    env: Mapping[str, str] | None = None,
) -> Answer:
    """Run one program to its end.

    Raises:
        SlurmUnavailable: the program is not installed, or cannot be started now.
        SlurmTimeout: it did not end in time, and was killed.
    """
    return run_all([Call(argv, stdin=stdin, env=env)], timeout=timeout)[0]


def run_all(calls: Sequence[Call], *, timeout: float = READ_SECONDS) -> list[Answer]:
    """Run all *calls* at the same time and return their answers in the same order.

    Raises:
        SlurmUnavailable: a program is not installed, or cannot be started now.
        SlurmTimeout: one did not end in time; all were killed.
    """
    return Started(calls, timeout=timeout).answers()


class Started:
    """Programs that run while their caller does something else."""

    def __init__(self, calls: Sequence[Call], *, timeout: float = READ_SECONDS) -> None:
        self._count = len(calls)
        self._running = _run(calls, at_once=len(calls), timeout=timeout)
        next(self._running)

    def answers(self) -> list[Answer]:
        """Wait for all and return their answers in the order of the calls.

        Raises:
            SlurmUnavailable: one is not installed, or cannot be started; all were killed.
            SlurmTimeout: one did not end in time; all were killed.
        """
        answers: list[Answer | None] = [None] * self._count
        try:
            for index, answer in filter(None, self._running):
                if isinstance(answer, SlurmError):
                    raise answer
                answers[index] = answer
        finally:
            self._running.close()
        return [answer for answer in answers if answer is not None]


def run_each(
    calls: Iterable[Call], *, at_once: int, timeout: float
) -> Generator[tuple[int, Answer | SlurmError]]:
    """Run *calls*, at most *at_once* together, and yield (number, answer) as each ends.

    *timeout* counts for each program by itself; one that is late is answered by :class:`Late`.
    One that cannot be started is answered by another error, and the others go on: only the
    late ones may have done something. Programs still running when the iterator is closed, or
    when an error leaves it, are killed.
    """
    yield from filter(None, _run(calls, at_once=at_once, timeout=timeout))


def _run(
    calls: Iterable[Call], *, at_once: int, timeout: float
) -> Generator[tuple[int, Answer | SlurmError] | None]:
    """As :func:`run_each`, but yield ``None`` once the first programs have been started."""
    programs = _Programs(calls, at_once=at_once, timeout=timeout)
    ignored = _take_back_exit_codes()
    try:
        failed = programs.start_more()
        yield None
        while True:
            yield from failed
            if not programs.running:
                return
            yield from programs.serve()
            yield from programs.give_up_the_late()
            failed = programs.start_more()
    finally:
        programs.kill_all()
        if ignored:
            with suppress(ValueError):  # another thread closes us
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def _take_back_exit_codes() -> bool:
    """Stop ignoring SIGCHLD, with which the kernel throws exit codes away; tell whether it was.

    Only the main thread may do so; elsewhere :class:`Answer` goes by what was said.
    """
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
        return False
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except ValueError:
        return False
    return True


class _Programs:
    """The programs that run, and those that wait until there is room for them."""

    __slots__ = ("_at_once", "_by_fd", "_poll", "_timeout", "_waiting", "running")

    def __init__(self, calls: Iterable[Call], *, at_once: int, timeout: float) -> None:
        self._waiting: Iterator[tuple[int, Call]] = enumerate(calls)
        self._at_once = at_once
        self._timeout = timeout
        self._poll = select.poll()
        self._by_fd: dict[int, _Running] = {}
        self.running: set[_Running] = set()

    def start_more(self) -> list[tuple[int, SlurmError]]:
        """Start what there is room for; return those that cannot be started at all."""
        failed = []
        while len(self.running) < self._at_once and (numbered := next(self._waiting, None)):
            one = _Running(*numbered, deadline=time.monotonic() + self._timeout)
            try:
                one.start(self._poll, self._by_fd)
            except (OSError, ValueError) as error:
                if self.running and isinstance(error, OSError) and error.errno in _SHORT_OF:
                    self._waiting = chain([numbered], self._waiting)
                    self._at_once = len(self.running)
                else:
                    failed.append((one.number, _cannot_start(one.call.argv[0], error)))
            else:
                self.running.add(one)
        return failed

    def serve(self) -> Iterator[tuple[int, Answer]]:
        """Wait until a program says or takes something, or the first is late."""
        first = min(one.deadline for one in self.running)
        patience = min(max(0, first - time.monotonic()), _LONGEST_POLL_SECONDS)
        for fd, _events in self._poll.poll(patience * 1000):
            one = self._by_fd[fd]
            one.serve(fd, self._poll, self._by_fd)
            if one.is_done:
                self.running.discard(one)
                yield one.number, one.answer()

    def give_up_the_late(self) -> Iterator[tuple[int, Late]]:
        """Kill the programs whose time is over."""
        now = time.monotonic()
        for one in [late for late in self.running if late.deadline <= now]:
            self.running.discard(one)
            one.kill(self._poll, self._by_fd)
            yield one.number, one.late(self._timeout)

    def kill_all(self) -> None:
        """End whatever still runs."""
        for one in self.running:
            one.kill(self._poll, self._by_fd)


class Late(SlurmTimeout):
    """A program that did not end in time; ``words`` is what it had said until then."""

    def __init__(self, message: str, words: str) -> None:
        self.words = words
        super().__init__(message)


class _Running:
    """A program that was started, with our ends of its pipes."""

    __slots__ = (
        "call", "chunks", "deadline", "has_printed", "number", "pid", "pipes", "stdin", "words",
    )  # fmt: skip

    def __init__(self, number: int, call: Call, *, deadline: float) -> None:
        self.number = number
        self.call = call
        self.deadline = deadline
        self.pid = 0
        self.pipes: dict[int, list[bytes] | None] = {}
        self.chunks: list[bytes] = []
        self.has_printed = False
        self.words: list[bytes] = []
        self.stdin = memoryview(call.stdin)

    def start(self, poll: select.poll, by_fd: dict[int, _Running]) -> None:
        """Start the program.

        Raises:
            OSError: it is not there, or there is no room for it.
            ValueError: arguments that no program can be given.
        """
        theirs: list[int] = []
        ours: list[int] = []
        try:
            self._spawn(theirs, ours)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.pipes = dict(zip(ours, (self.chunks, self.words, None), strict=False))
        for fd, kept in self.pipes.items():
            by_fd[fd] = self
            poll.register(fd, select.POLLOUT if kept is None else select.POLLIN)

    def _spawn(self, theirs: list[int], ours: list[int]) -> None:
        """Open the pipes, into *theirs* and *ours* one by one, and start the program on them."""
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
        for number in (1, 2):
            out, child_out = os.pipe2(os.O_CLOEXEC)
            ours.append(out)
            theirs.append(child_out)
            actions.append((os.POSIX_SPAWN_DUP2, child_out, number))
        if self.stdin:
            child_in, inp = os.pipe2(os.O_CLOEXEC)
            ours.append(inp)
            theirs.append(child_in)
            os.set_blocking(inp, False)
            actions.append((os.POSIX_SPAWN_DUP2, child_in, 0))
        else:
            actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
        if self.call.sink is not None:
            _widen(ours[0])
        argv = self.call.argv
        self.pid = os.posix_spawnp(
            argv[0],
            argv,
            os.environ if self.call.env is None else self.call.env,
            file_actions=actions,
            # Children inherit what is ignored: SIGPIPE by Python, SIGCHLD by some callers.
            setsigdef=(signal.SIGPIPE, signal.SIGCHLD),
        )
        global _started  # noqa: PLW0603 - programs are started by this process, here only
        _started += 1

    def serve(self, fd: int, poll: select.poll, by_fd: dict[int, _Running]) -> None:
        """Move what can be moved through one pipe."""
        kept = self.pipes[fd]
        if kept is None:
            try:
                self.stdin = self.stdin[os.write(fd, self.stdin) :]
            except BrokenPipeError:  # it read as much as it wanted
                self.stdin = self.stdin[:0]
            if not self.stdin:
                self._close(fd, poll, by_fd)
            return
        chunk = os.read(fd, _CHUNK)
        if not chunk:
            self._close(fd, poll, by_fd)
            return
        if kept is self.chunks:
            self.has_printed = True
            if self.call.sink is not None:
                self.call.sink(chunk)
                return
        kept.append(chunk)

    @property
    def is_done(self) -> bool:
        return not self.pipes

    def answer(self) -> Answer:
        code = _reap(self.pid)
        if code is None:
            code = 0 if self.has_printed or not self.words else CODE_LOST
        return Answer(self.call.argv, code, b"".join(self.chunks), b"".join(self.words))

    def late(self, timeout: float) -> Late:
        program = self.call.argv[0]
        words = b"".join(self.words).decode("utf-8", "replace").strip()
        msg = (
            f"{program} did not end within {timeout:g} s, so whether it took effect is not known"
            + (f"; it said: {words}" if words else "")
            + "; see `scontrol ping` and ask for the job before trying again"
        )
        return Late(msg, words)

    def kill(self, poll: select.poll, by_fd: dict[int, _Running]) -> None:
        for fd in list(self.pipes):
            self._close(fd, poll, by_fd)
        if self.pid:
            with suppress(ProcessLookupError):  # SIGCHLD is ignored, and it ended
                os.kill(self.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
            _reap(self.pid)

    def _close(self, fd: int, poll: select.poll, by_fd: dict[int, _Running]) -> None:
        poll.unregister(fd)
        del by_fd[fd], self.pipes[fd]
        os.close(fd)


def _reap(pid: int) -> int | None:
    """Return the exit code; ``None`` where SIGCHLD is ignored or something else waited for it."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def _widen(fd: int) -> None:
    import fcntl  # noqa: PLC0415 - only long answers need it

    try:
        fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:  # over the user's limit; the usual 64 KiB will do
        return


def _cannot_start(program: str, error: OSError | ValueError) -> SlurmError:
    if isinstance(error, FileNotFoundError):
        msg = (
            f"the program {program} is not on this machine's PATH: "
            "install Slurm's client commands, or load the site's Slurm module"
        )
        return SlurmAbsent(msg)
    why = str(error) if isinstance(error, ValueError) else error.strerror or str(error)
    if isinstance(error, ValueError) or error.errno in _BAD_ARGUMENTS:
        return SlurmRefused(f"{program} cannot be given these arguments: {why}")
    return SlurmUnavailable(f"the program {program} cannot be started: {why}")


def reading_environment() -> dict[str, str]:
    """Return the environment for programs whose output we parse.

    Times come as Unix seconds (``%s`` in UTC: local time is ambiguous for an hour a year),
    array task lists in full, and the user's own formats and filters are left out. Not for
    submission: there the user's environment is the job's.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    env["SLURM_TIME_FORMAT"] = "%s"
    env["TZ"] = "UTC0"
    env["LC_ALL"] = "C"
    env["SLURM_BITSTR_LEN"] = "0"
    return env


_DECIDED = tuple(
    f"SBATCH_{name}"
    for name in (
        "GPUS", "GPUS_PER_NODE", "GPUS_PER_SOCKET", "GPUS_PER_TASK", "GRES", "TRES_PER_TASK",
        "MEM_PER_CPU", "MEM_PER_GPU", "MEM_PER_NODE", "REQUEUE", "NO_REQUEUE", "WAIT", "TEST_ONLY",
    )
)  # fmt: skip
"""sbatch's own variables that would stand beside our options, or change what it answers."""


def submission_environment() -> dict[str, str]:
    """Return the environment for sbatch: the job's own, without what was decided otherwise.

    Of two options of one family sbatch refuses the job, also where one is a variable.
    """
    return {name: value for name, value in os.environ.items() if name not in _DECIDED}


def planning_environment() -> dict[str, str]:
    """Return the environment for ``sbatch --test-only``: as for reading, in the user's own zone.

    sbatch reads ``--begin=16:00`` and prints the planned start in the zone it runs in; the
    Unix seconds it prints are the same in every one.
    """
    env = {name: value for name, value in reading_environment().items() if name not in _DECIDED}
    if "TZ" in os.environ:
        env["TZ"] = os.environ["TZ"]
    else:
        del env["TZ"]
    return env
