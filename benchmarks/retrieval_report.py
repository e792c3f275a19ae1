"""What the retrieval benchmark measured, as a person reads it: a table, ratios, goals, and the line to Wikipedia."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.engines import ELASTICSEARCH, ENGINES, OURS

WIKIPEDIA = 21_015_324  # passages of DPR's psgs_w100.tsv
A_MILLION = 1_000_000

Record = dict[str, Any]


class Goal(NamedTuple):
    """A bound, if there is one, on one of our figures; `at_least` says on which side of it is good."""

    what: str
    figure: str
    unit: str
    bound: float | None = None
    at_least: bool = False

    def line(self, value: float) -> str:
        line = f"- {self.what}: {value:,.0f} {self.unit}" if value >= 100 else f"- {self.what}: {value:.3g} {self.unit}"
        if self.bound is None:
            return line
        sign, met = ("≥", value >= self.bound) if self.at_least else ("≤", value <= self.bound)
        return f"{line} (goal {sign} {self.bound:,}): {'met' if met else '**missed**'}"


AT_A_MILLION = (
    Goal("p50", "p50_ms", "ms", 3.5),
    Goal("p95", "p95_ms", "ms", 8.5),
    Goal("build", "rate", "passages/s", 25_000, at_least=True),
    Goal("anonymous memory of the build", "anonymous_gb", "GB", 1),
)
AT_WIKIPEDIA = (
    Goal("build", "minutes", "minutes", 20),
    Goal("anonymous memory of the build", "anonymous_gb", "GB", 2),
    Goal("p50", "p50_ms", "ms", 50),
    Goal("disk", "disk_gb", "GB"),
)


def report(records: Sequence[Record], sizes: Sequence[int]) -> str:
    """Return all that `records` say of `sizes`, as Markdown."""
    searches = {r["passages"]: r for r in records if "engines" in r}
    builds: dict[tuple[int, str], list[Record]] = {}
    for record in records:
        if "engine" in record:
            builds.setdefault((record["passages"], record["engine"]), []).append(record)
    figures = {
        (size, name): _figures(builds[size, name], searches.get(size, {}).get("engines", {}).get(name, {}))
        for size in sizes
        for name in ENGINES
        if (size, name) in builds
    }
    ours = {size: row for (size, name), row in figures.items() if name == OURS and "p50_ms" in row}
    parts = [_table(figures), _ratio_table(figures, searches)]
    if A_MILLION in ours:
        lines = [goal.line(ours[A_MILLION][goal.figure]) for goal in AT_A_MILLION]
        parts.append("At 1,000,000 passages:\n" + "\n".join(lines))
    if len(ours) > 1:
        parts.append(_projection(ours))
    return "\n\n".join(parts)


def _figures(records: Sequence[Record], search: Record) -> Record:
    """Return builds of a kind and their search in the units in which they are printed, or why there was no build."""
    builds = [record for record in records if "disk" in record]
    if not builds:
        return {"failed": records[-1]["failed"]}
    seconds = statistics.median(build["seconds"] for build in builds)
    return {
        "seconds": [build["seconds"] for build in builds],
        "rate": builds[0]["passages"] / seconds,
        "minutes": seconds / 60,
        "anonymous_gb": max(build["anonymous"] for build in builds) / 1e9,
        "file_backed_gb": max(build["file_backed"] for build in builds) / 1e9,
        "disk_gb": builds[-1]["disk"] / 1e9,
        **search,
    }


def _table(figures: dict[tuple[int, str], Record]) -> str:
    lines = [
        "| passages | engine | passages/s | anonymous MB | file pages MB | disk MB | p50 ms | p95 ms "
        "| queries/s | with 2 threads |",
        "|---:|---|" + "---:|" * 8,
    ]
    for (size, name), row in figures.items():
        if "failed" in row:
            lines.append(f"| {size:,} | {name} | left out: it {row['failed']} |" + " |" * 7)
            continue
        memory = " | ".join(f"{1000 * row[key]:,.0f}" for key in ("anonymous_gb", "file_backed_gb", "disk_gb"))
        searched = " | | |"
        if "p50_ms" in row:
            rates = " | ".join(f"{rate:,.0f}" for rate in row["rates"])
            searched = f"{row['p50_ms']:.2f} | {row['p95_ms']:.2f} | {rates}"
        lines.append(f"| {size:,} | {name} | {row['rate']:,.0f} | {memory} | {searched} |")
    return "\n".join(lines)


def _ratio_table(figures: dict[tuple[int, str], Record], searches: dict[int, Record]) -> str:
    lines = [
        "Ours, as a multiple of the peer's: of passages/s and queries/s more is better, of the others less. In "
        "brackets, the least and the most over the rounds.\n",
        "| passages | peer | passages/s | anonymous | disk | p50 | p95 | queries/s | with 2 threads |",
        "|---:|---|" + "---:|" * 7,
    ]
    for (size, name), row in figures.items():
        ours = figures.get((size, OURS), {})
        if name == OURS or "rates" not in ours or "rates" not in row:
            continue
        memory = "" if name == ELASTICSEARCH else f"{ours['anonymous_gb'] / row['anonymous_gb']:.2f}"
        ratios = searches[size]["ratios"][name]
        times = " | ".join("{:.2f} [{:.2f} … {:.2f}]".format(*ratios[key]) for key in ("p50", "p95"))
        rates = " | ".join(f"{mine / theirs:.2f}" for mine, theirs in zip(ours["rates"], row["rates"], strict=True))
        build = statistics.median(b / a for a, b in zip(ours["seconds"], row["seconds"], strict=False))
        disk = ours["disk_gb"] / row["disk_gb"]
        lines.append(f"| {size:,} | {name} | {build:.2f} | {memory} | {disk:.2f} | {times} | {rates} |")
    return "\n".join(lines)


def _projection(ours: dict[int, Record]) -> str:
    """Return what the least-squares line through the sizes says of Wikipedia, and how far off it they are."""
    sizes = list(ours)
    lines = [f"{WIKIPEDIA:,} passages, by the line through {', '.join(f'{size:,}' for size in sizes)}:"]
    for goal in AT_WIKIPEDIA:
        values = [ours[size][goal.figure] for size in sizes]
        slope, intercept = statistics.linear_regression(sizes, values)
        line = goal.line(slope * WIKIPEDIA + intercept)
        if len(sizes) > 2:
            off = max(abs(slope * size + intercept - value) for size, value in zip(sizes, values, strict=True))
            line += f"; no size is further off the line than {off / max(values):.0%} of the largest measured"
        lines.append(line)
    return "\n".join(lines)
