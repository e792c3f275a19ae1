"""What exploration costs: model calls, calls a second, the ledger's share, memory, and what more processes bring.

    python -m benchmarks.exploration [calls] [throughput] [memory] [workers] [ray] [--json FILE]

Without a name: all but `ray`, which needs the extra. The questions are those of `benchmarks.worlds.paper_world`.

calls       Model calls a search, beside a lazy search with a call for each answer and each subquery, and beside the
            search as the paper's authors released it; `benchmarks.exploration_calls` says how the peers count.
            `dearer than least` is the share of the solved questions whose path retrieves more than it has to.
throughput  The bulk driver, its ledger written, beside bare asyncio loops that replay exactly the requests that it
            sends, over a fake server that answers after a fixed delay. Arms take turns, ratios are taken within a
            repeat: `of default` is over the openai client as it comes, `of best` over the faster loop, medians and
            [range]. `CPU` is of the client's process, in ms a call; that times calls/s near 1 s means that the arm is
            at the ceiling of one process. `server` is the fake server's CPU a call, in its own process. `ledger` is
            what `Ledger.append` takes of the wall time and of the CPU of the driver's process, over the whole run.
memory      Anonymous memory over one run of many questions: a leak would show as growth a question.
workers     Two worker processes beside one where the client's CPU is the bound: over a fake server with a short
            delay, and with a policy in process that burns as much CPU as a client's call and needs no server. CPU is
            of workers and parent, `parent` the part of the latter, which writes the ledger; `cores` were busy in all.
            Server and parent share the cores with the workers: `two cores allow` is the ratio that leaves.
ray         Two workers on a Ray cluster of this machine beside two processes. CPU of Ray's own is not counted.

Rates are taken where a run is full, without its start and its end. Other load on the machine spoils them; the count of
calls it cannot change.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import exploration_calls, exploration_memory, exploration_workers
from benchmarks.arms import Load, aiohttp_client, openai_client, probe, spread
from benchmarks.exploration_jobs import over_http
from benchmarks.exploration_rates import Rate, Writing, drive, loop, marks_of, requests_of
from benchmarks.fake_server import fake_server

_DRIVER, _DEFAULT, _AIOHTTP = "driver", "loop, default client", "loop, aiohttp client"
_GOAL = 0.85  # of the default client's calls a second
_LEDGER_GOAL = 0.01


def throughput(load: Load, questions: int, repeats: int) -> dict[str, Any]:
    """Measure the driver and the loops in turns."""
    with fake_server("worlds", questions) as root, probe(root) as server:
        job, mark = over_http(load.base_url(root), questions), marks_of(server)
        requests = requests_of(over_http(load._replace(seconds=0).base_url(root), questions), questions, load, server)
        writings: list[Writing] = []

        def driver() -> Rate:
            rate, writing = drive(job, questions, load.at_once, mark)
            writings.append(writing)
            return rate

        arms: dict[str, Callable[[], Rate]] = {
            _DEFAULT: lambda: loop(openai_client, requests, load.base_url(root), load.at_once, mark),
            _AIOHTTP: lambda: loop(aiohttp_client, requests, load.base_url(root), load.at_once, mark),
            _DRIVER: driver,
        }
        rates: dict[str, list[Rate]] = {name: [] for name in arms}
        for repeat in range(repeats):
            for name in [*list(arms)[repeat % 3 :], *list(arms)[: repeat % 3]]:
                rates[name].append(arms[name]())
    default, aiohttp, ours = ([rate.calls_per_second for rate in rates[name]] for name in (_DEFAULT, _AIOHTTP, _DRIVER))
    return {
        "load": load._asdict(),
        "questions": questions,
        "calls_a_question": sum(map(len, requests)) / questions,
        "arms": {name: _medians(runs) for name, runs in rates.items()},
        "of_default": spread([o / d for o, d in zip(ours, default, strict=True)]),
        "of_best": spread([o / max(d, a) for o, d, a in zip(ours, default, aiohttp, strict=True)]),
        "ledger": {field: spread([getattr(w, field) for w in writings]) for field in Writing._fields},
    }


def _medians(runs: list[Rate]) -> dict[str, float]:
    return {field: statistics.median(getattr(run, field) for run in runs) for field in Rate._fields}


def throughput_lines(report: dict[str, Any]) -> list[str]:
    """Return the report as a person reads it."""
    load = Load(**report["load"])
    table = [
        f"{load.at_once} searches at once, {load.seconds * 1000:g} ms a call, {report['questions']:,} questions of "
        f"{report['calls_a_question']:.2f} calls (no client at all: {load.at_once / load.seconds:,.0f} calls/s)",
        f"  {'':22}{'calls/s':>9}{'questions/s':>13}{'CPU ms/call':>13}{'server':>9}",
    ]
    for name, arm in report["arms"].items():
        rates = f"{arm['calls_per_second']:9.0f}{arm['questions_per_second']:13.1f}"
        table.append(f"  {name:22}{rates}{arm['cpu']:13.2f}{arm['server_cpu']:9.2f}")
    met = "met" if report["of_default"]["median"] >= _GOAL else "MISSED"
    table.append(f"  of default {_spread(report['of_default'])}, goal ≥ {_GOAL:.0%}: {met}")
    table.append(f"  of best    {_spread(report['of_best'])}")
    ledger = report["ledger"]
    for what, share in (("time", ledger["wall_share"]), ("CPU", ledger["cpu_share"])):
        met = "met" if share["median"] < _LEDGER_GOAL else "MISSED"
        table.append(f"  ledger     {_spread(share, 2)} of the {what}, goal < {_LEDGER_GOAL:.0%}: {met}")
    each = f"{ledger['ms_a_question']['median']:.2f} ms and {ledger['bytes_a_question']['median'] / 1000:.1f} kB"
    return [*table, f"             {each} a question"]


def _spread(ratio: dict[str, float], digits: int = 1) -> str:
    return f"{ratio['median']:.{digits}%} [{ratio['low']:.{digits}%} … {ratio['high']:.{digits}%}]"


def main() -> None:
    names = ("calls", "throughput", "memory", "workers", "ray")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="of throughput, workers and ray (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    calls = parser.add_argument_group("calls")
    calls.add_argument("--worlds", type=int, default=2_000, metavar="N", help="questions (2,000)")
    calls.add_argument("--seed", type=int, default=0, help="another draw of them (0)")
    rates = parser.add_argument_group("throughput, memory")
    rates.add_argument("--load", type=Load.read, default=Load(256, 0.5), metavar="N:SECONDS", help="256:0.5")
    rates.add_argument("--questions", type=int, default=1_024, metavar="N", help="of throughput (1,024)")
    rates.add_argument("--memory-questions", type=int, default=10_000, metavar="N", help="of memory (10,000)")
    shared = parser.add_argument_group("workers, ray")
    shared.add_argument("--workers-load", type=Load.read, default=Load(64, 0.02), metavar="N:SECONDS", help="64:0.02")
    shared.add_argument("--workers-questions", type=int, default=1_000, metavar="N", help="questions of a run (1,000)")
    shared.add_argument(
        "--burn", type=float, default=1.2, metavar="MS", help="CPU a call of the policy in process (1.2)"
    )
    args = parser.parse_args()
    if unknown := set(args.parts) - set(names):
        parser.error(f"no part is called {', '.join(sorted(unknown))}: {', '.join(names)}")

    report: dict[str, Any] = {"cpu_count": os.cpu_count(), "load_average": os.getloadavg()}

    def show(name: str, figures: dict[str, Any], lines: Callable[[dict[str, Any]], list[str]]) -> None:
        report[name] = figures
        sys.stdout.write("\n".join(lines(figures)) + "\n\n")
        sys.stdout.flush()
        if args.json:
            args.json.write_text(json.dumps(report, indent=2) + "\n")

    workers = args.workers_load, args.workers_questions, args.repeats
    for part in args.parts or names[:-1]:
        if part == "calls":
            show(part, exploration_calls.measure(args.worlds, args.seed), exploration_calls.lines)
        elif part == "throughput":
            show(part, throughput(args.load, args.questions, args.repeats), throughput_lines)
        elif part == "memory":  # in a process of its own: what was measured before is not in its memory
            with get_context("spawn").Pool(1) as pool:
                figures = pool.apply(exploration_memory.measure, (args.memory_questions, args.load.at_once))
            show(part, figures, exploration_memory.lines)
        elif part == "workers":
            show(part, exploration_workers.processes(*workers, args.burn / 1000), exploration_workers.lines)
        else:
            show(part, exploration_workers.ray(*workers, args.burn / 1000), exploration_workers.lines)


if __name__ == "__main__":
    main()
