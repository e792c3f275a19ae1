"""How many model calls a search costs, beside two other searches for the same paths of the same questions.

The peers are counted, not run on a model, so that each gets the best that its rules allow:

- *lazy*: an action is applied when it is popped, cheapest first, then deepest, then oldest, as in this project; but
  each answer and each subquery is a call of its own. Where no subquery comes any more, a second call writes the final
  answer (`two calls to finish`), or the same one does.
- *released*: both branches of a subquery are computed at once, a call each, and both get the priority of the parent's
  retrievals + 1; which of two equals comes first is left to the heap. Only retrievals count for its depth limit, which
  no world here is deep enough to reach. It takes two calls to finish.
"""

import heapq
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from benchmarks.exploration_jobs import InProcess
from benchmarks.worlds import World, Worlds, paper_world
from deeprag_graph.explore import explore
from deeprag_graph.transcript import Decision

_DECISIONS: tuple[Decision, Decision] = ("parametric", "retrieve")
GOAL = 8.6  # calls a question


class Found(NamedTuple):
    """What a search came to: its calls, and the retrievals of the path it returned, if it is right."""

    calls: int
    cost: int | None


@dataclass(order=True)
class _Entry:
    """A place in a queue, of which only the priority is compared."""

    priority: Any
    path: tuple[Decision, ...] = field(compare=False)


def released(world: World, *, stable: bool = False) -> Found:
    """Search as the released code does; `stable` takes the oldest of two equals first, as its heap does not."""
    ages, calls = count(), 0
    queue = [_Entry((0, 0), ())]
    while queue:
        path = heapq.heappop(queue).path
        if len(path) == len(world.facts):
            calls += 2  # no subquery any more, and the final answer
            if world.right(path):
                return Found(calls, path.count("retrieve"))
            continue
        calls += 3  # the subquery, and both answers
        for decision in _DECISIONS:
            priority = path.count("retrieve") + 1, next(ages) if stable else 0
            heapq.heappush(queue, _Entry(priority, (*path, decision)))
    return Found(calls, None)


def lazy(world: World, *, finish: int) -> Found:
    """Search lazily, with `finish` calls where no subquery comes any more."""
    ages, calls = count(), -1  # the root takes no answer
    queue = [_Entry((0, 0, 0), ())]
    while queue:
        path = heapq.heappop(queue).path
        calls += 1  # the answer
        if len(path) == len(world.facts):
            calls += finish
            if world.right(path):
                return Found(calls, path.count("retrieve"))
            continue
        calls += 1  # the subquery
        for decision in _DECISIONS:
            cost = path.count("retrieve") + (decision == "retrieve")
            heapq.heappush(queue, _Entry((cost, -len(path), next(ages)), (*path, decision)))
    return Found(calls, None)


def ours(worlds: Sequence[World]) -> Callable[[World], Found]:
    """Return the search of this project, on the worlds' policy."""
    known = Worlds(worlds)
    policy, library = InProcess(known, 0.0), known.retriever()

    def search(world: World) -> Found:
        tree = explore(world.question, [world.answer], policy, library)
        return Found(tree["usage"]["llm_calls"], tree["cost"])

    return search


def measure(questions: int, seed: int) -> dict[str, Any]:
    """Count the calls of every search over the same worlds."""
    worlds = paper_world(questions, seed)
    least = [world.least_cost() for world in worlds]
    searches: dict[str, Callable[[World], Found]] = {
        "ours": ours(worlds),
        "lazy, two calls to finish": lambda world: lazy(world, finish=2),
        "lazy, one call to finish": lambda world: lazy(world, finish=1),
        "released": released,
        "released, oldest of equals first": lambda world: released(world, stable=True),
    }
    figures = {name: _figures([search(world) for world in worlds], least) for name, search in searches.items()}
    solvable = sum(cost is not None for cost in least)
    return {"questions": questions, "seed": seed, "solvable": solvable, "searches": figures}


def _figures(found: Sequence[Found], least: Sequence[int | None]) -> dict[str, float]:
    paths = [(f, cost) for f, cost in zip(found, least, strict=True) if f.cost is not None]
    return {
        "calls": statistics.fmean(f.calls for f in found),
        "calls_solved": statistics.fmean(f.calls for f, _ in paths),
        "solved": len(paths),
        "dearer": sum(f.cost != cost for f, cost in paths) / len(paths),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """Return the report as a person reads it."""
    ours_calls = report["searches"]["ours"]["calls"]
    about = (
        f"{report['questions']:,} questions, {report['solvable']:,} of which have a right path (seed {report['seed']})"
    )
    table = [
        f"model calls a search: {about}",
        f"  {'':34}{'calls':>8}{'of ours':>10}{'if solved':>11}{'solved':>9}{'dearer than least':>20}",
    ]
    for name, row in report["searches"].items():
        table.append(
            f"  {name:34}{row['calls']:8.2f}{row['calls'] / ours_calls:9.2f}×{row['calls_solved']:11.2f}"
            f"{row['solved']:9,}{row['dearer']:20.1%}"
        )
    return [*table, f"  goal: ours ≤ {GOAL}: {'met' if ours_calls <= GOAL else 'MISSED'}"]
