"""Many questions in several processes: the same rows as in one, whoever dies, and nothing left running."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprag_graph.bulk import AskJob, PartsChoice, run
from deeprag_graph.bulk.jobs import Row, Say
from deeprag_graph.bulk.processes import shares
from deeprag_graph.cli import main
from deeprag_graph.errors import ModelUnreachableError, OperatorError
from deeprag_graph.parts import ModelChoice
from deeprag_graph.questions import Question
from deeprag_graph.state import Context
from tests.bulk.conftest import (
    SECONDS,
    Busy,
    alive,
    descendants,
    ledger_lines,
    questions,
    run_to_its_end,
    running,
    timeless,
    wait_for,
    write,
)
from tests.fake_server import MODEL

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and kills")


# --- a job that does what its questions say ---


@dataclass(frozen=True)
class Told:
    """A job; `opening` is what opening it does in a worker process."""

    opening: str = ""
    choice: Any = None

    def open(self, concurrency: int, say: Say) -> "Obedient":
        if self.opening == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.opening == "refuse":
            raise ModelUnreachableError("Nobody is there.")
        if self.opening == "hang":
            time.sleep(600)
        return Obedient(self, concurrency, say)


class Obedient:
    def __init__(self, job: Told, share: int, say: Say) -> None:
        self.job, self._share, self._say = job, share, say

    async def work(self, question: Question) -> Row:
        what, _, argument = question["question"].partition(" ")
        if what == "say":
            self._say(argument)
        if what == "die":
            await asyncio.sleep(0.05)  # others have begun
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "refuse":
            raise OperatorError("The key is wrong.")
        if what == "break":
            raise KeyError("steps")
        await asyncio.sleep(float(argument) if what == "sleep" else 0.005)
        return {"pid": os.getpid(), "share": self._share}

    def failed(self, question: Question, reason: str) -> Row:
        return {"pid": 0, "error": reason}


def told(*texts: str) -> list[Question]:
    return [Question(id=f"{n} {text}", question=text, answers=[]) for n, text in enumerate(texts)]


def here(opening: str = "") -> Obedient:
    """Return the job open in this process."""
    return Obedient(Told(opening), 0, lambda _: None)


def ids(asked: list[Question]) -> list[str]:
    return sorted(question["id"] for question in asked)


@given(concurrency=st.integers(1, 300), workers=st.integers(1, 50))
def test_the_shares_are_whole_alike_and_altogether_the_bound(concurrency: int, workers: int) -> None:
    parts = shares(concurrency, workers)
    assert sum(parts) == concurrency
    assert len(parts) == min(workers, concurrency)
    assert max(parts) - min(parts) <= 1


def test_every_question_comes_back_once_from_all_the_processes_and_what_they_say_arrives() -> None:
    asked = told(*["sleep 0.05"] * 40, "say Waiting for it.", "break")
    said: list[str] = []
    rows = [(question["id"], row) for question, row in run(here(), asked, concurrency=7, workers=2, say=said.append)]
    assert sorted(id for id, _ in rows) == ids(asked)
    by_process = {row["pid"]: row["share"] for _, row in rows if row["pid"]}
    assert sorted(by_process.values()) == [3, 4]
    assert os.getpid() not in by_process
    assert said == ["Waiting for it."]
    assert [row["error"] for _, row in rows if not row["pid"]] == ["KeyError: 'steps'"]


def test_no_more_processes_are_started_than_questions_may_be_under_way() -> None:
    rows = [row for _, row in run(here(), told(*["wait"] * 10), concurrency=1, workers=4)]
    assert len({row["pid"] for row in rows}) == 1
    assert len(rows) == 10


def test_a_worker_that_is_killed_is_replaced_and_each_question_comes_back_once() -> None:
    asked = told(*["sleep 0.02"] * 60)
    said: list[str] = []
    done = []
    for question, row in run(here(), asked, concurrency=8, workers=2, say=said.append):
        done.append(question["id"])
        if len(done) == 20:
            os.kill(row["pid"], signal.SIGKILL)
    assert sorted(done) == ids(asked)
    assert said == ["A worker process has ended (exit code -9); it is started again."]


@pytest.mark.slow
def test_questions_of_which_a_worker_dies_fail_and_those_around_them_do_not() -> None:
    asked = told(*["sleep 0.5"] * 3, "die", *["sleep 0.5"] * 3, "die", "die", *["sleep 0.01"] * 20)
    said: list[str] = []
    rows = {question["id"]: row for question, row in run(here(), asked, concurrency=8, workers=2, say=said.append)}
    assert sorted(rows) == ids(asked)
    failed = {id: row["error"] for id, row in rows.items() if not row["pid"]}
    assert sorted(failed) == ["3 die", "7 die", "8 die"]
    assert set(failed.values()) == {"the worker process ended 3 times with this question"}
    assert len(said) <= 9


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_die_at_once_end_in_a_sentence(workers: int) -> None:
    with pytest.raises(OperatorError, match=r"^Worker processes end at once \(exit code -9\): is memory short\?$"):
        list(run(here("die"), told(*["wait"] * 9), concurrency=6, workers=workers))


def test_a_mistake_of_the_operator_in_a_worker_is_that_sentence() -> None:
    with pytest.raises(ModelUnreachableError, match=r"^Nobody is there\.$"):
        list(run(here("refuse"), told("wait", "wait"), concurrency=2, workers=2))


def test_a_refused_question_ends_the_run_with_the_rows_that_are_there_and_no_process_is_left() -> None:
    before = descendants(os.getpid())
    asked = told("wait", "wait", "wait", "refuse", "sleep 60", "sleep 60")
    done = []
    with pytest.raises(OperatorError, match=r"^The key is wrong\.$"):
        for question, _ in run(here(), asked, concurrency=2, workers=2):
            done.append(question["id"])
    assert len(done) == len(set(done)) >= 2
    left = {pid for pid in descendants(os.getpid()) - before if "resource_tracker" not in _command(pid)}
    assert left == set()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


# --- with the graph and a server ---


@pytest.mark.slow
def test_two_processes_fill_the_same_ledger_as_one(tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", questions(12))
    with Busy() as server:
        flags = ["--questions", file, *server.flags(), "--concurrency", 4, "--calibrate", "path"]
        one = run_to_its_end("explore", *flags, "--ledger", tmp_path / "one.jsonl")
        two = run_to_its_end("explore", *flags, "--ledger", tmp_path / "two.jsonl", "--workers", 2)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert len(ledger_lines(tmp_path / "one.jsonl")) == 12
    assert timeless(ledger_lines(tmp_path / "one.jsonl")) == timeless(ledger_lines(tmp_path / "two.jsonl"))
    assert "Traceback" not in two.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("concurrency", "workers"), [(7, 2), (2, 3)])
def test_the_bound_is_reached_and_not_passed_by_all_processes_together(concurrency: int, workers: int) -> None:
    with Busy("P", seconds=0.5) as server:
        job = AskJob(PartsChoice(ModelChoice("completion", MODEL, (server.url,))), Context())
        asked = questions(5 * concurrency)
        rows = list(run(job.open(1, print), asked, concurrency=concurrency, workers=workers))
    assert {row["answer"] for _, row in rows} == {"done"}
    assert sorted(question["id"] for question, _ in rows) == ids(asked)
    assert server.most == concurrency


def test_processes_are_refused_to_the_local_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "q.jsonl", questions(2))
    assert main(["ask", "--questions", str(file), "--workers", "2"]) == 2
    assert "deeprag: The local model takes all cores as it is" in capsys.readouterr().err


# --- the end of it all ---


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["loading", "working"])
def test_ctrl_c_ends_parent_and_workers_and_leaves_whole_lines(moment: str, tmp_path: Path) -> None:
    file, ledger = write(tmp_path / "q.jsonl", questions(400)), tmp_path / "trees.jsonl"
    flags = ["--questions", file, "--ledger", ledger, "--concurrency", 4, "--workers", 2]
    with Busy(seconds=0.1) as server, running("explore", *flags, *server.flags()) as exploring:
        if moment == "working":
            wait_for(lambda: len(ledger_lines(ledger)) >= 5, "five questions searched")
        else:
            wait_for(lambda: len(_workers(exploring.pid)) == 2, "two workers started")
        started = descendants(exploring.pid)
        os.killpg(exploring.pid, signal.SIGINT)
        _, shown = exploring.communicate(timeout=SECONDS)
    assert exploring.returncode == 130
    assert shown.endswith("\ndeeprag: stopped\n")
    assert "Traceback" not in shown
    assert "has ended" not in shown
    done = len(ledger_lines(ledger))
    told = f"\n{done} of 400 questions are in {ledger}; the same command goes on from there.\n"
    assert (told in shown) == (done > 0)
    assert ledger.exists() == (done > 0)  # one without a line is not left behind
    assert not done or ledger.read_text().endswith("\n")
    wait_for(lambda: not alive(started), "all processes ended")


def _workers(pid: int) -> set[int]:
    return {child for child in descendants(pid) if "spawn_main" in _command(child)}


@pytest.mark.slow
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    file, ledger = write(tmp_path / "q.jsonl", questions(400)), tmp_path / "trees.jsonl"
    flags = ["--questions", file, "--ledger", ledger, "--concurrency", 4, "--workers", 2]
    with Busy(seconds=0.1) as server, running("explore", *flags, *server.flags()) as exploring:
        wait_for(lambda: len(ledger_lines(ledger)) >= 5, "five questions searched")
        started = descendants(exploring.pid)
        assert len(_workers(exploring.pid)) == 2
        exploring.kill()
        _, shown = exploring.communicate(timeout=SECONDS)
        wait_for(lambda: not alive(started), "all processes ended")
    assert "Traceback" not in shown


@pytest.mark.slow
def test_no_worker_outlives_a_parent_that_is_killed_while_the_worker_waits_to_be_open() -> None:
    lines = (
        "from tests.bulk.test_processes import here, told",
        "from deeprag_graph.bulk import run",
        "if __name__ == '__main__': list(run(here('hang'), told('wait', 'wait'), concurrency=2, workers=2))",
    )
    with subprocess.Popen([sys.executable, "-c", "\n".join(lines)], start_new_session=True) as parent:
        wait_for(lambda: len(_workers(parent.pid)) == 2, "two workers started")
        started = descendants(parent.pid)
        time.sleep(3)  # they have loaded what they need; wherever they are by then, they must end
        parent.kill()
        parent.wait()
        wait_for(lambda: not alive(started), "all processes ended", 30)
