"""A node of Elasticsearch as a process of the tests' own, which they may stop, kill and start again."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self


class Node:
    """Runs the start script on a free port; `settings` are those of elasticsearch.yml. Also a context manager."""

    def __init__(self, script: Path, data: Path, *settings: str) -> None:
        self._command = [str(script), "--port", str(free_port()), "--data", str(data), "--heap", "512m", *settings]
        self.url = f"http://127.0.0.1:{self._command[2]}"
        self._log = data.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self._log.open("w") as log:  # not a pipe, which blocks the server when it is full
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        while self.url not in self._log.read_text():
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.05)
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def start_script() -> Path | None:
    """Return the script that starts a node, if there is one."""
    beside = Path(__file__).parents[4] / "shared" / "elasticsearch" / "start"
    script = Path(os.environ.get("DEEPRAG_ELASTICSEARCH_START") or beside)
    return script if script.is_file() else None
