"""Many questions at once in several processes of this machine: one gives out the questions and collects the rows.

Each worker process has the whole graph and an event loop. The questions go to it one by one, a new one for each row
that comes back, so that no worker runs dry while another is full. A worker that dies is started again with the
questions it had. Those that were there twice when it died are worked on one at a time, so that only the one that is
the death of its worker ends as failed.
"""

import asyncio
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from deeprag_graph.bulk.here import row_of, seldom_collecting
from deeprag_graph.bulk.jobs import Job, Row, Say, Worker
from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question

_DEATHS: Final = 3  # with a question under way; or, in a row, of a worker that never got to work
_SUSPECT: Final = _DEATHS - 1  # after so many a question has its worker to itself


class _Process:
    """A worker process as its parent sees it, and the one that takes its place when it has died.

    Attributes:
        share: most questions to give it.
        questions: those that it has.
        again: those that an earlier one has left.
        ready: whether it has got to work.
        early_deaths: how many in a row never did.
    """

    def __init__(self, job: Job, share: int) -> None:
        self._job, self.share = job, share
        self.questions: dict[str, Question] = {}
        self.again: deque[Question] = deque()
        self.early_deaths = 0
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.ready = False
        processes = get_context("spawn")  # a fork would share connections and threads with this process
        self.connection, theirs = processes.Pipe()
        self._process = processes.Process(target=_serve, args=(theirs, self._job, self.share), daemon=True)
        with _deaf_to_ctrl_c():
            self._process.start()
        theirs.close()

    def give(self, question: Question) -> None:
        """Have a question worked on."""
        self.questions[question["id"]] = question
        with suppress(OSError):  # it has died: whoever waits for it will see
            self.connection.send(question)

    def bury(self) -> int | None:
        """Take the questions back from a process that has died, and return its exit code."""
        self._process.join()
        self.connection.close()
        self.again.extend(self.questions.values())
        self.questions.clear()
        self.early_deaths += not self.ready
        return self._process.exitcode

    def stop(self) -> None:
        """End the process; it keeps nothing that would have to be saved."""
        self.connection.close()
        self._process.kill()
        self._process.join()


def run_processes(
    worker: Worker, questions: Sequence[Question], concurrency: int, workers: int, say: Say
) -> Iterator[tuple[Question, Row]]:
    """Yield each question with its row, in the order of completion; `bulk.run` says more."""
    crew: list[_Process] = []
    try:
        for share in shares(min(concurrency, len(questions)), workers):
            crew.append(_Process(worker.job, share))
        yield from _Foreman(crew, deque(questions), worker, say).rows()
    finally:
        for process in crew:
            process.stop()


def shares(concurrency: int, workers: int) -> list[int]:
    """Return how many questions each worker may have at once, `concurrency` altogether; no worker has none."""
    each, more = divmod(concurrency, workers)
    return [each + (number < more) for number in range(min(workers, concurrency))]


class _Foreman:
    """Gives out the questions, and makes sure that each comes back."""

    def __init__(self, crew: list[_Process], left: deque[Question], here: Worker, say: Say) -> None:
        self._crew, self._left, self._here, self._say = crew, left, here, say
        self._deaths: Counter[str] = Counter()

    def rows(self) -> Iterator[tuple[Question, Row]]:
        """Yield the rows."""
        for process in self._crew:
            self._fill(process)
        while any(process.questions for process in self._crew):
            by_connection = {process.connection: process for process in self._crew if process.questions}
            for connection in wait(list(by_connection)):
                yield from self._hear(by_connection[connection])  # type: ignore[index]

    def _fill(self, process: _Process) -> None:
        """Give a process as many questions as it may have, first those that it has had before."""
        while len(process.questions) < self._room(process) and (waiting := process.again or self._left):
            process.give(waiting.popleft())

    def _room(self, process: _Process) -> int:
        suspects = any(self._deaths[id] >= _SUSPECT for id in process.questions)
        suspects = suspects or any(self._deaths[question["id"]] >= _SUSPECT for question in process.again)
        return 1 if suspects else process.share

    def _hear(self, process: _Process) -> Iterator[tuple[Question, Row]]:
        try:
            kind, body = process.connection.recv()
        except (EOFError, OSError):
            yield from self._replace(process)
            return
        if kind == "row":
            id, row = body
            yield process.questions.pop(id), row
            self._fill(process)
        elif kind == "say":
            self._say(body)
        elif kind == "ready":
            process.ready, process.early_deaths = True, 0
        else:
            yield from self._rows_by_now()
            raise body

    def _rows_by_now(self) -> Iterator[tuple[Question, Row]]:
        for process in self._crew:
            with suppress(EOFError, OSError):
                while process.connection.poll():
                    kind, body = process.connection.recv()
                    if kind == "row":
                        id, row = body
                        yield process.questions.pop(id), row

    def _replace(self, process: _Process) -> Iterator[tuple[Question, Row]]:
        """Start a worker that has died again, without the question of which it dies."""
        if process.ready:
            self._deaths.update(process.questions.keys())  # of a mapping it would take the values for counts
        code = process.bury()
        if process.early_deaths >= _DEATHS:
            raise OperatorError(f"Worker processes end at once (exit code {code}): is memory short?")
        self._say(f"A worker process has ended (exit code {code}); it is started again.")
        for question in list(process.again):
            if self._deaths[question["id"]] >= _DEATHS:
                process.again.remove(question)
                reason = f"the worker process ended {_DEATHS} times with this question"
                yield question, self._here.failed(question, reason)
        process.start()
        self._fill(process)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Have processes that are started meanwhile take no notice of Ctrl-C, not even while they load what they need."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: `_serve` sees to it, a little later
        yield
        return
    resource_tracker.ensure_running()  # starting that one would lift the mask
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


# --- in the worker process ---


def _serve(connection: Connection, job: Job, concurrency: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: it is the parent's to end this
    try:
        asyncio.run(_work(connection, job, concurrency))
    except OperatorError as error:
        _tell(connection, "error", error)


async def _work(connection: Connection, job: Job, concurrency: int) -> None:
    broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    running: set[asyncio.Task[None]] = set()

    async def answer(question: Question) -> None:
        _tell(connection, "row", (question["id"], await row_of(worker, question)))

    def ended(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not broken.done():
            broken.set_exception(error)

    def begin(question: Question) -> None:
        task = asyncio.ensure_future(answer(question))
        running.add(task)
        task.add_done_callback(ended)

    # listening comes first: the parent may end while a server is slow to answer `open`
    threading.Thread(target=_listen, args=(connection, asyncio.get_running_loop(), begin), daemon=True).start()
    worker = job.open(concurrency, lambda text: _tell(connection, "say", text))
    _tell(connection, "ready", None)
    with seldom_collecting():
        await broken


def _tell(connection: Connection, kind: str, body: Any) -> None:
    try:
        connection.send((kind, body))
    except ConnectionError:
        os._exit(0)  # the parent has ended


def _listen(connection: Connection, loop: asyncio.AbstractEventLoop, begin: Callable[[Any], None]) -> None:
    """Hand the questions that come over the connection to the event loop, until the parent has ended."""
    while True:
        try:
            question = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        loop.call_soon_threadsafe(begin, question)
