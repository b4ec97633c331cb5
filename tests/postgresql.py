"""A PostgreSQL server of a test's own, behind a Unix socket in a temporary folder.

It runs as user postgres where the test runs as root, which PostgreSQL refuses to run as, and is
ended by its process id. Debian's package ``postgresql`` has the programs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg


def missing() -> str:
    """Why there can be no server here, ``""`` where there can."""
    if not _programs():
        return "PostgreSQL is not installed (Debian package postgresql)"
    if os.geteuid() == 0 and not _account():
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


def _programs() -> Path | None:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3])
    )
    return found[-1].parent if found else None


def _account():
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


class PrivateServer:
    """Start with :meth:`start`; many databases may be made on one server.

    *durable* has it wait for the disk, as a site's own would; a machine that loses its power is
    no part of most tests.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._fsync = "on" if durable else "off"
        # Short: the path of a Unix socket has room for 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._identity = {}
        if os.geteuid() == 0:
            entry = _account()
            self._identity = {
                "user": entry.pw_uid,
                "group": entry.pw_gid,
                "extra_groups": [],
                "cwd": self.folder,
            }
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._process: subprocess.Popen | None = None
        self._made = 0

    def initialise(self) -> None:
        subprocess.run(
            [
                _programs() / "initdb",
                *("-D", self.folder / "data", "-U", "postgres", "-A", "trust"),
                *("-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            **self._identity,
        )

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _programs() / "postgres",
                    *("-D", self.folder / "data", "-k", self.folder),
                    *("-c", "listen_addresses=", "-c", "max_connections=60"),
                    *("-c", f"fsync={self._fsync}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._identity,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self._address("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it at once, as a machine that crashes would; nothing that was committed is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def pids(self) -> list[int]:
        """The server's own and those of its children, which are all it has."""
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        return [parent, *map(int, children.split())]

    def make_database(self, encoding: str = "UTF8") -> str:
        """Create a new database and return its address for the policy file."""
        self._made += 1
        name = f"test{self._made}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(
                f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
            )
        return f"postgresql://postgres@/{name}?host={quote(str(self.folder))}"

    @contextmanager
    def asking_for_passwords(self):
        """Ask everybody but postgres for a password."""
        rules = self.folder / "data" / "pg_hba.conf"
        before = rules.read_text()
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        self._reload()
        try:
            yield
        finally:
            rules.write_text(before)
            self._reload()

    def _reload(self) -> None:
        """Have the rules read again; they are when a new connection says so."""

        def loaded():
            with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
                (time_of_it,) = connection.execute("SELECT pg_conf_load_time()").fetchone()
                return time_of_it

        before = loaded()
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while loaded() == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _address(self, name: str) -> str:
        return f"host={self.folder} user=postgres dbname={name}"
