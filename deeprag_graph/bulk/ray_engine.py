"""Many questions on many machines: the same work as one stage of Ray Data.

The workers are actors that hold the graph; questions flow to them and rows flow back to this process, which writes the
one ledger. Ray runs the questions of a lost actor again, and again: what is the death of its worker each time is left
to a second stage, a question a worker, and fails there. Ray does not survive the end of this process: the ledger does.
"""

import json
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import ray
import ray.data
import ray.exceptions

from deeprag_graph.bulk.here import row_of
from deeprag_graph.bulk.jobs import Job, Row, Worker
from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question

_CPUS: Final = 0.5  # logical CPUs a worker: it mostly waits for its model, and Ray's own reading tasks need one
_READING: Final = 1.0
_PATIENCE: Final = 5.0  # seconds, for an address to answer and for CPUs to become free
_DEATHS: Final = 3  # of a worker with a question under way; or, in a row, of workers that never got to work
# How a client begins and a server answers in HTTP/2, which gRPC speaks: each with the settings, a frame of kind 4.
_HELLO: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"


def run_ray(
    worker: Worker, questions: Sequence[Question], concurrency: int, workers: int
) -> Iterator[tuple[Question, Row]]:
    """Yield each question with its row, in the order of completion; `bulk.run` says more.

    All workers have as many questions at once: 7 over 2 workers are 3 each.
    """
    concurrency = min(concurrency, len(questions))
    workers = min(workers, concurrency)
    waiting = {question["id"]: question for question in questions}
    started = _connect(workers)
    try:
        _check_room(workers)
        for share in dict.fromkeys((concurrency // workers, 1)):
            if waiting:
                yield from _stage(worker.job, waiting, share, workers)
    except ray.exceptions.RayError as error:
        raise OperatorError(
            f"The Ray cluster has failed ({_first_line(error)}); run the same command again to go on."
        ) from error
    finally:
        if started:
            ray.shutdown()
    for question in waiting.values():
        yield question, worker.failed(question, f"the worker process ended {_DEATHS} times with this question")


def _connect(workers: int) -> bool:
    """Join the cluster at RAY_ADDRESS, or begin one on this machine; return whether there was no connection before."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _check_address(address)
            ray.init(address, logging_level=logging.WARNING)
        else:
            room = max(os.cpu_count() or 1, int(workers * _CPUS + _READING) + 1)
            ray.init(
                "local",
                num_cpus=room,
                _node_ip_address="127.0.0.1",  # without it an old cluster in Ray's folder is waited for
                include_dashboard=False,
                object_store_memory=200_000_000,
                logging_level=logging.WARNING,
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = f"at {address} (RAY_ADDRESS)" if address else "on this machine"
        raise OperatorError(f"There is no Ray cluster {where}: {_first_line(error)}") from error
    return True


def _check_address(address: str) -> None:
    """Raise `OSError` where nothing of Ray's can be at HOST:PORT, for which Ray would try for many minutes."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if not (separator and port.isdigit()):
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return
        connection.sendall(_HELLO)
        if connection.recv(9)[3:4] != b"\x04":
            raise OSError("something else listens there.")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _check_room(workers: int) -> None:
    """Raise `OperatorError` where Ray would wait for ever, without a word, for logical CPUs that are taken."""
    needed, until = workers * _CPUS + _READING, time.monotonic() + _PATIENCE
    while (free := _free_cpus()) < needed and time.monotonic() < until:
        time.sleep(0.2)  # those of a run that has just ended come back a little later
    if free < needed:
        raise OperatorError(
            f"The Ray cluster has {free:g} logical CPUs free, {workers} workers need {needed:g}: take fewer --workers, "
            "wait for other jobs, or start the cluster with more (ray start --num-cpus N)."
        )


def _free_cpus() -> float:
    return float(dict(ray.available_resources()).get("CPU", 0.0))  # type: ignore[no-untyped-call]


def _stage(job: Job, waiting: dict[str, Question], share: int, workers: int) -> Iterator[tuple[Question, Row]]:
    """Yield what has a row, and take it from `waiting`: then the rest are questions of which workers seem to die."""
    deaths = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Deaths).remote(workers)
    for result in _results(job, list(waiting.values()), share, workers, deaths):
        if result["error"]:
            raise OperatorError(result["error"])
        if (
            result["row"] and (question := waiting.pop(result["id"], None)) is not None
        ):  # a lost worker's may come twice
            yield question, json.loads(result["row"])


def _results(
    job: Job, questions: Sequence[Question], share: int, workers: int, deaths: Any
) -> Iterator[dict[str, str]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    lines = [{"question": json.dumps(question)} for question in questions]
    # a block a question, so that `share` bounds the questions under way and rows come back one by one
    results = ray.data.from_items(lines, override_num_blocks=len(lines)).map_batches(
        _Actor,
        fn_constructor_args=(job, share, deaths),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=workers, max_tasks_in_flight_per_actor=share, max_concurrent_calls_per_actor=share
        ),
        num_cpus=_CPUS,
    )
    yield from results.iter_rows()


class _Deaths:
    """Concludes from what begins again how often workers have died; an actor that all workers ask."""

    def __init__(self, workers: int) -> None:
        self._workers, self._opened = workers, 0
        self._begun: Counter[str] = Counter()

    def open(self) -> bool:
        """Note that a worker opens its job; return whether too many have died of that, one after the other."""
        self._opened += 1
        return self._opened > _DEATHS * self._workers

    def begin(self, id: str) -> bool:
        """Note that a question is begun; return whether it was the death of too many workers."""
        self._opened = 0
        self._begun[id] += 1
        return self._begun[id] > _DEATHS


class _Actor:
    """A worker on some machine of the cluster; what only the operator can mend travels back as a row."""

    def __init__(self, job: Job, share: int, deaths: Any) -> None:
        self._deaths, self._error = deaths, ""
        if ray.get(deaths.open.remote()):
            self._error = "Workers on the Ray cluster end at once: is memory short?"
            return
        try:
            self._worker = job.open(share, _say)
        except OperatorError as error:
            self._error = str(error)

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, list[str]]]:
        """Work on a batch of one question."""
        question = json.loads(str(batch["question"][0]))
        row, error = "", self._error
        try:
            if not error and not await self._deaths.begin.remote(question["id"]):
                row = json.dumps(await row_of(self._worker, question))
        except OperatorError as mistake:
            error = str(mistake)
        yield {"id": [question["id"]], "row": [row], "error": [error]}


def _say(text: str) -> None:
    """Tell the operator; Ray brings what its workers print to the driver's terminal."""
    print(text, file=sys.stderr, flush=True)
