"""A real HTTP server on loopback in a thread of the tests' own: what the fake servers and the proxy have in common."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Loopback:
    """Serves with handlers of the class `handler`, whose attribute `name` is this server; also a context manager.

    `awake` is set when it ends, for handlers that wait.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], name: str, port: int = 0) -> None:
        self.awake = threading.Event()
        attributes: dict[str, Any] = {name: self}
        self.http = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (handler,), attributes))
        self.http.daemon_threads = True
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return self.http.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.awake.set()
        self.http.shutdown()
        self.http.server_close()
