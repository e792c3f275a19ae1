"""The API server that Studio talks to, started as a person would start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

ROOT = Path(__file__).parents[1]


@contextmanager
def studio_server(folder: Path) -> Iterator[SyncLangGraphClient]:
    """Serve the graphs of langgraph.json; the server keeps its state in `folder`, where it is started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("langgraph.json", "deeprag_graph"):
        (folder / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", str(port)]
    quiet = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "1", "LANGSMITH_TRACING": "false"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(port, server, folder / "log")
        with get_sync_client(url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"GET /ok HTTP/1.0\r\n\r\n")
                if b"200" in connection.recv(64):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail(f"The server did not start:\n{log.read_text()[-4000:]}")
