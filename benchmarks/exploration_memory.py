"""How memory grows with the questions of a run: a policy in process, three passages a retrieval, the ledger written."""

import os
import statistics
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from benchmarks.exploration_jobs import asked, in_process, opened
from benchmarks.exploration_rates import new_ledger
from deeprag_graph import bulk
from deeprag_graph.ledger import Record

_PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY = 500  # questions
WARM = 1_000  # questions after which growth is counted


def rss() -> int:
    """Return the bytes of this process in memory, without pages of files; Linux only."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * _PAGE


def measure(questions: int, at_once: int) -> dict[str, Any]:
    """Search, and look at the memory every so many questions."""
    worker = opened(in_process(questions), at_once)
    samples: dict[int, int] = {}
    rows = bulk.run(worker, asked(questions), concurrency=at_once)
    with new_ledger() as ledger, closing(rows):
        for number, (_, row) in enumerate(rows, start=1):
            record = cast(Record, row)
            assert record["outcome"] != "failed", record["error"]
            ledger.append(record)
            if number % EVERY == 0:
                samples[number] = rss()
    warm = {number: size for number, size in samples.items() if number >= WARM}
    slope = statistics.linear_regression(list(warm), list(warm.values())).slope if len(warm) > 1 else 0.0
    return {"at_once": at_once, "bytes_a_question": slope, "rss": samples}


def lines(report: dict[str, Any]) -> list[str]:
    """Return the report as a person reads it."""
    samples = {int(number): size for number, size in report["rss"].items()}
    shown = [number for number in samples if number in (EVERY, max(samples)) or number % 1_000 == 0]
    table = [f"memory, {report['at_once']} at once, policy in process (anonymous pages)", "  questions      MB"]
    table += [f"  {number:9,}{samples[number] / 1e6:8.1f}" for number in shown]
    return [*table, f"  growth after {WARM:,}: {report['bytes_a_question'] / 1000:.2f} kB a question"]
