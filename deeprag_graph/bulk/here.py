"""Many questions at once in this process: one event loop, one bound on the questions under way."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from deeprag_graph.bulk.jobs import Row, Worker
from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question

_R = TypeVar("_R")


def run_here(worker: Worker, questions: Sequence[Question], concurrency: int) -> Iterator[tuple[Question, Row]]:
    """Yield each question with its row, in the order of completion; `bulk.run` says more."""
    with seldom_collecting(), asyncio.Runner() as runner:
        rows = work_on(worker, questions, concurrency)
        try:
            while (done := runner.run(_next(rows))) is not None:
                yield done
        finally:
            runner.run(rows.aclose())


async def _next(rows: AsyncGenerator[_R]) -> _R | None:
    return await anext(rows, None)


async def work_on(
    worker: Worker, questions: Sequence[Question], concurrency: int
) -> AsyncGenerator[tuple[Question, Row]]:
    """Yield (question, row) in the order of completion; at most `concurrency` questions are under way.

    What only the operator can mend ends them all, but not before the rows that are there by then have been yielded.
    """
    waiting = iter(questions)
    running: dict[asyncio.Task[Row], Question] = {}
    try:
        while True:
            while len(running) < concurrency and (question := next(waiting, None)) is not None:
                running[asyncio.create_task(row_of(worker, question))] = question
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=_raised):
                yield running.pop(task), task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def row_of(worker: Worker, question: Question) -> Row:
    """Return the row of a question; a defect of ours fails this question and not the thousands around it."""
    try:
        return await worker.work(question)
    except OperatorError:
        raise
    except Exception as error:
        return worker.failed(question, f"{type(error).__name__}: {error}"[:300])


def _raised(task: "asyncio.Task[Row]") -> bool:
    return task.cancelled() or task.exception() is not None


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Let Python collect garbage less often, and not in what is loaded by now.

    Going through all that hundreds of questions hold, again and again, is a third of the CPU of a call
    (benchmarks/throughput.py).
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
