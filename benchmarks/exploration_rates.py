"""Calls and questions a second of searches: the bulk driver beside bare loops, two worker processes beside one.

A run is measured where it is full: from when as many questions as run at once have come back until the last that many
are under way. The start, when all ask at once, and the end, when fewer and fewer do, are left out, for all arms alike.
"""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

import openai

from benchmarks.arms import Load, Probe, Request, replay
from benchmarks.exploration_jobs import asked, opened
from deeprag_graph import bulk
from deeprag_graph.bulk import Engine, ExploreJob
from deeprag_graph.bulk.here import seldom_collecting
from deeprag_graph.ledger import Ledger, Record

_TICKS = os.sysconf("SC_CLK_TCK")


class Mark(NamedTuple):
    """Seconds on the clock and of CPU, and calls, up to some moment."""

    clock: float
    cpu: float  # of this process
    workers_cpu: float  # of its worker processes
    server_cpu: float
    calls: int


class Rate(NamedTuple):
    """What a run did where it was full; CPU is in ms a call."""

    calls_per_second: float
    questions_per_second: float
    cpu: float  # of this process and its worker processes
    parent_cpu: float
    server_cpu: float
    cores: float  # busy with all of it, on average


class Writing(NamedTuple):
    """What the whole run spent on its ledger."""

    wall_share: float
    cpu_share: float
    ms_a_question: float
    bytes_a_question: float


class Window:
    """Takes a mark when `at_once` of `total` questions have come back, and when the last `at_once` are under way."""

    def __init__(self, at_once: int, total: int, mark: Callable[[], Mark]) -> None:
        if total <= 2 * at_once:
            raise ValueError(f"{total} questions are too few to keep {at_once} at once busy: ask more than twice that")
        self._ends, self._mark, self._done = (at_once, total - at_once), mark, 0
        self._marks: list[Mark] = []

    def back(self) -> None:
        """Count a question that has come back."""
        self._done += 1
        if self._done in self._ends:
            self._marks.append(self._mark())

    def rate(self) -> Rate:
        """Return what happened between the two marks."""
        clock, cpu, workers, server, calls = (b - a for a, b in zip(*self._marks, strict=True))
        each = 1000 / calls
        return Rate(
            calls_per_second=calls / clock,
            questions_per_second=(self._ends[1] - self._ends[0]) / clock,
            cpu=(cpu + workers) * each,
            parent_cpu=cpu * each,
            server_cpu=server * each,
            cores=(cpu + workers + server) / clock,
        )


def marks_of(server: Probe) -> Callable[[], Mark]:
    """Return a function that takes a mark of a run over a fake server."""

    def mark() -> Mark:
        server_cpu, calls = server.used()
        return Mark(time.perf_counter(), time.process_time(), _workers_cpu(), server_cpu, calls)

    return mark


class CountedCalls:
    """Takes marks of a run without a server: its calls are those of the questions that have come back."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Mark:
        return Mark(time.perf_counter(), time.process_time(), _workers_cpu(), 0.0, self.calls)


def _workers_cpu() -> float:
    """Return the CPU seconds of the worker processes; Linux only, and none of those on a Ray cluster."""
    used = 0
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])  # user and system time
    return used / _TICKS


@contextmanager
def new_ledger() -> Iterator[Ledger]:
    """Give a ledger that is gone afterwards."""
    with TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.jsonl") as ledger:
        yield ledger


def drive(
    job: ExploreJob,
    questions: int,
    at_once: int,
    mark: Callable[[], Mark],
    *,
    workers: int = 1,
    engine: Engine = "local",
) -> tuple[Rate, Writing]:
    """Search as `deeprag explore` does, the ledger included."""
    worker = opened(job, at_once)
    window = Window(at_once, questions, mark)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    wall = cpu = 0.0
    rows = bulk.run(worker, asked(questions), concurrency=at_once, workers=workers, engine=engine)
    with new_ledger() as ledger, closing(rows):
        for _, row in rows:
            record = cast(Record, row)
            assert record["outcome"] != "failed", record["error"]
            before, before_cpu = time.perf_counter(), time.thread_time()
            ledger.append(record)
            wall, cpu = wall + time.perf_counter() - before, cpu + time.thread_time() - before_cpu
            if isinstance(mark, CountedCalls):
                mark.calls += record["usage"]["llm_calls"]
            window.back()
        written = ledger.path.stat().st_size
    seconds, used = time.perf_counter() - begun, time.process_time() - begun_cpu
    return window.rate(), Writing(wall / seconds, cpu / used, wall / questions * 1000, written / questions)


def loop(
    client: Callable[[str], openai.AsyncOpenAI],
    requests: Sequence[list[Request]],
    base_url: str,
    at_once: int,
    mark: Callable[[], Mark],
) -> Rate:
    """Send the same requests by a bare loop: those of a question one after the other, `at_once` questions at a time.

    Garbage is collected as seldom as in the driver.
    """
    window, waiting = Window(at_once, len(requests), mark), iter(requests)

    async def run() -> None:
        async with client(base_url) as opened:
            send = replay(opened)

            async def work() -> None:
                for each in waiting:
                    for request in each:
                        await send(request)
                    window.back()

            await asyncio.gather(*(work() for _ in range(at_once)))

    with seldom_collecting():
        asyncio.run(run())
    return window.rate()


def requests_of(job: ExploreJob, questions: int, load: Load, server: Probe) -> list[list[Request]]:
    """Return the requests of each question, as the driver sends them."""
    worker = opened(job, load.at_once)
    by_name: dict[str, list[Request]] = {question["id"]: [] for question in asked(questions)}
    server.record()
    for _ in bulk.run(worker, asked(questions), concurrency=load.at_once):
        pass
    for request in server.recorded():
        by_name[request["prompt"][0].partition("‹")[2][:4]].append(request)
    assert all(by_name.values())
    return list(by_name.values())
