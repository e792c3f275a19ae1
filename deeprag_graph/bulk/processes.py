"""Many questions at once in several processes of this machine: one gives out the questions and collects the rows.

Each worker process has the whole graph and an event loop. The questions go to it one by one, a new one for each row
that comes back, so that no worker runs dry while another is full. A worker that dies is started again with the
questions it had; one that dies of the same question each time leaves that question as failed.
"""

import asyncio
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from deeprag_graph.bulk.here import row_of, seldom_collecting
from deeprag_graph.bulk.jobs import Job, Row, Say, Worker
from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question

_DEATHS: Final = 3  # with a question under way, or of a worker that never got to work


class _Process:
    """A worker process as its parent sees it: the connection, and the questions that it has."""

    def __init__(self, job: Job, concurrency: int) -> None:
        self._job, self._concurrency = job, concurrency
        self.questions: dict[str, Question] = {}
        self.start()

    def start(self) -> None:
        """Start the process, with the questions that an earlier one has left."""
        processes = get_context("spawn")  # a fork would share connections and threads with this process
        self.connection, theirs = processes.Pipe()
        self.process = processes.Process(target=_serve, args=(theirs, self._job, self._concurrency), daemon=True)
        self.process.start()
        theirs.close()
        for question in self.questions.values():
            self._send(question)

    def give(self, question: Question) -> None:
        """Have a question worked on."""
        self.questions[question["id"]] = question
        self._send(question)

    def _send(self, question: Question) -> None:
        try:
            self.connection.send(question)
        except OSError:
            return  # it has died: whoever waits for it will see

    def stop(self) -> None:
        """End the process; it keeps nothing that would have to be saved."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def run_processes(
    worker: Worker, questions: Sequence[Question], concurrency: int, workers: int, say: Say
) -> Iterator[tuple[Question, Row]]:
    """Yield each question with its row, in the order of completion; `bulk.run` says more."""
    share = max(1, concurrency // workers)
    crew = [_Process(worker.job, share) for _ in range(min(workers, len(questions)))]
    try:
        yield from _Foreman(crew, deque(questions), worker, say).rows(share)
    finally:
        for process in crew:
            process.stop()


class _Foreman:
    """Gives out the questions, and makes sure that each comes back."""

    def __init__(self, crew: list[_Process], left: deque[Question], here: Worker, say: Say) -> None:
        self._crew, self._left, self._here, self._say = crew, left, here, say
        self._deaths: Counter[str] = Counter()
        self._early_deaths = 0

    def rows(self, share: int) -> Iterator[tuple[Question, Row]]:
        """Yield the rows; each process has `share` questions at a time."""
        for _ in range(share):
            for worker in self._crew:
                self._give(worker)
        while any(worker.questions for worker in self._crew):
            by_connection = {worker.connection: worker for worker in self._crew if worker.questions}
            for connection in wait(list(by_connection)):
                yield from self._hear(by_connection[connection])  # type: ignore[index]

    def _give(self, worker: _Process) -> None:
        if self._left:
            worker.give(self._left.popleft())

    def _hear(self, worker: _Process) -> Iterator[tuple[Question, Row]]:
        try:
            kind, body = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._replace(worker)
            return
        if kind == "row":
            id, row = body
            self._early_deaths = 0
            yield worker.questions.pop(id), row
            self._give(worker)
        elif kind == "say":
            self._say(body)
        else:
            raise body

    def _replace(self, worker: _Process) -> Iterator[tuple[Question, Row]]:
        """Start a worker that has died again, without the questions of which it seems to die."""
        worker.process.join()
        self._early_deaths += 1
        if self._early_deaths > _DEATHS * len(self._crew):
            raise OperatorError(f"Worker processes end at once (exit code {worker.process.exitcode}): is memory short?")
        self._say(f"A worker process has ended (exit code {worker.process.exitcode}); it is started again.")
        self._deaths.update(worker.questions)
        fatal = [id for id in worker.questions if self._deaths[id] >= _DEATHS]
        for id in fatal:
            question = worker.questions.pop(id)
            reason = f"the worker process ended {_DEATHS} times with this question"
            yield question, self._here.failed(question, reason)
        worker.connection.close()
        worker.start()
        for _ in fatal:
            self._give(worker)


# --- in the worker process ---


def _serve(connection: Connection, job: Job, concurrency: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: it is the parent's to end this
    try:
        asyncio.run(_work(connection, job, concurrency))
    except OperatorError as error:
        connection.send(("error", error))


async def _work(connection: Connection, job: Job, concurrency: int) -> None:
    def say(text: str) -> None:
        connection.send(("say", text))

    worker = job.open(concurrency, say)
    broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    running: set[asyncio.Task[None]] = set()

    async def answer(question: Question) -> None:
        connection.send(("row", (question["id"], await row_of(worker, question))))

    def ended(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if (error := task.exception()) is not None and not broken.done():
            broken.set_exception(error)

    def begin(question: Question) -> None:
        task = asyncio.ensure_future(answer(question))
        running.add(task)
        task.add_done_callback(ended)

    threading.Thread(target=_listen, args=(connection, asyncio.get_running_loop(), begin), daemon=True).start()
    with seldom_collecting():
        await broken


def _listen(connection: Connection, loop: asyncio.AbstractEventLoop, begin: Callable[[Any], None]) -> None:
    """Hand the questions that come over the connection to the event loop, until the parent has ended."""
    while True:
        try:
            question = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        loop.call_soon_threadsafe(begin, question)
