"""What the tests of both engines share: questions, a server that counts, the command in a process group of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeprag_graph.questions import Question
from tests.fake_server import MODEL, FakeServer

SECONDS = 120.0  # for what takes two or three on a machine with nothing else to do


def questions(count: int) -> list[Question]:
    return [Question(id=f"q{n}", question=f"Which fact has number {n}?", answers=["done"]) for n in range(count)]


def write(path: Path, asked: Iterable[Question]) -> Path:
    path.write_text("".join(json.dumps(question) + "\n" for question in asked))
    return path


def wait_for(true: Callable[[], Any], what: str, seconds: float = SECONDS) -> None:
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


class Busy(FakeServer):
    """Takes its time for each call, and knows how many were under way at once, at most, and for which questions."""

    def __init__(self, pattern: str = "RP", seconds: float = 0.02) -> None:
        super().__init__(pattern)
        self.seconds = seconds
        self.under_way = self.most = 0
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def respond(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if not path.endswith("/completions"):
            return super().respond(path, body)
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.asked += re.findall(r"Which fact has number (\d+)\?", json.dumps(body))[-1:]
        self.awake.wait(self.seconds)
        with self._lock:
            self.under_way -= 1
        return super().respond(path, body)

    def flags(self) -> list[str]:
        return ["--policy", "completion", "--model", MODEL, "--base-url", self.url]


def deeprag(*arguments: Any, **environment: str) -> "subprocess.Popen[str]":
    """Begin the command in a process group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", "deeprag_graph", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )


@contextmanager
def running(*arguments: Any, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the command; whatever is left of it in the end is killed."""
    process = deeprag(*arguments, **environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run_to_its_end(*arguments: Any, **environment: str) -> "subprocess.CompletedProcess[str]":
    with running(*arguments, **environment) as process:
        out, shown = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, shown)


def ledger_lines(path: Path) -> list[dict[str, Any]]:
    """Return what the whole lines of a ledger hold, in the order of their ids."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return sorted((json.loads(line) for line in lines if line.endswith("\n")), key=lambda record: record["id"])


def timeless(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records or rows without the seconds that they took."""
    return [{**record, "usage": {**record["usage"], "seconds": 0}} for record in records]


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, and those that these have."""
    parents = _parents()
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def alive(pids: Iterable[int]) -> set[int]:
    """Return those of the processes that still run."""
    return set(pids) & _parents().keys()


def _parents() -> dict[int, int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has ended meanwhile
        if state not in "ZX":
            parents[int(path.parent.name)] = int(parent)
    return parents
