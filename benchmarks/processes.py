"""Work in processes of its own, so that the memory and the caches of one engine are not another's. Linux only."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

_SAMPLED_EVERY = 0.1  # seconds
_spawn = multiprocessing.get_context("spawn")  # a fork would begin with the memory of its parent


class Memory(NamedTuple):
    """Bytes in memory: of the process's own, and pages of files, which the kernel takes back when it needs them."""

    anonymous: int
    file_backed: int


class Built(NamedTuple):
    """How long a build took, and the most memory that its process and the children of that had at once."""

    seconds: float
    peak: Memory


class Pass(NamedTuple):
    """Searches one after another, or in several threads: the seconds of all, and of each in the order of the queries.

    The order is that of the queries for one thread alone.
    """

    seconds: float
    latencies: list[float]


class TooMuchMemory(Exception):
    """A build needs more memory than it may have; the text is the rest of a sentence about it."""


def timed_build(build: Callable[[], None], most_memory: int) -> Built:
    """Run `build`, which must be picklable, in a process of its own, and end it beyond `most_memory` anonymous bytes.

    Raises `TooMuchMemory` if it was ended, by this or by the kernel.
    """
    receiver, sender = _spawn.Pipe(duplex=False)
    process = _spawn.Process(target=_send_seconds, args=(sender, build))
    process.start()
    sender.close()
    tree = import_module("psutil").Process(process.pid)
    peak = Memory(0, 0)
    try:
        while not receiver.poll(_SAMPLED_EVERY):
            now = _memory_of(tree)
            peak = Memory(*map(max, peak, now))
            if now.anonymous > most_memory:
                raise TooMuchMemory(f"was ended when it took more than {most_memory / 1e9:.1f} GB")
        return Built(receiver.recv(), peak)
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise TooMuchMemory(f"was ended by the kernel at {peak.anonymous / 1e9:.1f} GB") from None
        sys.exit(f"A build failed with exit code {process.exitcode}.")
    finally:
        _end(process, tree)


@contextmanager
def searching(open_search: Callable[[], Callable[[str], int]], queries: Sequence[str]) -> Iterator[Callable[..., Pass]]:
    """Give a function that searches in a process of its own: called with how many queries, threads and seconds at most.

    `open_search` must be picklable; what it returns need not be.
    """
    here, there = _spawn.Pipe()
    process = _spawn.Process(target=_serve, args=(there, open_search, queries))
    process.start()
    there.close()

    def search(count: int, *, threads: int = 1, seconds: float = float("inf")) -> Pass:
        here.send((count, threads, seconds))
        return Pass(*here.recv())

    try:
        yield search
    finally:
        here.close()
        process.join()


def _send_seconds(connection: Connection, build: Callable[[], None]) -> None:
    started = time.perf_counter()
    build()
    connection.send(time.perf_counter() - started)


def _serve(connection: Connection, open_search: Callable[[], Callable[[str], int]], queries: Sequence[str]) -> None:
    search = open_search()
    while True:
        try:
            count, threads, seconds = connection.recv()
        except EOFError:
            return
        connection.send(tuple(_pass(search, queries[:count], threads, seconds)))


def _pass(search: Callable[[str], int], queries: Sequence[str], threads: int, seconds: float) -> Pass:
    started = time.perf_counter()

    def run(part: Sequence[str]) -> list[float]:
        latencies = []
        for query in part:
            before = time.perf_counter()
            if before - started > seconds:
                break
            search(query)
            latencies.append(time.perf_counter() - before)
        return latencies

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(run, [queries[number::threads] for number in range(threads)]))
    return Pass(time.perf_counter() - started, [latency for part in parts for latency in part])


def _memory_of(tree: Any) -> Memory:
    psutil = import_module("psutil")
    anonymous = file_backed = 0
    try:
        for process in (tree, *tree.children(recursive=True)):
            memory = process.memory_info()
            anonymous += memory.rss - memory.shared
            file_backed += memory.shared
    except psutil.NoSuchProcess:  # it ended in between: the next sample tells
        pass
    return Memory(anonymous, file_backed)


def _end(process: Any, tree: Any) -> None:
    psutil = import_module("psutil")
    if process.is_alive():
        process.join(5)  # it has sent its result, and may be closing files
    try:
        for each in (*tree.children(recursive=True), tree):
            each.kill()
    except psutil.NoSuchProcess:
        pass
    process.join()
