"""A small real HTTP server of one file: with ranges as RFC 9110 has them, and with faults on demand."""

import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import Loopback


@dataclass
class Asked:
    """One request: the byte it began at, its If-Range and its Accept-Encoding, and what was answered."""

    start: int | None
    if_range: str | None
    encoding: str | None
    status: int = 0
    sent: int = 0  # bytes of the file


class FileServer(Loopback):
    """Serves `content` at every path on loopback; also a context manager.

    `faults` gives one fault for each request, "" for none: a status; "cut N" and "close N", which reset or end the
    connection after N bytes; "stall N", which waits after N bytes until `awake` is set; "part N", which sends N bytes
    as a whole answer of 206; "short N" and "long N", whose Content-Length is N bytes too small or too large.
    """

    def __init__(self, content: bytes, *, etag: str | None = '"one"', modified: str | None = None) -> None:
        self.content, self.etag, self.modified = content, etag, modified
        self.ranges = True
        self.minds_if_range = True
        self.says_length = True
        self.encoding: str | None = None
        self.faults: Iterator[str] = iter(())
        self.asked: list[Asked] = []
        super().__init__(_Handler, "file")
        self.url = f"http://127.0.0.1:{self.port}/psgs.tsv.gz"


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    file: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        file = self.file
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        asked = Asked(
            int(wanted[1]) if wanted else None, self.headers.get("If-Range"), self.headers.get("Accept-Encoding")
        )
        file.asked.append(asked)
        fault, _, number = next(file.faults, "").partition(" ")
        asked.status = int(fault) if fault.isdigit() else 206 if self._partial(asked) or fault == "part" else 200
        start = (asked.start or 0) if asked.status == 206 else 0
        if asked.status == 206 and start >= len(file.content):
            asked.status = 416
        body = file.content[start:] if asked.status in (200, 206) else b"no"
        self._head(asked.status, start, body, fault, int(number or 0))
        self._body(asked, body, fault, int(number or 0))

    def _partial(self, asked: Asked) -> bool:
        tag = self.file.etag or self.file.modified
        fresh = asked.if_range in (None, tag) or not self.file.minds_if_range
        return self.file.ranges and asked.start is not None and fresh

    def _head(self, status: int, start: int, body: bytes, fault: str, number: int) -> None:
        file = self.file
        length = len(body) + {"short": -number, "long": number}.get(fault, 0)
        self.send_response(status)
        if file.etag and status in (200, 206):
            self.send_header("ETag", file.etag)
        if file.modified and status == 200:  # an answer to If-Range leaves it out
            self.send_header("Last-Modified", file.modified)
        if file.encoding and status in (200, 206):
            self.send_header("Content-Encoding", file.encoding)
        if status == 206:
            length = number if fault == "part" else length
            self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{len(file.content)}")
        if file.says_length:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Connection", "close")
        self.end_headers()

    def _body(self, asked: Asked, body: bytes, fault: str, number: int) -> None:
        sent = body[:number] if fault in ("cut", "close", "stall", "part") else body
        asked.sent = len(sent)  # before the last byte is out: then the client goes on
        try:
            self.wfile.write(sent)
        except OSError:  # the client is gone
            return
        if fault == "stall":
            self.file.awake.wait(60)
        if fault == "cut":  # a reset rather than an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault not in ("", "part"):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
