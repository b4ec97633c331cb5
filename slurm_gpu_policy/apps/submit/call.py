"""One run of ``gpu-submit`` once its requests are known: decide, show, submit, stay."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.signals import signals_raise
from slurm_gpu_policy.errors import PolicyLayerError, Refused, SlurmError
from slurm_gpu_policy.terminal.border import POLICY_REFUSED, SLURM_REFUSED
from slurm_gpu_policy.terminal.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.decision import Decision, Reason
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.submission import Submission
    from slurm_gpu_policy.services.ports import SlurmPort
    from slurm_gpu_policy.services.submit import Submit

_LOOKS = 5
_LOOK_SECONDS = 0.4
"""How often, and how far apart, a job is looked for whose submission was interrupted."""
_ADVISED = ("L-", "T-", "V-", "B-001", "B-002", "C-402")
"""Rules of which the user hears without asking."""
_BATCH = 100
"""Jobs that are submitted before their ids are printed."""


class Planned(NamedTuple):
    """A request as it was asked for: the script's contradictions, and its line of a jobs file."""

    request: Request
    notes: tuple[Reason, ...] = ()
    label: str = ""


class Call:
    """Carries out the requests of one command line."""

    def __init__(
        self, params: dict[str, Any], policy: Policy, slurm: SlurmPort, use: Submit
    ) -> None:
        self._params = params
        self._policy = policy
        self._slurm = slurm
        self._use = use
        self._sleep = SystemClock().sleep

    def carry_out(self, planned: Sequence[Planned]) -> int:
        """Decide all, refuse before anything is done, then submit; return the exit code."""
        requests = [self._use.expand(one.request) for one in planned]
        decisions = self._use.decide_all(requests)
        if any(decision.kind == "refuse" for decision in decisions):
            return self._refuse(planned, decisions)
        prepared = [
            (self._use.prepare(request, decision), decision)
            for request, decision in zip(requests, decisions, strict=True)
        ]
        decisions = self._use.set_aside(requests, prepared, only_look=self._params["dry_run"])
        if any(decision.kind == "refuse" for decision in decisions):
            return self._refuse(planned, decisions)
        prepared = [(one, decision) for (one, _), decision in zip(prepared, decisions, strict=True)]
        for one, decision in zip(planned, decisions, strict=True):
            self._advise(one, decision)
        if self._params["dry_run"]:
            for submission, decision in prepared:
                self._show_only(submission, decision)
            return 0
        if any(submission.interactive for submission, _ in prepared):
            from slurm_gpu_policy.apps.submit.interactive import run_in_terminal  # noqa: PLC0415

            return run_in_terminal([submission for submission, _ in prepared])
        return self._submit(prepared)

    def _refuse(self, planned: Sequence[Planned], decisions: Sequence[Decision]) -> int:
        """Say why, before anything is submitted; one refusal stops all."""
        if self._params["json"]:
            from slurm_gpu_policy.apps.submit.output import as_json  # noqa: PLC0415

            for decision in decisions:
                click.echo(as_json(decision, None, None))
            return POLICY_REFUSED
        refused = [
            (one.label, decision)
            for one, decision in zip(planned, decisions, strict=True)
            if decision.kind == "refuse"
        ]
        if self._params["explain"]:
            for _, decision in refused:
                self._explain(decision, None)
            return POLICY_REFUSED
        if len(planned) == 1:
            raise Refused(refused[0][1])
        from slurm_gpu_policy.apps.submit.output import reason_lines  # noqa: PLC0415

        say("the site's policy refuses some of these jobs, so none was submitted")
        for label, decision in refused:
            say(f"{label}:", *reason_lines(decision.reasons))
        return POLICY_REFUSED

    def _advise(self, planned: Planned, decision: Decision) -> None:
        """Say on standard error what the user should know: contradictions, limits exceeded."""
        limits = [one for one in decision.reasons if one.rule.startswith(_ADVISED)]
        where = f"{planned.label}: " if planned.label else ""
        warning = "warning: " if self._policy.enforcement == "advise" else ""
        for reason in planned.notes:
            say(f"{where}{reason.rule} {safe(reason.message)}")
        for reason in limits:
            holds = decision.kind == "hold" and reason.rule.startswith("V-")
            how = "held for approval: " if holds else warning
            say(f"{where}{how}{reason.rule} {safe(reason.message)}")

    def _show_only(self, submission: Submission, decision: Decision) -> None:
        if self._params["json"]:
            from slurm_gpu_policy.apps.submit.output import as_json  # noqa: PLC0415

            click.echo(as_json(decision, None, self._estimate(submission, decision)))
            return
        if self._params["explain"]:
            self._explain(decision, self._estimate(submission, decision), error=True)
        click.echo(submission.script.encode("utf-8", "surrogateescape"), nl=False)

    def _estimate(self, submission: Submission, decision: Decision) -> int | None:
        """Return when Slurm would start the job; an estimate is never worth an error."""
        if decision.kind == "hold":
            return None
        try:
            return self._slurm.would_start(submission)
        except SlurmError:
            return None

    def _explain(self, decision: Decision, start: int | None, *, error: bool = False) -> None:
        from slurm_gpu_policy.apps.submit.output import explanation  # noqa: PLC0415

        for line in explanation(decision, start):
            click.echo(line, err=error)

    def _submit(self, prepared: Sequence[tuple[Submission, Decision]]) -> int:
        params = self._params
        # Slurm is asked before, because it knows no start of a job it has just got; and for
        # one job only, because each answer is a call.
        wants_start = len(prepared) == 1 and (params["json"] or params["explain"])
        start = self._estimate(*prepared[0]) if wants_start else None
        job_ids: list[JobId] = []
        failure: Exception | None = None
        unsaid = False
        submissions = [submission for submission, _ in prepared]
        unqueued: list[Submission] = []
        answered = zip(prepared, self._queue(submissions), strict=True)
        for (submission, decision), answer in answered:
            if isinstance(answer, Exception):
                failure = failure or answer
                unqueued.append(submission)
                if len(prepared) > 1:
                    say(f"not submitted: {safe(str(answer))}")
                continue
            job_ids.append(answer)
            try:
                self._report(answer, decision, start)
            except OSError as error:  # a full disk, a reader that left: the job is there
                say(f"job {answer} is submitted, but standard output fails: {error.strerror}")
                unsaid = True
        self._use.withdraw(unqueued)
        if unsaid:
            return SLURM_REFUSED
        code = self._stay(job_ids) if job_ids and (params["wait"] or params["watch"]) else 0
        if failure is not None:
            raise failure
        return code

    def _queue(self, submissions: Sequence[Submission]) -> Iterator[JobId | Exception]:
        """Submit all, some at a time, so that ids are printed as they come."""
        for first in range(0, len(submissions), _BATCH):
            batch = submissions[first : first + _BATCH]
            answers: Sequence[JobId | Exception]
            try:
                with signals_raise():
                    if len(submissions) == 1:
                        answers = [self._submitted(batch[0])]
                    else:
                        answers = self._use.submit_many(batch)
            except (KeyboardInterrupt, SystemExit):
                self._name_what_was_queued(batch)
                raise
            yield from answers

    def _submitted(self, submission: Submission) -> JobId | Exception:
        try:
            return self._use.submit(submission)
        except PolicyLayerError as error:
            return error

    def _name_what_was_queued(self, batch: Sequence[Submission]) -> None:
        """Print the ids of jobs that an interrupted call has put into the queue all the same.

        Slurm may still be at it, so it is asked for a moment; once more Ctrl-C ends that.
        """
        missing = {submission.token for submission in batch}
        with suppress(SlurmError, KeyboardInterrupt, SystemExit):
            for _ in range(_LOOKS):
                for token in tuple(missing):
                    for job_id in self._slurm.find(token):
                        missing.discard(token)
                        say(f"interrupted, but job {job_id} is queued; scancel {job_id} cancels it")
                if not missing or len(batch) > 1:
                    break
                self._sleep(_LOOK_SECONDS)
        if missing and len(batch) == 1:
            say("interrupted; no job was found in the queue")

    def _report(self, job_id: JobId, decision: Decision, start: int | None) -> None:
        if self._params["json"]:
            from slurm_gpu_policy.apps.submit.output import as_json  # noqa: PLC0415

            click.echo(as_json(decision, job_id, start))
        elif self._params["parsable"]:
            click.echo(str(job_id))
        else:
            from slurm_gpu_policy.apps.submit.output import place  # noqa: PLC0415

            if self._params["explain"]:
                self._explain(decision, start)
            held = ", held until it is approved" if decision.kind == "hold" else ""
            left = "".join(f"; {one.message}" for one in decision.reasons if one.rule == "B-003")
            click.echo(f"Submitted job {job_id}: {place(decision)}{held}{safe(left)}")

    def _stay(self, job_ids: Sequence[JobId]) -> int:
        from slurm_gpu_policy.terminal.watching import stay  # noqa: PLC0415

        code = stay(
            self._slurm,
            [str(job_id) for job_id in job_ids],
            show=self._params["watch"],
            follow=self._params["follow"],
            prose_to_stderr=self._params["json"] or self._params["parsable"],
        )
        return code if self._params["wait"] else 0


def say(*lines: str) -> None:
    """Write to standard error, under the program's name."""
    click.echo(f"gpu-submit: {os.linesep.join(lines)}", err=True)
