"""Keeps notices instead of sending them."""

from __future__ import annotations

from slurm_gpu_policy.errors import NotifyFailed


class FakeNotifier:
    """Implements :class:`slurm_gpu_policy.services.ports.NotifyPort`; full when a test says so."""

    def __init__(self):
        self.sent = []
        self.full = False

    def send(self, notice):
        if self.full:
            msg = "too many notices wait, as the test says"
            raise NotifyFailed(msg)
        if notice.key not in {each.key for each in self.sent}:
            self.sent.append(notice)
