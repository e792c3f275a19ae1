"""Many questions on many machines: the same work as one stage of Ray Data.

The workers are actors that hold the graph; questions flow to them and rows flow back to this process, which writes the
one ledger. Ray runs the questions of a lost actor again. It does not survive the end of this process: the ledger does.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import ray
import ray.data

from deeprag_graph.bulk.here import row_of
from deeprag_graph.bulk.jobs import Job, Row, Worker
from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question

_CPUS: Final = 0.5  # logical CPUs a worker: it mostly waits for its model, and Ray's own reading tasks need one
_READING: Final = 1.0
_CONNECT_SECONDS: Final = 5.0


def run_ray(
    worker: Worker, questions: Sequence[Question], concurrency: int, workers: int
) -> Iterator[tuple[Question, Row]]:
    """Yield each question with its row, in the order of completion; `bulk.run` says more."""
    started = _connect(workers)
    waiting = {question["id"]: question for question in questions}
    try:
        _check_room(workers)
        for result in _results(worker.job, questions, max(1, concurrency // workers), workers):
            if result["error"]:
                raise OperatorError(result["error"])
            question = waiting.pop(result["id"], None)
            if question is not None:  # the row of a lost worker may come once more
                yield question, json.loads(result["row"])
    finally:
        if started:
            ray.shutdown()


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
    except (OSError, RuntimeError, ValueError) as error:
        where = f"at {address} (RAY_ADDRESS)" if address else "on this machine"
        raise OperatorError(f"There is no Ray cluster {where}: {str(error).splitlines()[0]}") from error
    return True


def _check_address(address: str) -> None:
    """Raise `OSError` where nothing listens at HOST:PORT, for which Ray would wait and wait."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if separator and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _check_room(workers: int) -> None:
    """Raise `OperatorError` where Ray would wait for ever, without a word, for logical CPUs that are taken."""
    free = dict(ray.available_resources()).get("CPU", 0.0)  # type: ignore[no-untyped-call]
    needed = workers * _CPUS + _READING
    if free < needed:
        raise OperatorError(
            f"The Ray cluster has {free:g} logical CPUs free, {workers} workers need {needed:g}: take fewer --workers, "
            "wait for other jobs, or start the cluster with more (ray start --num-cpus N)."
        )


def _results(job: Job, questions: Sequence[Question], share: int, workers: int) -> Iterator[dict[str, str]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    lines = [{"question": json.dumps(question)} for question in questions]
    # a block a question, so that `share` bounds the questions under way and rows come back one by one
    results = ray.data.from_items(lines, override_num_blocks=len(lines)).map_batches(
        _Actor,
        fn_constructor_args=(job, share),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=workers, max_tasks_in_flight_per_actor=share, max_concurrent_calls_per_actor=share
        ),
        num_cpus=_CPUS,
    )
    yield from results.iter_rows()


class _Actor:
    """A worker on some machine of the cluster; what only the operator can mend travels back as a row."""

    def __init__(self, job: Job, share: int) -> None:
        self._error = ""
        try:
            self._worker = job.open(share, _say)
        except OperatorError as error:
            self._error = str(error)

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, list[str]]]:
        """Work on a batch of one question."""
        question = json.loads(str(batch["question"][0]))
        row, error = "", self._error
        try:
            if not error:
                row = json.dumps(await row_of(self._worker, question))
        except OperatorError as mistake:
            error = str(mistake)
        yield {"id": [question["id"]], "row": [row], "error": [error]}


def _say(text: str) -> None:
    """Tell the operator; Ray brings what its workers print to the driver's terminal."""
    print(text, file=sys.stderr, flush=True)
