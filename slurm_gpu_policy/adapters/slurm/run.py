"""The one place where Slurm's programs are started.

Argument lists only, never a shell; every call has a deadline. Several programs run at once
without threads. ``os.posix_spawnp`` rather than ``subprocess``: it starts a program in half
the time, and ``gpu-submit`` feels each import.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import SlurmTimeout, SlurmUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

READ_SECONDS = 20.0
"""Longest wait for a question; slurmctld gives up on its own clients after 10 (MessageTimeout)."""

_CHUNK = 1 << 18
_PIPE_BYTES = 1 << 20
"""Asked of the kernel for long answers, so that a program goes on printing while we parse."""
_F_SETPIPE_SZ = 1031
_LONGEST_POLL_SECONDS = 3600.0
"""poll counts milliseconds in 32 bits."""
_FOREIGN = ("SQUEUE_", "SINFO_", "SACCT_", "SCONTROL_", "SPRIO_", "SSHARE_", "SCANCEL_")
"""A user's own defaults for these programs would change what we parse."""


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
    """What a program said. Bytes that are no UTF-8 come through as surrogate escapes."""

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
        SlurmUnavailable: the program is not installed.
        SlurmTimeout: it did not end in time, and was killed.
    """
    return run_all([Call(argv, stdin=stdin, env=env)], timeout=timeout)[0]


def run_all(calls: Sequence[Call], *, timeout: float = READ_SECONDS) -> list[Answer]:
    """Run all *calls* at the same time and return their answers in the same order.

    Raises:
        SlurmUnavailable: a program is not installed.
        SlurmTimeout: one did not end in time; all were killed.
    """
    return Started(calls, timeout=timeout).answers()


class Started:
    """Programs that run while their caller does something else.

    Raises:
        SlurmUnavailable: a program is not installed; the others were killed.
    """

    def __init__(self, calls: Sequence[Call], *, timeout: float = READ_SECONDS) -> None:
        self._count = len(calls)
        self._running = _run(calls, at_once=len(calls), timeout=timeout)
        next(self._running)

    def answers(self) -> list[Answer]:
        """Wait for all and return their answers in the order of the calls.

        Raises:
            SlurmTimeout: one did not end in time; all were killed.
        """
        answers: list[Answer | None] = [None] * self._count
        try:
            for index, answer in filter(None, self._running):
                if isinstance(answer, Late):
                    raise answer
                answers[index] = answer
        finally:
            self._running.close()
        return [answer for answer in answers if answer is not None]


def run_each(
    calls: Iterable[Call], *, at_once: int, timeout: float
) -> Generator[tuple[int, Answer | Late]]:
    """Run *calls*, at most *at_once* together, and yield (number, answer) as each ends.

    *timeout* counts for each program by itself. Programs still running when the iterator is
    closed, or when an error leaves it, are killed.

    Raises:
        SlurmUnavailable: a program is not installed.
    """
    yield from filter(None, _run(calls, at_once=at_once, timeout=timeout))


def _run(
    calls: Iterable[Call], *, at_once: int, timeout: float
) -> Generator[tuple[int, Answer | Late] | None]:
    """As :func:`run_each`, but yield ``None`` once the first programs have been started."""
    waiting = enumerate(calls)
    running: set[_Running] = set()
    by_fd: dict[int, _Running] = {}
    poll = select.poll()
    first_round = True
    try:
        while True:
            while len(running) < at_once and (numbered := next(waiting, None)) is not None:
                one = _Running(*numbered, deadline=time.monotonic() + timeout)
                running.add(one)
                one.start(poll, by_fd)
            if first_round:
                first_round = False
                yield None
            if not running:
                return
            first = min(one.deadline for one in running)
            patience = min(max(0, first - time.monotonic()), _LONGEST_POLL_SECONDS)
            for fd, _events in poll.poll(patience * 1000):
                one = by_fd[fd]
                one.serve(fd, poll, by_fd)
                if one.is_done:
                    running.discard(one)
                    yield one.number, one.answer()
            now = time.monotonic()
            for one in [late for late in running if late.deadline <= now]:
                running.discard(one)
                one.kill(poll, by_fd)
                yield one.number, one.late(timeout)
    finally:
        for one in running:
            one.kill(poll, by_fd)


class Late(SlurmTimeout):
    """A program that did not end in time; ``words`` is what it had said until then."""

    def __init__(self, message: str, words: str) -> None:
        self.words = words
        super().__init__(message)


class _Running:
    """A program that was started, with our ends of its pipes."""

    __slots__ = ("call", "chunks", "deadline", "number", "pid", "pipes", "stdin", "words")

    def __init__(self, number: int, call: Call, *, deadline: float) -> None:
        self.number = number
        self.call = call
        self.deadline = deadline
        self.pid = 0
        self.pipes: dict[int, list[bytes] | None] = {}
        self.chunks: list[bytes] = []
        self.words: list[bytes] = []
        self.stdin = memoryview(call.stdin)

    def start(self, poll: select.poll, by_fd: dict[int, _Running]) -> None:
        out, child_out = os.pipe2(os.O_CLOEXEC)
        err, child_err = os.pipe2(os.O_CLOEXEC)
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]]
        actions = [
            (os.POSIX_SPAWN_DUP2, child_out, 1),
            (os.POSIX_SPAWN_DUP2, child_err, 2),
        ]
        theirs, ours = [child_out, child_err], [out, err]
        if self.stdin:
            child_in, inp = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(inp, False)
            actions.append((os.POSIX_SPAWN_DUP2, child_in, 0))
            theirs.append(child_in)
            ours.append(inp)
        else:
            actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
        if self.call.sink is not None:
            _widen(out)
        argv = self.call.argv
        try:
            self.pid = os.posix_spawnp(
                argv[0],
                argv,
                os.environ if self.call.env is None else self.call.env,
                file_actions=actions,
                setsigdef=(signal.SIGPIPE,),  # Python ignores it, and children would inherit that
            )
        except OSError as error:
            for fd in ours:
                os.close(fd)
            raise _cannot_start(argv[0], error) from error
        finally:
            for fd in theirs:
                os.close(fd)
        self.pipes = dict(zip(ours, (self.chunks, self.words, None), strict=False))
        for fd, kept in self.pipes.items():
            by_fd[fd] = self
            poll.register(fd, select.POLLOUT if kept is None else select.POLLIN)

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
        elif kept is self.chunks and self.call.sink is not None:
            self.call.sink(chunk)
        else:
            kept.append(chunk)

    @property
    def is_done(self) -> bool:
        return not self.pipes

    def answer(self) -> Answer:
        code = _reap(self.pid)
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
            os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            _reap(self.pid)

    def _close(self, fd: int, poll: select.poll, by_fd: dict[int, _Running]) -> None:
        poll.unregister(fd)
        del by_fd[fd], self.pipes[fd]
        os.close(fd)


def _reap(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # somebody set SIGCHLD to be ignored: the code is lost
        return 0


def _widen(fd: int) -> None:
    import fcntl  # noqa: PLC0415 - only long answers need it

    try:
        fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:  # over the user's limit; the usual 64 KiB will do
        return


def _cannot_start(program: str, error: OSError) -> SlurmUnavailable:
    if isinstance(error, FileNotFoundError):
        msg = (
            f"the program {program} is not on this machine's PATH: "
            "install Slurm's client commands, or load the site's Slurm module"
        )
    else:
        msg = f"the program {program} cannot be started: {error.strerror or error}"
    return SlurmUnavailable(msg)


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
