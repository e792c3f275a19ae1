"""Many questions: one driver for answering and for exploring, in this process, in several, or on a Ray cluster."""

import importlib.util
from collections.abc import Generator, Sequence
from typing import Literal

from deeprag_graph.bulk.here import run_here
from deeprag_graph.bulk.jobs import AskJob, ExploreJob, Job, PartsChoice, Row, Say, Worker
from deeprag_graph.bulk.processes import run_processes
from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question

Engine = Literal["local", "ray"]

__all__ = ["AskJob", "Engine", "ExploreJob", "Job", "PartsChoice", "Row", "Worker", "check_engine", "run"]


def run(
    worker: Worker,
    questions: Sequence[Question],
    *,
    concurrency: int = 1,
    workers: int = 1,
    engine: Engine = "local",
    say: Say = lambda _: None,
) -> Generator[tuple[Question, Row]]:
    """Yield each question with what is made of it, in the order of completion.

    Args:
        worker: a job that is open in this process, `job.open(concurrency, say)`; other processes open the job anew.
        questions: their ids differ.
        concurrency: most questions under way, of all processes together; each has one call to a model at a time.
        workers: processes; 1 is this one alone.
        engine: `local` is this machine, `ray` the cluster that RAY_ADDRESS names, or else one on this machine.
        say: is told in a sentence of what a person should know on the way, as of a process that has ended.

    Raises:
        OperatorError: only a person can mend it; the rows that were there by then have been yielded.
    """
    if not questions:
        return
    if engine == "ray":
        from deeprag_graph.bulk.ray_engine import run_ray  # noqa: PLC0415 - an extra

        yield from run_ray(worker, questions, concurrency, workers)
    elif workers == 1:
        yield from run_here(worker, questions, concurrency)
    else:
        yield from run_processes(worker, questions, concurrency, workers, say)


def check_engine(choice: PartsChoice, workers: int, engine: Engine) -> None:
    """Raise `OperatorError` where so many processes are of no use, or what they need is not installed."""
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise OperatorError('ray is not installed: pip install "deeprag-graph[ray]".')
    models = [choice.policy, *([choice.target] if choice.target else [])]
    if workers > 1 and engine == "local" and any(model.is_local for model in models):
        raise OperatorError("The local model takes all cores as it is: leave --workers out, or name a --base-url.")
