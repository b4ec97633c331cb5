"""The log, where no other way is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.errors import NotifyFailed
    from slurm_gpu_policy.model.notice import Notice


class Log:
    """Implements :class:`slurm_gpu_policy.adapters.notify.way.Way`: writes notices down."""

    name = "log"

    def __init__(self, logger: Any) -> None:
        self._log = logger

    def addresses(self, notice: Notice) -> tuple[str, ...]:  # noqa: ARG002 - as every way
        """Return the one place there is."""
        return ("",)

    def deliver(self, letters: Sequence[tuple[Notice, str]]) -> Iterator[NotifyFailed | None]:
        """Write each as one line."""
        for notice, _ in letters:
            self._log.info(
                "notice",
                to=list(notice.to),
                subject=notice.subject,
                text=notice.text,
                rule=notice.rule,
                severity=notice.severity,
            )
            yield None

    def problems(self) -> tuple[str, ...]:
        """Return nothing: the log needs no file of its own."""
        return ()
