"""Many questions at once: the graph beside a bare asyncio loop of the openai client, in one process, in the same run.

    python -m benchmarks.throughput [--load 256:0.5 --load 64:0.05] [--repeats 5] [--gc 50000] [--json FILE]

A fake server (a process of its own) answers every call after a fixed delay. The graph answers questions over it with
the completion policy; the loops replay exactly the requests that the graph sent, logprobs and all, with the client's
default transport and with aiohttp, which the policy uses. Arms take turns; ratios are taken within a repeat.

How to read it: `calls/s` and `CPU ms/call` are this machine's and this hour's, the ratios are the result. `of best` is
the graph's calls a second over those of the faster loop of the same repeat, `of default` over the default client's:
medians, and the range in brackets. A loop whose CPU a call times its calls a second is near 1 s is itself at the
ceiling of one process. `server` is the fake server's CPU a call in its own process: were it times the calls a second
near 1 s, the server would be what is measured. CPU a superstep is that of the graph with a scripted policy: no HTTP.

With many questions in flight Python's garbage collector, by default, goes through all that they hold again and again:
about a quarter of the graph's CPU a call at 256 at once. `--gc 50000` sets what a process that answers in bulk may set
(`gc.freeze()` and a higher threshold), for all arms alike; the default is to leave Python's own settings.
"""

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import openai
from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from benchmarks.arms import PASSAGE, Load, Probe, Request, aiohttp_client, openai_client, probe, replay, spread
from benchmarks.fake_server import completion, fake_server
from deeprag_graph.graph import DeepRAGGraph, build_graph
from deeprag_graph.policies.completion import CompletionPolicy
from deeprag_graph.policies.scripted import ScriptedPolicy

QUESTION = "Which fact stands at the end of the chain that begins with the painter of The Heron Pond?"

Episode = Callable[[], Awaitable[Any]]


class Measured(NamedTuple):
    """One arm in one repeat."""

    calls_per_second: float
    cpu_ms_per_call: float
    server_cpu_ms_per_call: float


class Passages(BaseRetriever):
    """Three passages from memory, whatever the query: retrieval must not be what is measured."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int = 3
    ) -> list[Document]:
        return [Document(PASSAGE, id=str(n), metadata={"title": f"{query[:40]} {n}", "score": 1.0}) for n in range(k)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int = 3
    ) -> list[Document]:
        return self._get_relevant_documents(query, run_manager=run_manager.get_sync(), k=k)


def graph_episode(graph: DeepRAGGraph) -> Episode:
    async def episode() -> None:
        result = await graph.ainvoke({"question": QUESTION})
        assert result["stop_reason"] == "concluded", result["error"]

    return episode


def loop_episode(client: openai.AsyncOpenAI, requests: list[Request]) -> Episode:
    """Return an episode that sends recorded requests one after the other."""
    send = replay(client)

    async def episode() -> None:
        for request in requests:
            await send(request)

    return episode


async def measure(episode: Episode, load: Load, rounds: int, calls: int, server: Probe) -> Measured:
    """Keep `load.at_once` episodes in flight until each worker has done `rounds` of them."""

    async def worker() -> None:
        for _ in range(rounds):
            await episode()

    gc.collect()
    total = load.at_once * rounds * calls
    (server_cpu, _), cpu, clock = server.used(), time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(load.at_once)))
    wall, used = time.perf_counter() - clock, time.process_time() - cpu
    return Measured(total / wall, used / total * 1000, (server.used()[0] - server_cpu) / total * 1000)


async def superstep_cpu(retrievals: int, episodes: int = 60) -> tuple[int, float, float]:
    """Return supersteps an episode, and their CPU in ms each, async and sync: a scripted policy, one at a time."""
    replies = [completion(number, retrievals) for number in range(retrievals + 1)]
    graph = build_graph(ScriptedPolicy(lambda prompt: replies[len(prompt.trajectory["steps"])]), Passages())
    supersteps = sum(1 for _ in graph.stream({"question": QUESTION}, stream_mode="updates"))
    for _ in range(10):
        graph.invoke({"question": QUESTION})
    start = time.process_time()
    for _ in range(episodes):
        await graph.ainvoke({"question": QUESTION})
    middle = time.process_time()
    for _ in range(episodes):
        graph.invoke({"question": QUESTION})
    each = 1000 / (supersteps * episodes)
    return supersteps, (middle - start) * each, (time.process_time() - middle) * each


async def run_load(root: str, load: Load, repeats: int, retrievals: int) -> dict[str, list[Measured]]:
    """Measure every arm `repeats` times, in turns."""
    base_url = load.base_url(root)
    rounds = max(1, round(3 / (load.seconds + load.at_once / 500) / (retrievals + 1)))  # about three seconds
    with probe(root) as server:
        graph = graph_episode(build_graph(CompletionPolicy(base_url=base_url), Passages()))
        server.record()
        await graph()
        requests = server.recorded()
        async with openai_client(base_url) as default, aiohttp_client(base_url) as aiohttp:
            arms = {
                "loop, default client": loop_episode(default, requests),
                "loop, aiohttp client": loop_episode(aiohttp, requests),
                "graph": graph,
            }
            for episode in arms.values():  # open the connections
                await measure(episode, load, 1, retrievals + 1, server)
            results: dict[str, list[Measured]] = {name: [] for name in arms}
            for repeat in range(repeats):
                order = list(arms)[repeat % 3 :] + list(arms)[: repeat % 3]
                for name in order:
                    results[name].append(await measure(arms[name], load, rounds, retrievals + 1, server))
    return results


def summary(load: Load, results: dict[str, list[Measured]]) -> dict[str, Any]:
    """Return medians of the arms, and the ratios, each taken within a repeat."""
    default, aiohttp, graph = ([m.calls_per_second for m in runs] for runs in results.values())
    of_best = [g / max(d, a) for d, a, g in zip(default, aiohttp, graph, strict=True)]
    of_default = [g / d for d, g in zip(default, graph, strict=True)]
    return {
        "at_once": load.at_once,
        "seconds_per_call": load.seconds,
        "ideal_calls_per_second": load.at_once / load.seconds,
        "arms": {
            name: {field: statistics.median(getattr(m, field) for m in runs) for field in Measured._fields}
            for name, runs in results.items()
        },
        "of_best": spread(of_best),
        "of_default": spread(of_default),
    }


def table(report: dict[str, Any]) -> str:
    """Return the report as a person reads it."""
    lines = []
    for load in report["loads"]:
        at_once, seconds, ideal = load["at_once"], load["seconds_per_call"], load["ideal_calls_per_second"]
        lines.append(f"{at_once} at once, {seconds * 1000:g} ms a call (no client at all: {ideal:,.0f} calls/s)")
        lines.append(f"  {'':22}{'calls/s':>10}{'CPU ms/call':>14}{'server':>10}")
        for name, arm in load["arms"].items():
            rate, cpu, server = (arm[field] for field in Measured._fields)
            lines.append(f"  {name:22}{rate:10.0f}{cpu:14.2f}{server:10.2f}")
        for key in ("of_best", "of_default"):
            ratio = load[key]
            spread = f"[{ratio['low']:.0%} … {ratio['high']:.0%}]"
            lines.append(f"  graph {key.replace('_', ' '):16}{ratio['median']:10.0%}  {spread}")
        lines.append("")
    step = report["superstep"]
    lines.append(
        f"superstep, no HTTP: {step['cpu_ms_async']:.2f} ms CPU async, {step['cpu_ms_sync']:.2f} sync; "
        f"{step['per_episode']} an episode of {report['calls_per_episode']} calls"
    )
    return "\n".join(lines)


async def run(loads: list[Load], repeats: int, retrievals: int) -> dict[str, Any]:
    with fake_server("chain", retrievals) as root:
        measured = [(load, await run_load(root, load, repeats, retrievals)) for load in loads]
    supersteps, cpu_async, cpu_sync = await superstep_cpu(retrievals)
    return {
        "loads": [summary(load, results) for load, results in measured],
        "superstep": {"per_episode": supersteps, "cpu_ms_async": cpu_async, "cpu_ms_sync": cpu_sync},
        "calls_per_episode": retrievals + 1,
        "repeats": repeats,
        "gc_threshold": gc.get_threshold(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=Load.read, action="append", metavar="N:SECONDS", help="256:0.5 and 64:0.05")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--retrievals", type=int, default=3, help="retrievals of a question; it costs one call more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--gc", type=int, metavar="N", help="collect garbage every N new objects; Python's own is 700")
    args = parser.parse_args()
    if args.gc:
        gc.collect()
        gc.freeze()
        gc.set_threshold(args.gc, 20, 50)
    report = asyncio.run(run(args.load or [Load(256, 0.5), Load(64, 0.05)], args.repeats, args.retrievals))
    sys.stdout.write(table(report) + "\n")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
