"""A mail server and a web server of this machine that take what they are sent, are slow, or fail halfway."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Mailbox:
    "What a mail server was sent."

    port: int = 0
    user: str = ""  # who may send; anybody when empty
    password: str = ""
    refuse: int = 0  # so many messages are turned away first
    mails: list[Any] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.refuse:
            self.refuse -= 1
            return f"451 {self.user} with {self.password} may try again later"
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"

    @property
    def subjects(self) -> list[str]:
        return [str(each["subject"]) for each in self.mails]

    def texts(self) -> list[str]:
        return [each.get_payload(decode=True).decode() for each in self.mails]


@contextmanager
def mail_server(**options: Any) -> Iterator[Mailbox]:
    "A mail server on a free port."
    box = Mailbox(**options)
    needed = (
        {"auth_required": True, "auth_require_tls": False, "authenticator": _knows(box)} if box.user else {}
    )
    controller = Controller(box, hostname="127.0.0.1", port=free_port(), **needed)
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()


def _knows(box: Mailbox) -> Any:
    from aiosmtpd.smtp import AuthResult

    def authenticate(_server: Any, _session: Any, _envelope: Any, _how: str, given: Any) -> AuthResult:
        return AuthResult(success=(given.login, given.password) == (box.user.encode(), box.password.encode()))

    return authenticate


@dataclass
class Hook:
    "What a web server was asked."

    port: int = 0
    answers: list[int] = field(default_factory=list)  # statuses given first; then 200
    bodies: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    halt: threading.Event = field(default_factory=threading.Event)  # set: no answer any more is held back
    slow: bool = False  # answers nothing until `halt`
    cut: int = 0  # so many requests are cut off in the middle of the answer


@contextmanager
def web_server(**options: Any) -> Iterator[Hook]:
    "A web server on a free port."
    hook = Hook(**options)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            hook.paths.append(self.path)
            if hook.slow:
                hook.halt.wait(30)
            if hook.cut:
                hook.cut -= 1
                self.wfile.write(b"HTTP/1.1 20")
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status = hook.answers.pop(0) if hook.answers else 200
            if status < 300:
                hook.bodies.append(body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.halt.set()
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    "A port on which nobody listens."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
