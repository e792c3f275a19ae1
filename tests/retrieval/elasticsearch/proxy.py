"""A small real HTTP server before Elasticsearch that checks credentials, and answers what a test wants answered."""

import http.client
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.loopback import Loopback


@dataclass
class Request:
    """One request: its method, its path with the query, its body and its Authorization."""

    method: str
    path: str
    body: bytes
    authorization: str | None
    types: dict[str, str]  # Content-Type and Accept
    port: int  # the client's end of the connection


Answer = tuple[int, Any]


class Proxy(Loopback):
    """Hands requests on to `server` unless `fault` gives an answer of its own (a status below 1 hangs up).

    `change` may change the body of the server's answer. Also a context manager.
    """

    def __init__(self, server: str, tls: ssl.SSLContext | None = None) -> None:
        self.server = urlsplit(server).netloc
        self.fault: Callable[[Request], Answer | None] = lambda request: None
        self.change: Callable[[Request, Any], Any] = lambda request, body: body
        self.product = "Elasticsearch"
        self.requests: list[Request] = []
        super().__init__(_Handler, "proxy")
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def forward(self, request: Request) -> Answer:
        """Return the server's answer."""
        connection = http.client.HTTPConnection(self.server, timeout=60)
        try:
            connection.request(request.method, request.path, request.body or None, request.types)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return answer.status, self.change(request, json.loads(content)) if content else b""

    def count(self, ending: str) -> int:
        """Return the number of requests whose path, without the query, ends so."""
        return sum(urlsplit(request.path).path.endswith(ending) for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # a client that has gone
            self.close_connection = True

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        types = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
        request = Request(
            self.command, self.path, body, self.headers.get("Authorization"), types, self.client_address[1]
        )
        self.proxy.requests.append(request)
        status, answer = self.proxy.fault(request) or self.proxy.forward(request)
        if status < 1:
            self.close_connection = True
            return
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if self.proxy.product:
            self.send_header("X-Elastic-Product", self.proxy.product)
        self.send_header("Content-Type", "text/html" if isinstance(answer, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _do

    def log_message(self, *_: object) -> None:
        """Stay quiet."""
