"""Slurm's database of accounts, users and QOS in memory, with its refusals and its traps.

    slurm = FakeAccounts()                    # root, user root, QOS normal
    slurm.make_account("physics")             # what others make
    slurm.make_user("physics", "u9")
    slurm.jobs.add(("account", "physics"))    # somebody's job runs there
    slurm.is_administrator = False

As Slurm does it, and unlike what one would wish: removing an account takes everything below it
along, removing a QOS takes it out of every list, a coordinator is shown in all accounts below.
"""

from __future__ import annotations

from contextlib import contextmanager

from slurm_gpu_policy.errors import NotAllowed, SlurmRefused
from slurm_gpu_policy.model.plan import INHERITED, NONE, UNLIMITED, YES, Made, Present
from slurm_gpu_policy.policy.planning.outlook import names_in
from slurm_gpu_policy.policy.planning.wanting import list_text

_LIMITS = dict.fromkeys(
    ("gpus", "gpus_per_job", "time", "running_jobs", "submitted_jobs"), UNLIMITED
)
_PER_USER = {"running_jobs_per_user": UNLIMITED, "submitted_jobs_per_user": UNLIMITED}
ASSOCIATION = {
    "shares": "1",
    "priority": "0",
    "qos": INHERITED,
    "default_qos": INHERITED,
    **_LIMITS,
}
ACCOUNT = {**ASSOCIATION, **_PER_USER, "parent": "root", "description": "", "organization": ""}
USER = {**ASSOCIATION, "default": "no"}
QOS = {
    **_LIMITS,
    **_PER_USER,
    "gpus_per_user": UNLIMITED,
    "gpus_per_account": UNLIMITED,
    "description": "",
    "priority": "0",
    "usage_factor": "1.000000",
    "flags": NONE,
    "preempts": NONE,
    "preempt_mode": "cluster",
    "min_run_time": UNLIMITED,
    "grace_seconds": "0",
}


class FakeAccounts:
    """Implements :class:`slurm_gpu_policy.services.ports.ManagePort`."""

    def __init__(self):
        self.objects = {}
        self.records = {}
        self.partition_bound = set()
        self.jobs = set()
        self.is_administrator = True
        self.writes = []
        self.make_qos("normal")
        self.make_account("root", parent="", qos="normal")
        self.make_user("root", "root")

    # --- what others do ----------------------------------------------------------------------

    def make_account(self, name, **values):
        words = {"description": name, "organization": name}
        self.objects["account", name] = {**ACCOUNT, **self.records.get(name, words), **values}
        self._keep_record(name)

    def _keep_record(self, name):
        its = self.objects["account", name]
        self.records[name] = {word: its[word] for word in ("description", "organization")}

    def make_user(self, account, user, **values):
        first = not any(one[0] == "user" and one[2] == user for one in self.objects)
        default = {"default": YES} if first else {}
        self.objects["user", account, user] = {**USER, **default, **values}

    def make_qos(self, name, **values):
        self.objects["qos", name] = {**QOS, "description": name, **values}

    def make_coordinator(self, account, user):
        self.objects["coordinator", account, user] = {}

    # --- the port ----------------------------------------------------------------------------

    def managed(self, cluster):
        shown = {what: dict(values) for what, values in self.objects.items()}
        for what in self.objects:
            if what[0] == "coordinator":
                shown |= {("coordinator", name, what[2]): {} for name in self._below(what[1])}
        return Present(
            objects=shown,
            records={name: dict(words) for name, words in self.records.items()},
            users=frozenset(one[2] for one in self.objects if one[0] == "user"),
            partition_bound=frozenset(self.partition_bound),
        )

    def carry_out(self, cluster, change):
        if not self.is_administrator:
            msg = "Slurm does not let this user change accounts and QOS (Access/permission denied)"
            raise NotAllowed(msg)
        self.writes.append(change)
        values = {one.name: one.after for one in change.fields}
        does = getattr(self, f"_{change.verb}_{change.what[0]}", None) or getattr(
            self, f"_{change.verb}"
        )
        return does(change.what, values)

    def _create(self, what, values):
        if what in self.objects:
            return False
        kind = what[0]
        if kind == "account" and what[1] in self.records:  # the words that it has are kept
            values = {**values, **self.records[what[1]]}
        if kind == "user" and ("account", what[1]) not in self.objects:
            _refuse(f"This account '{what[1]}' doesn't exist.")
        if kind == "account":
            self.make_account(what[1])
        elif kind == "user":
            self.make_user(what[1], what[2])
        else:
            self.make_qos(what[1])
        try:
            return self._set(what, values)
        except SlurmRefused:
            del self.objects[what]
            raise

    def _create_coordinator(self, what, values):
        if not any(one[0] == "user" and one[2] == what[2] for one in self.objects):
            _refuse(f"You specified a non-existent user '{what[2]}'.")
        self.objects[what] = {}
        return True

    def _set(self, what, values):
        there = self.objects.get(what)
        if there is None:
            _refuse("Nothing modified")
        parent = values.get("parent")
        if parent is not None:
            if ("account", parent) not in self.objects:
                _refuse(f"Parent Account {parent} doesn't exist.")
            if parent == what[1] or parent in self._below(what[1]):
                _refuse("Requested parent account is a child of it")
        self._check_qos(what, {**there, **values})
        if values.get("default") == YES:
            for other, its in self.objects.items():
                if other[0] == "user" and other[2] == what[2]:
                    its["default"] = "no"
        assert values.keys() <= there.keys(), values.keys() - there.keys()
        there.update(values)
        if what[0] == "account":
            self._keep_record(what[1])
        return True

    def _check_qos(self, what, values):
        known = {one[1] for one in self.objects if one[0] == "qos"}
        for field in ("qos", "default_qos", "preempts"):
            if bad := names_in(values.get(field, "")) - known:
                _refuse(f"You gave a bad qos '{min(bad)}'.")
        own, default = names_in(values.get("qos", "")), values.get("default_qos", INHERITED)
        if own and default != INHERITED and default not in own:
            _refuse("These associations don't have access to their default qos.")
        if what[0] == "qos" and what[1] in self._preempted(values["preempts"]):
            _refuse("QOS Preemption loop detected")

    def _preempted(self, text):
        found, ahead = set(), set(names_in(text))
        while ahead:
            one = ahead.pop()
            if one not in found:
                found.add(one)
                ahead |= names_in(self.objects["qos", one]["preempts"])
        return found

    def _remove_coordinator(self, what, values):
        return self.objects.pop(what, None) is not None

    def _remove_user(self, what, values):
        if what not in self.objects:
            return False
        self._refuse_jobs(what)
        others = [one for one in self.objects if one[0] == "user" and one[2] == what[2]]
        if self.objects[what]["default"] == YES and len(others) > 1:
            _refuse("You can not remove the default account of a user")
        del self.objects[what]
        self.partition_bound.discard(what[1:])
        if len(others) == 1:  # the user goes too, and with them what they coordinated
            for one in [o for o in self.objects if o[0] == "coordinator" and o[2] == what[2]]:
                del self.objects[one]
        return True

    def _remove_account(self, what, values):
        if what not in self.objects:
            return False
        self._refuse_jobs(what)
        gone = {what[1], *self._below(what[1])}
        for one in [o for o in self.objects if o[0] != "qos" and o[1] in gone]:
            del self.objects[one]
        return True

    def _remove_record(self, what, values):
        if ("account", what[1]) in self.objects or what[1] not in self.records:
            return False
        del self.records[what[1]]
        return True

    def _remove_qos(self, what, values):
        if what not in self.objects:
            return False
        if any(its.get("default_qos") == what[1] for its in self.objects.values()):
            _refuse("Associations listed below have these as their Default QOS.")
        del self.objects[what]
        for its in self.objects.values():
            for field, empty in (("qos", INHERITED), ("preempts", NONE)):
                if what[1] in names_in(its.get(field, "")):
                    its[field] = list_text(names_in(its[field]) - {what[1]}, empty)
        return True

    def _refuse_jobs(self, what):
        if what in self.jobs:
            _refuse("Job(s) active, cancel job(s) before remove")

    def _below(self, account):
        found, ahead = set(), [account]
        while ahead:
            name = ahead.pop()
            for one, its in self.objects.items():
                if one[0] == "account" and its["parent"] == name and one[1] not in found:
                    found.add(one[1])
                    ahead.append(one[1])
        return found


def _refuse(words):
    raise SlurmRefused(words)


class FakeMade:
    """Implements :class:`slurm_gpu_policy.services.ports.MadePort`."""

    def __init__(self):
        self.kept = {}
        self.is_held = False

    @contextmanager
    def alone(self):
        assert not self.is_held
        self.is_held = True
        yield
        self.is_held = False

    def load(self, cluster):
        return self.kept.get(cluster, Made())

    def save(self, cluster, made):
        self.kept[cluster] = made


class FakeFiles:
    """Implements :class:`slurm_gpu_policy.services.ports.FilePort`."""

    def __init__(self, texts=()):
        self.texts = dict(texts)

    def read(self, path):
        return self.texts.get(path)

    def write(self, path, text):
        self.texts[path] = text
