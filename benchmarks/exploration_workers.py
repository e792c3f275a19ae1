"""What a second worker process brings, and what Ray costs beside it."""

import importlib.util
import statistics
import sys
from typing import Any, NamedTuple

from benchmarks.arms import Load, Probe, probe, spread
from benchmarks.exploration_jobs import in_process, over_http
from benchmarks.exploration_rates import CountedCalls, Rate, drive, marks_of
from benchmarks.fake_server import fake_server
from deeprag_graph.bulk import Engine, ExploreJob

_GOAL = 1.7  # questions a second of two processes over those of one


class Crew(NamedTuple):
    """How many workers, and where."""

    workers: int
    engine: Engine = "local"

    @property
    def name(self) -> str:
        if self.engine == "ray":
            return f"{self.workers} on Ray"
        return f"{self.workers} process{'es' * (self.workers > 1)}"


def processes(load: Load, questions: int, repeats: int, burn: float) -> dict[str, Any]:
    """Measure two processes beside one."""
    return {"goal": _GOAL, "settings": _settings((Crew(1), Crew(2)), load, questions, repeats, burn)}


def ray(load: Load, questions: int, repeats: int, burn: float) -> dict[str, Any]:
    """Measure two workers on Ray beside two processes."""
    if importlib.util.find_spec("ray") is None:
        sys.exit('ray is not installed: pip install "deeprag-graph[ray]".')
    return {"goal": None, "settings": _settings((Crew(2), Crew(2, "ray")), load, questions, repeats, burn)}


def _settings(
    crews: tuple[Crew, Crew], load: Load, questions: int, repeats: int, burn: float
) -> dict[str, dict[str, Any]]:
    with fake_server("worlds", questions) as root, probe(root) as server:
        job = over_http(load.base_url(root), questions)
        http = _measure(crews, job, load.at_once, questions, repeats, server)
    burning = _measure(crews, in_process(questions, burn), load.at_once, questions, repeats, None)
    return {
        f"over HTTP, {load.at_once} at once, {load.seconds * 1000:g} ms a call": http,
        f"in process, {burn * 1000:g} ms of CPU a call": burning,
    }


def _measure(
    crews: tuple[Crew, Crew], job: ExploreJob, at_once: int, questions: int, repeats: int, server: Probe | None
) -> dict[str, Any]:
    rates: dict[str, list[Rate]] = {crew.name: [] for crew in crews}
    for repeat in range(repeats):
        for workers, engine in crews if repeat % 2 else crews[::-1]:
            mark = marks_of(server) if server else CountedCalls()
            rate, _ = drive(job, questions, at_once, mark, workers=workers, engine=engine)
            rates[Crew(workers, engine).name].append(rate)
    first, second = ([rate.questions_per_second for rate in rates[crew.name]] for crew in crews)
    return {
        "crews": {
            name: {field: statistics.median(getattr(run, field) for run in runs) for field in Rate._fields}
            for name, runs in rates.items()
        },
        "ratio": spread([b / a for a, b in zip(first, second, strict=True)]),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """Return the report as a person reads it."""
    table: list[str] = []
    for setting, measured in report["settings"].items():
        table.append(setting)
        table.append(
            f"  {'':14}{'questions/s':>12}{'calls/s':>9}{'CPU ms/call':>13}{'parent':>8}{'server':>8}{'cores':>7}"
        )
        for name, row in measured["crews"].items():
            rates = f"{row['questions_per_second']:12.1f}{row['calls_per_second']:9.0f}"
            cpu = f"{row['cpu']:13.2f}{row['parent_cpu']:8.2f}{row['server_cpu']:8.2f}{row['cores']:7.2f}"
            table.append(f"  {name:14}{rates}{cpu if 'Ray' not in name else ''}")
        ratio, goal = measured["ratio"], report["goal"]
        told = f"  second over first: {ratio['median']:.2f} × [{ratio['low']:.2f} … {ratio['high']:.2f}]"
        if goal:
            told += f", goal ≥ {goal}: {'met' if ratio['median'] >= goal else 'MISSED'}"
            told += f"; two cores allow {_most(*measured['crews'].values()):.2f} ×"
        table.append(told)
    return table


def _most(one: dict[str, float], two: dict[str, float]) -> float:
    """Return the ratio at which two cores would do nothing but the work of two processes, their parent and server."""
    return 2 * one["cpu"] / (two["cpu"] + two["server_cpu"])
