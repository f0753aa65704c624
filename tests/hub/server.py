"""A hub on the loopback: it serves files as the Hugging Face hub does, or one of its faults."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from types import MappingProxyType

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STATUS = {
    "no such repository": (404, "RepoNotFound"),
    "not logged in": (401, "RepoNotFound"),
    "gated": (403, "GatedRepo"),
    "no such revision": (404, "RevisionNotFound"),
    "too many requests": (429, ""),
    "out of order": (503, ""),
}
"""Faults that are a status and the hub's own error code."""


class Hub(ThreadingHTTPServer):
    """`files` are by repository ("datasets/a/b" or "a/b") and name; `fault` is what every answer has.

    A fault of files ("truncated", "garbage", "stalling") leaves the listing whole; `passing` faults are
    gone after so many answers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.fault: str | None = None
        self.passing: int | None = None
        self.asked: Counter[str] = Counter()
        self.released = Event()

    @property
    def url(self) -> str:
        """Its HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self) -> str | None:
        """The fault of the next answer."""
        if self.passing is not None:
            self.passing -= 1
            return self.fault if self.passing >= 0 else None
        return self.fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002
        """Keep the test's output for the test."""

    def _answer(self) -> None:
        self.server.asked[self.path] += 1
        fault = self.server.next_fault()
        if fault in STATUS:
            status, code = STATUS[fault]
            self._send(b"", status=status, headers={"X-Error-Code": code} if code else {})
        elif fault == "hanging":
            self.server.released.wait(30)
        elif fault == "resetting":
            # Closing with this option sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault == "captive portal":
            self._send(b"<html>Welcome to the hotel</html>", headers={"Content-Type": "text/html"})
        elif self.path.startswith("/api/"):
            kind, repo = self.path.removeprefix("/api/").partition("/revision/")[0].split("/", 1)
            names = self.server.files[f"datasets/{repo}" if kind == "datasets" else repo]
            listing = {"sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            self._send(json.dumps(listing).encode(), headers={"Content-Type": "application/json"})
        else:
            repo, _, place = self.path[1:].partition("/resolve/")
            revision_and_name = place.replace("refs%2Fconvert%2Fparquet", "main").split("/", 1)
            self._send_file(self.server.files[repo][revision_and_name[1]], fault)

    def _send_file(self, content: bytes, fault: str | None) -> None:
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if self.command == "HEAD" or fault is None:
            self._send(content, headers=headers)
        elif fault == "garbage":
            self._send(bytes(byte ^ 1 for byte in content), headers=headers)
        else:
            self._send(content, part=len(content) // 2, headers=headers)
            if fault == "stalling":
                self.server.released.wait(30)
            self.close_connection = True

    def _send(
        self,
        content: bytes,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        status: int = 200,
        part: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:part])
            self.wfile.flush()
