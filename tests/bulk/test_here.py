"""Many questions at once in one process: the bound, the order, what fails and what ends them all."""

import asyncio
import gc
from contextlib import suppress
from typing import Any

import pytest

from deeprag_graph.bulk import run
from deeprag_graph.bulk.here import work_on
from deeprag_graph.bulk.jobs import Row
from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question


def named(*names: str) -> list[Question]:
    return [Question(id=name, question=name, answers=[]) for name in names]


class Instant:
    """A worker that answers at once, refuses, breaks, or takes for ever and takes its time to stop, too."""

    job: Any = None

    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.under_way = self.most = 0

    async def work(self, question: Question) -> Row:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return {"answer": await self._answer(question["question"])}
        finally:
            self.under_way -= 1

    async def _answer(self, name: str) -> str:
        if name == "refused":
            raise OperatorError("The key is wrong.")
        if name == "broken":
            raise KeyError("steps")
        try:
            await asyncio.sleep(60 if name == "endless" else 0.001)
        finally:
            await asyncio.sleep(0.01)
            self.stopped.append(name)
        return name

    def failed(self, question: Question, reason: str) -> Row:
        return {"answer": "", "error": reason}


async def test_one_refused_question_loses_no_row_that_is_there_and_the_others_have_stopped() -> None:
    worker = Instant()
    rows = []
    with pytest.raises(OperatorError, match="key"):
        async for question, _ in work_on(worker, named("first", "second", "endless", "refused"), 2):
            rows.append(question["id"])
    assert sorted(rows) == ["first", "second"]
    assert worker.stopped[-1] == "endless"


def test_every_question_comes_back_once_and_no_more_than_the_bound_are_under_way() -> None:
    worker = Instant()
    questions = named(*(f"q{n}" for n in range(25)))
    rows = [question["id"] for question, _ in run(worker, questions, concurrency=7)]
    assert sorted(rows) == sorted(question["id"] for question in questions)
    assert worker.most == 7


def test_a_slow_question_holds_no_other_one_up() -> None:
    worker = Instant()
    rows = run(worker, named("endless", *(f"q{n}" for n in range(20))), concurrency=2)
    assert [next(rows)[0]["id"] for _ in range(20)] == [f"q{n}" for n in range(20)]
    rows.close()
    assert worker.stopped[-1] == "endless"


def test_what_is_our_own_defect_fails_one_question_and_not_the_run() -> None:
    rows = {question["id"]: row for question, row in run(Instant(), named("a", "broken", "b"))}
    assert rows == {"a": {"answer": "a"}, "broken": {"answer": "", "error": "KeyError: 'steps'"}, "b": {"answer": "b"}}


def test_no_questions_are_no_work() -> None:
    assert list(run(Instant(), [])) == []


@pytest.mark.parametrize("names", [("a", "b"), ("a", "refused")])
def test_the_garbage_collector_of_the_process_is_left_as_it_was(names: tuple[str, ...]) -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with suppress(OperatorError):
        for _ in run(Instant(), named(*names)):
            assert gc.get_threshold() != before[0]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
