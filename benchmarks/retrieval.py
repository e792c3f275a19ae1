"""The embedded index beside bm25s, a plain tantivy index and Elasticsearch: build, memory, disk and speed, in one run.

    pip install bm25s psutil
    python -m benchmarks.retrieval --data DIR [--elasticsearch URL] [--sizes 100000,1000000,5000000] [--work FOLDER]

The passages are the real ones and then copies of them with other words, in titles too. Each build runs in a process of
its own, alone; up to 100,000 passages three times, in turns. Then every engine answers the same real dev questions,
each in a process of its own, warm, in turns; ratios are taken within a turn. A search gives the 3 best passages with
title and text. What is measured goes to FOLDER/results.jsonl line by line: a run that was interrupted goes on with what
is missing, and one that is repeated prints the same; `--again ENGINE` measures that engine anew. FOLDER belongs to one
DIR, and takes about 2 KB a passage.

How to read it: passages a second and milliseconds are this machine's and this hour's, the ratios are the result.
`anonymous` is the most memory that the processes of a build had of their own, about 65 MB of it for Python and what all
import here (of Elasticsearch the client's alone: the server has a heap of a fixed size), `file pages` the most that
they had of files, which the kernel takes back when it needs them. bm25s, as it comes (without numba), has one field,
title and text, and counts all passages for each query; plain tantivy has two fields, its own English analyzer, and the
same best field + 0.5 × the other. An engine that is slow answers as many of the questions as it can in 30 seconds, and
its ratio is taken over these. bm25s, which builds in memory, is left out where it would need more than `--max-memory`.
Elasticsearch takes part at up to 100,000 passages.

At the end stand the goals, and where the line through the sizes comes to at the size of DPR's Wikipedia.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib import import_module, metadata, util
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.corpora import add_data_argument, corpus_files, dev_questions, write_passages
from benchmarks.engines import ELASTICSEARCH, ENGINES, OURS
from benchmarks.processes import Pass, TooMuchMemory, searching, timed_build
from benchmarks.retrieval_report import report
from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval import is_address

MOST_FOR_ELASTICSEARCH = 100_000  # passages
MOST_FOR_REPEATED_BUILDS = 100_000
BUILDS = 3
ROUNDS = 5
PASS_SECONDS = 30.0

Record = dict[str, Any]


class Results:
    """What is measured so far: records of builds, of which there may be several of a kind, and of searches."""

    def __init__(self, file: Path) -> None:
        self._file = file
        # what stands after the last line break is half a line, of a run that was killed
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        self._keep([json.loads(line) for line in lines])

    def _keep(self, records: list[Record]) -> None:
        self.records = records
        self._file.write_text("".join(json.dumps(record) + "\n" for record in records))

    def add(self, record: Record) -> None:
        self.records.append(record)
        with self._file.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def forget(self, engine: str) -> None:
        self._keep([r for r in self.records if engine not in (r.get("engine"), *r.get("engines", ()))])

    def builds(self, engine: str, passages: int) -> list[Record]:
        return [r for r in self.records if r.get("engine") == engine and r["passages"] == passages and "disk" in r]

    def failures(self, engine: str, passages: int) -> list[Record]:
        return [r for r in self.records if r.get("engine") == engine and r["passages"] == passages and "failed" in r]

    def search(self, passages: int) -> Record | None:
        found = [r for r in self.records if "engines" in r and r["passages"] == passages]
        return found[-1] if found else None


class Benchmark:
    """What measuring needs at all sizes: folder, results, questions, engines."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.real = corpus_files(args.data)
        self.queries = _mixed_questions(args.data, args.queries)
        self.work: Path = args.work
        (self.work / "indexes").mkdir(parents=True, exist_ok=True)
        self.results = Results(self.work / "results.jsonl")
        self.elasticsearch: str = args.elasticsearch.rstrip("/")
        self.most_memory: int = args.max_memory or _available_memory() * 8 // 10

    def measure(self, size: int) -> None:
        """Measure what is missing at `size` passages: builds in turns, then searches."""
        engines = self._engines(size)
        for repeat in range(BUILDS if size <= MOST_FOR_REPEATED_BUILDS else 1):
            for name in engines:
                if not self._is_built(name, size, repeat):
                    self._build(name, size)
        built = [name for name in engines if self.results.builds(name, size)]
        if OURS in built and not self._is_searched(built, size):
            self._search(built, size)
        if ELASTICSEARCH in built:
            _remove(self._place(ELASTICSEARCH, size))

    def _engines(self, size: int) -> list[str]:
        engines = []
        for name, engine in ENGINES.items():
            if name == ELASTICSEARCH and (not self.elasticsearch or size > MOST_FOR_ELASTICSEARCH):
                continue
            if engine.needs and not util.find_spec(engine.needs):
                _say(f"{name} is left out: pip install {engine.needs}")
                continue
            engines.append(name)
        return engines

    def _place(self, name: str, size: int) -> str:
        if name == ELASTICSEARCH:
            return f"{self.elasticsearch}/deeprag-benchmark-{size}"
        return str(self.work / "indexes" / f"{name.replace(' ', '-')}-{size}")

    def _is_built(self, name: str, size: int, repeat: int) -> bool:
        # memory that is free is never quite the same
        if any(1.1 * failure["most_memory"] >= self.most_memory for failure in self.results.failures(name, size)):
            return True
        if len(self.results.builds(name, size)) <= repeat:
            return False
        return self._is_searched([name], size) or ENGINES[name].bytes_of(self._place(name, size)) > 0

    def _is_searched(self, names: Iterable[str], size: int) -> bool:
        record = self.results.search(size)
        return record is not None and record["queries"] == len(self.queries) and set(names) <= record["engines"].keys()

    def _build(self, name: str, size: int) -> None:
        record: Record = {"engine": name, "passages": size, "most_memory": self.most_memory}
        place = self._place(name, size)
        try:
            if name == "bm25s":
                self._refuse_too_much(name, size)
            passages = self._passages(size)
            _remove(place)
            _say(f"{name} builds {size:,} passages")
            seconds, peak = timed_build(partial(ENGINES[name].build, passages, place), self.most_memory)
        except TooMuchMemory as error:
            _say(f"{name} is left out at {size:,} passages: it {error}")
            self.results.add(record | {"failed": str(error)})
            return
        record |= {"seconds": seconds, "disk": ENGINES[name].bytes_of(place), "version": _version(name)}
        self.results.add(record | {"anonymous": peak.anonymous, "file_backed": peak.file_backed})

    def _refuse_too_much(self, name: str, size: int) -> None:
        """Raise `TooMuchMemory` if a build of this size needs too much, by what the largest of those before took."""
        taken = {r["passages"]: r["anonymous"] for r in self.results.records if r.get("engine") == name and "disk" in r}
        if smaller := [passages for passages in taken if passages < size]:
            needed = taken[max(smaller)] * size / max(smaller)
            if needed > self.most_memory:
                raise TooMuchMemory(
                    f"would need about {needed / 1e9:.1f} GB, by what {max(smaller):,} took; "
                    f"--max-memory is {self.most_memory / 1e9:.1f} GB"
                )

    def _passages(self, size: int) -> Path:
        file = self.work / f"passages-{size}.tsv"
        if not file.exists():
            _say(f"writes {size:,} passages")
            write_passages(self.real, size, file)
        return file

    def _search(self, names: list[str], size: int) -> None:
        with ExitStack() as stack:
            search = {
                name: stack.enter_context(searching(partial(ENGINES[name].open, self._place(name, size)), self.queries))
                for name in names
            }
            counts = {}
            for name in names:
                _say(f"{name} searches {size:,} passages")
                counts[name] = len(search[name](len(self.queries), seconds=PASS_SECONDS).latencies)
            rounds: list[dict[str, tuple[Pass, Pass]]] = []
            for number in range(ROUNDS):
                order = names[number % len(names) :] + names[: number % len(names)]
                rounds.append({n: (search[n](counts[n]), search[n](counts[n], threads=2)) for n in order})
        self.results.add({"passages": size, "queries": len(self.queries)} | summary(rounds))


def summary(rounds: Sequence[dict[str, tuple[Pass, Pass]]]) -> Record:
    """Return medians over the rounds: of each engine's figures, and of the ratios of ours to them."""
    return {
        "engines": {name: _figures([turn[name] for turn in rounds]) for name in rounds[0]},
        "ratios": {name: _ratios([(turn[OURS][0], turn[name][0]) for turn in rounds]) for name in rounds[0]},
    }


def _figures(passes: Sequence[tuple[Pass, Pass]]) -> Record:
    """Return ms of a search, and searches a second in one thread and in two."""
    return {
        "queries": len(passes[0][0].latencies),
        "p50_ms": statistics.median(_percentile(single.latencies, 50) for single, _ in passes),
        "p95_ms": statistics.median(_percentile(single.latencies, 95) for single, _ in passes),
        "rates": [statistics.median(len(p.latencies) / p.seconds for p in of) for of in zip(*passes, strict=True)],
    }


def _ratios(pairs: Sequence[tuple[Pass, Pass]]) -> dict[str, list[float]]:
    """Return ours by the peer's, over the questions that the peer had time for: median, least, greatest."""
    ratios = {}
    for percent in (50, 95):
        of_rounds = [
            _percentile(ours.latencies[: len(theirs.latencies)], percent) / _percentile(theirs.latencies, percent)
            for ours, theirs in pairs
        ]
        ratios[f"p{percent}"] = [statistics.median(of_rounds), min(of_rounds), max(of_rounds)]
    return ratios


def _percentile(latencies: Sequence[float], percent: int) -> float:
    """Return a percentile of seconds, in ms."""
    return 1000 * statistics.quantiles(latencies, n=100)[percent - 1]


def _mixed_questions(data: Path, count: int) -> list[str]:
    questions = [question["question"] for asked in dev_questions(data).values() for question in asked]
    return Random(0).sample(questions, min(count, len(questions)))


def _available_memory() -> int:
    return int(import_module("psutil").virtual_memory().available)


def _version(name: str) -> str:
    return metadata.version({OURS: "deeprag-graph", "plain tantivy": "tantivy"}.get(name, name.lower()))


def _remove(place: str) -> None:
    """Remove the index in a folder of ours or at an address, if there is one."""
    if not is_address(place):
        shutil.rmtree(place, ignore_errors=True)
        return
    from benchmarks.elasticsearch_server import ServerIndex  # noqa: PLC0415 - see engines.py

    with closing(ServerIndex(place)) as index:
        index.delete()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _sizes(text: str) -> list[int]:
    return sorted({int(size) for size in text.split(",")})


def _gigabytes(text: str) -> int:
    return int(float(text) * 1e9)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    parser.add_argument("--work", type=Path, metavar="FOLDER", default="build/retrieval", help="kept for a later run")
    parser.add_argument("--sizes", type=_sizes, default="100000,1000000,5000000", metavar="N,N", help="passages")
    parser.add_argument("--queries", type=int, default=1500, metavar="N", help="dev questions; the default is 1500")
    parser.add_argument(
        "--elasticsearch", metavar="URL", default="", help="a server, on which an index is built and deleted again"
    )
    parser.add_argument(
        "--max-memory", type=_gigabytes, metavar="GB", help="of a build; default: 80 %% of what is free"
    )
    parser.add_argument("--again", choices=ENGINES, metavar="ENGINE", help=f"measure anew: {', '.join(ENGINES)}")
    return parser


def main() -> None:
    parser = _parser()
    args = parser.parse_args()
    if not util.find_spec("psutil"):
        parser.error("psutil is not installed: pip install psutil bm25s")
    try:
        benchmark = Benchmark(args)
        if args.again:
            benchmark.results.forget(args.again)
        for size in args.sizes:
            benchmark.measure(size)
    except OperatorError as error:
        parser.error(str(error))
    print(report(benchmark.results.records, args.sizes))


if __name__ == "__main__":
    main()
