"""Many questions on a Ray cluster: the same rows as without, whoever dies, and a sentence where there is no cluster."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from deeprag_graph.bulk import run
from deeprag_graph.cli import main
from deeprag_graph.errors import OperatorError
from tests.bulk.conftest import (
    Busy,
    descendants,
    ledger_lines,
    questions,
    run_to_its_end,
    running,
    timeless,
    wait_for,
    write,
)
from tests.bulk.test_processes import here, ids, told
from tests.fake_server import FakeServer, free_address

pytestmark = [pytest.mark.ray, pytest.mark.slow]

_CPUS = 4


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if importlib.util.find_spec("ray") is None:
        missing = 'ray is not installed: pip install -e ".[ray]".'
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(scope="module")
def address(_installed: None) -> Iterator[str]:
    """Start a cluster on this machine, for all tests of this file, and return its address."""
    port = free_address().removesuffix("/v1").rpartition(":")[2]
    where = ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
    size = [f"--num-cpus={_CPUS}", "--object-store-memory=200000000"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, *size, "--block"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as cluster:
        try:
            _wait_for_cluster(f"127.0.0.1:{port}")
            yield f"127.0.0.1:{port}"
        finally:
            for pid in descendants(cluster.pid):
                _kill(pid)
            cluster.kill()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _wait_for_cluster(address: str) -> None:
    from deeprag_graph.bulk.ray_engine import _check_address

    def there() -> bool:
        try:
            _check_address(address)
        except OSError:
            return False
        return True

    wait_for(there, "a Ray cluster")


@pytest.fixture
def cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name the cluster to this process and to those that it starts."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ADDRESS", address)
    return address


def test_the_same_ledger_as_without_ray(cluster: str, tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", questions(12))
    with Busy() as server:
        flags = ["--questions", file, *server.flags(), "--concurrency", 4, "--calibrate", "path"]
        without = run_to_its_end("explore", *flags, "--ledger", tmp_path / "without.jsonl")
        with_ray = run_to_its_end(
            "explore", *flags, "--ledger", tmp_path / "with.jsonl", "--engine", "ray", "--workers", 2
        )
        assert (without.returncode, with_ray.returncode) == (0, 0), with_ray.stderr
    assert len(ledger_lines(tmp_path / "with.jsonl")) == 12
    assert timeless(ledger_lines(tmp_path / "with.jsonl")) == timeless(ledger_lines(tmp_path / "without.jsonl"))


def test_ask_answers_a_file_on_a_cluster_that_it_starts_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    file = write(tmp_path / "q.jsonl", questions(8))
    with Busy("P") as server:
        flags = ["--questions", file, *server.flags(), "--engine", "ray", "--workers", 2, "--concurrency", 4, "--json"]
        asked = run_to_its_end("ask", *flags, RAY_AUTH_MODE="disabled")
        assert server.most <= 4
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.count('"answer": "done"') == 8
    assert "8 questions, 8 of 8 exactly right, 0 failed" in asked.stderr


def test_a_worker_that_is_killed_costs_no_row_and_brings_none_twice(cluster: str) -> None:
    asked = told(*["sleep 0.02"] * 60)
    done: list[str] = []
    pids = set()
    for question, row in run(here(), asked, concurrency=7, workers=2, engine="ray"):
        assert row["share"] == 3
        done.append(question["id"])
        pids.add(row["pid"])
        if len(done) == 20:
            os.kill(row["pid"], signal.SIGKILL)
    assert sorted(done) == ids(asked)
    assert len(pids) >= 2


def test_a_question_of_which_a_worker_dies_fails_and_those_around_it_do_not(cluster: str) -> None:
    asked = told(*["sleep 0.5"] * 3, "die", *["sleep 0.01"] * 10)
    rows = {question["id"]: row for question, row in run(here(), asked, concurrency=4, workers=1, engine="ray")}
    assert sorted(rows) == ids(asked)
    failed = {id: row["error"] for id, row in rows.items() if not row["pid"]}
    assert failed == {"3 die": "the worker process ended 3 times with this question"}


def test_workers_that_die_at_once_end_in_a_sentence(cluster: str) -> None:
    with pytest.raises(OperatorError, match=r"^Workers on the Ray cluster end at once: is memory short\?$"):
        list(run(here("die"), told("wait", "wait"), concurrency=1, engine="ray"))


@pytest.mark.parametrize(
    ("opening", "question", "sentence"),
    [("refuse", "wait", "Nobody is there."), ("", "refuse", "The key is wrong.")],
)
def test_a_mistake_of_the_operator_in_a_worker_is_that_sentence(
    opening: str, question: str, sentence: str, cluster: str
) -> None:
    with pytest.raises(OperatorError) as error:
        list(run(here(opening), told(question, "wait"), concurrency=2, engine="ray"))
    assert str(error.value) == sentence


def test_a_run_whose_driver_is_killed_goes_on_where_it_was(cluster: str, tmp_path: Path) -> None:
    file, ledger = write(tmp_path / "q.jsonl", questions(60)), tmp_path / "trees.jsonl"
    with Busy(seconds=0.1) as server:
        flags = ["--questions", file, "--ledger", ledger, *server.flags(), "--engine", "ray"]
        flags += ["--workers", 2, "--concurrency", 4]
        with running("explore", *flags) as exploring:
            wait_for(lambda: len(ledger_lines(ledger)) >= 20, "twenty questions searched")
            exploring.kill()
        kept = ledger_lines(ledger)
        assert 20 <= len(kept) < 60
        again = run_to_its_end("explore", *flags)
    assert again.returncode == 0, again.stderr
    records = ledger_lines(ledger)
    assert [record["id"] for record in records] == sorted(question["id"] for question in questions(60))
    assert all(record in records for record in kept)


def test_ctrl_c_is_exit_code_130_and_leaves_whole_lines(cluster: str, tmp_path: Path) -> None:
    file, ledger = write(tmp_path / "q.jsonl", questions(200)), tmp_path / "trees.jsonl"
    flags = ["--questions", file, "--ledger", ledger, "--engine", "ray", "--workers", 2, "--concurrency", 4]
    with Busy(seconds=0.1) as server, running("explore", *flags, *server.flags()) as exploring:
        wait_for(lambda: len(ledger_lines(ledger)) >= 5, "five questions searched")
        os.killpg(exploring.pid, signal.SIGINT)
        _, shown = exploring.communicate(timeout=60)
    assert exploring.returncode == 130, shown
    assert "deeprag: stopped\n" in shown
    assert ledger.read_text().endswith("\n")


# --- no cluster, or none with room ---


def _explore(tmp_path: Path, server: FakeServer) -> tuple[int, float]:
    """Run the command in this process; return its exit code and the seconds that it took."""
    file = write(tmp_path / "q.jsonl", questions(4))
    flags = ["--policy", "completion", "--model", "scripted-model", "--base-url", server.url, "--concurrency", "2"]
    began = time.monotonic()
    code = main(["ask", "--questions", str(file), *flags, "--workers", "2", "--engine", "ray"])
    return code, time.monotonic() - began


def test_a_cluster_without_a_free_cpu_is_a_sentence(
    cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray")
    ray.init(cluster, log_to_driver=False)
    try:

        class Holder:
            def there(self) -> bool:
                return True

        _wait_until_free(ray)
        holder = ray.remote(num_cpus=_CPUS - 1)(Holder).remote()
        assert ray.get(holder.there.remote())
        with FakeServer() as server:
            code, seconds = _explore(tmp_path, server)
    finally:
        ray.shutdown()
    assert code == 2
    assert seconds < 30
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("deeprag: The Ray cluster has 1 logical CPUs free, 2 workers need 2: take fewer --workers")


def _wait_until_free(ray: Any) -> None:
    wait_for(lambda: ray.available_resources().get("CPU", 0) == _CPUS, "the CPUs of the runs before")


def test_no_cluster_at_the_address_is_a_sentence_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = free_address().removeprefix("http://").removesuffix("/v1")
    monkeypatch.setenv("RAY_ADDRESS", nowhere)
    with FakeServer() as server:
        code, seconds = _explore(tmp_path, server)
    assert code == 2
    assert seconds < 20
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith(f"deeprag: There is no Ray cluster at {nowhere} (RAY_ADDRESS): ")


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_something_else_at_the_address_is_a_sentence_at_once(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer() as server:
        monkeypatch.setenv("RAY_ADDRESS", there := f"{scheme}127.0.0.1:{server.port}")
        code, seconds = _explore(tmp_path, server)
    assert code == 2
    assert seconds < 20
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown == f"deeprag: There is no Ray cluster at {there} (RAY_ADDRESS): something else listens there."
