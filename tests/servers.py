"""Real servers on this machine: one that takes mail, one that takes a webhook's posts."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

HOST = "127.0.0.1"


def make_certificate(folder, name="localhost"):
    """A certificate that nobody but its own maker trusts; the paths of it and of its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
         "-keyout", key, "-out", certificate, "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def server_context(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class Mailbox:
    """Answers as a test says, and keeps what it took."""

    def __init__(self):
        self.letters = []
        self.sessions = set()
        self.rcpt = {}
        """By address: the answers that the next attempts get; accepted after these."""
        self.data = []
        self.refuses_senders = False
        self.login = ("gpu", "s3cret")

    def authenticate(self, _server, _session, _envelope, _mechanism, auth):
        if not isinstance(auth, LoginPassword):
            return AuthResult(success=False, handled=False)
        given = (auth.login.decode(), auth.password.decode())
        return AuthResult(success=given == self.login, handled=False)

    async def handle_MAIL(self, server, session, envelope, address, options):  # noqa: N802
        if self.refuses_senders:
            return "550 no such sender"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if answers := self.rcpt.get(address):
            return answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.data:
            return self.data.pop(0)
        self.sessions.add(session.peer)
        self.letters.append(
            (
                envelope.mail_from,
                tuple(envelope.rcpt_tos),
                envelope.content,
                session.ssl is not None,
            )
        )
        return "250 OK"


class _MailServer(Controller):
    def __init__(self, mailbox, ssl_context=None, port=None, **options):
        self._own = {"enable_SMTPUTF8": False, "hostname": "mail.test", **options}
        super().__init__(mailbox, hostname=HOST, port=port or free_port(), ssl_context=ssl_context)

    def factory(self):
        return SMTP(self.handler, **self._own)


@contextmanager
def mail_server(mailbox, **options):
    """Serve *mailbox* by SMTP, with TLS from the first byte by *ssl_context*; yields the port."""
    server = _MailServer(mailbox, **options)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def free_port():
    with socket.create_server((HOST, 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def silent_server():
    """Takes connections and says nothing at all; yields the port."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


class Channel:
    """What a webhook was told, and how it answers: a status, or a function of the handler."""

    def __init__(self):
        self.said = []
        self.paths = []
        self.answers = []

    @property
    def texts(self):
        return [one["text"] for one in self.said]


@contextmanager
def web_server(channel, context=None):
    """Serve *channel* by HTTP, or HTTPS with *context*; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            channel.paths.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = channel.answers.pop(0) if channel.answers else 200
            if callable(answer):
                answer(self)
                return
            if answer == 200:
                assert self.headers["Content-Type"] == "application/json"
                channel.said.append(json.loads(body))
            self.send_response(answer)
            self.end_headers()
            self.wfile.write(b"ok" if answer == 200 else b"no_service")

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass

        def get_request(self):
            request, address = super().get_request()
            if context is not None:
                try:
                    request = context.wrap_socket(request, server_side=True)
                except (ssl.SSLError, OSError) as error:
                    request.close()
                    raise OSError from error
            return request, address

    with Server((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(10)


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)
