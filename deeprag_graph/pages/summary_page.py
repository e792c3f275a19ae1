"""The page of a ledger: how its searches ended, what they cost, where branches die, and a table of the questions."""

from collections.abc import Iterable, Iterator
from typing import Final

from deeprag_graph.explore.summary import ENDS, OUTCOMES, Summary, mean, percent, summarise
from deeprag_graph.explore.tree import SEARCH_STOPS
from deeprag_graph.ledger import Record
from deeprag_graph.pages.charts import bars, counts, stacks
from deeprag_graph.pages.markup import Html, element, icon, page, quoted
from deeprag_graph.pages.settings import settings
from deeprag_graph.pages.view import SIGNS, count

LISTED: Final = 2_000  # questions in the table
_SHOWN: Final = 300  # characters of a question in it
_COLUMNS: Final = {"Question": "text", "Outcome": "text", "Cost": "number", "Calls": "number", "Steps": "number"}


def summary_page(records: Iterable[Record], name: str) -> str:
    """Return the page of records, read once and one at a time; `name` is what the ledger is called."""
    rows: list[Html] = []
    summary = summarise(_listed(records, rows))
    body = [
        element("a", "Skip to the questions", class_="skip", href="#questions"),
        element("header", _head(summary, name)),
        element("main", _main(summary, rows)),
        element("footer", "Drawn by deeprag tree."),
    ]
    return page(f"{name[:120]} · summary of the searches", *body, script="summary.js")


def _listed(records: Iterable[Record], rows: list[Html]) -> Iterator[Record]:
    """Yield records, and make a row of each while there is room."""
    for record in records:
        if len(rows) < LISTED:
            rows.append(_row(record))
        yield record


def _head(summary: Summary, name: str) -> Iterator[Html]:
    yield element("p", "Ledger", class_="eyebrow")
    yield quoted(name, "h1")
    figures = {
        "Questions": f"{summary['questions']:,}",
        **{
            outcome.capitalize(): f"{number:,} ({percent(number, summary['questions'])})"
            for outcome, number in summary["outcomes"].items()
        },
        "Model calls": f"{summary['usage']['llm_calls']:,}",
        "Retrievals": f"{summary['usage']['retrievals']:,}",
        "Tokens": f"{summary['usage']['prompt_tokens'] + summary['usage']['completion_tokens']:,}",
        "Time in nodes": f"{summary['usage']['seconds']:,.1f} s",
    }
    boxes = (element("div", element("dt", key), element("dd", value)) for key, value in figures.items())
    yield element("dl", boxes, class_="figures")


def _main(summary: Summary, rows: list[Html]) -> Iterator[Html]:
    parts = {
        "outcomes": ("Outcomes", _outcomes(summary)),
        "paths": ("Optimal paths", _paths(summary)),
        "branches": ("Where branches end", _branches(summary)),
        "effort": ("What a question took", _effort(summary)),
    }
    for id, (title, content) in parts.items():
        yield element("section", element("h2", title, id=id), content, aria_labelledby=id)
    yield element("section", settings(summary["settings"]), aria_labelledby="settings")
    title = element("h2", "Questions", id="questions", tabindex=-1)
    yield element("section", title, _questions(summary, rows), aria_labelledby="questions")


def _outcomes(summary: Summary) -> Iterator[Html]:
    named = summary["datasets"] if len(summary["datasets"]) > 1 else {}
    groups = {"(all)": summary["outcomes"], **named}
    reasons = {SEARCH_STOPS[reason]: number for reason, number in summary["stop_reasons"].items()}
    yield _columns(
        stacks("How searches came out", "data set", groups, OUTCOMES),
        bars("Why searches ended", "reason", reasons),
    )


def _paths(summary: Summary) -> Iterator[Html]:
    if not summary["costs"]:
        yield element("p", "No question was solved.")
        return
    decisions, own = summary["decisions"], summary["own_decisions"]
    yield element(
        "p",
        f"A solved question costs {mean(summary['costs']):.2f} retrievals and takes {mean(summary['steps']):.2f} steps "
        f"on average. {percent(decisions['retrieve'], sum(decisions.values()))} of the decisions on optimal paths are "
        "to retrieve.",
    )
    if own["of"]:
        yield element(
            "p",
            f"The policy had written a decision of its own at {own['of']:,} of them: {own['part']:,} "
            f"({percent(own['part'], own['of'])}) are those of the optimal path.",
        )
    yield _columns(
        bars("Cost of solved questions", "retrievals", summary["costs"], kind="retrieve"),
        bars("Length of their optimal paths", "steps", summary["steps"]),
        bars("Decisions on optimal paths", "decision", summary["decisions"], of="decisions"),
    )


def _branches(summary: Summary) -> Iterator[Html]:
    text = (
        f"{count(summary['nodes'], 'node')}, {percent(summary['free_nodes'], summary['nodes'])} without a model call."
    )
    yield element("p", text)
    yield _columns(
        stacks("Ends of branches, by the decisions on the way", "decisions", summary["ends"], ENDS),
        counts("Stop reasons, by the decisions on the way", "stop reason", summary["end_reasons"]),
    )


def _effort(summary: Summary) -> Iterator[Html]:
    names = {"llm_calls": ("model calls", ".1f"), "tokens": ("tokens", ",.0f"), "seconds": ("seconds", ",.1f")}
    rows = (
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", format(summary["per_question"][key]["mean"], form), class_="number"),
            element("td", format(summary["per_question"][key]["median"], form), class_="number"),
        )
        for key, (name, form) in names.items()
    )
    heads = [element("td"), *(element("th", name, scope="col", class_="number") for name in ("mean", "median"))]
    caption = element("caption", "A question")
    table = element("table", caption, element("thead", element("tr", heads)), element("tbody", rows), class_="chart")
    corrections = bars(
        "Corrections, the most common", "correction", summary["corrections"], of="times", kind="malformed"
    )
    yield _columns(table, corrections if summary["corrections"] else element("p", "No correction was needed."))


def _columns(*parts: Html) -> Html:
    return element("div", (element("div", part) for part in parts), class_="columns")


def _questions(summary: Summary, rows: list[Html]) -> Iterator[Html]:
    hint = element("code", "deeprag tree LEDGER --question ID")
    yield element("p", "The page of one search: ", hint, class_="note")
    if summary["questions"] > len(rows):
        yield element("p", f"The first {len(rows):,} of {summary['questions']:,} questions.")
    yield element("div", _filters(), class_="controls", role="search", aria_label="Filter the questions", hidden=True)
    yield element("p", class_="note", id="shown", role="status")
    heads = (
        element("th", name, scope="col", class_=None if kind == "text" else kind, data_sort=kind)
        for name, kind in _COLUMNS.items()
    )
    caption = element("caption", "Questions with their outcomes", class_="unseen")
    yield element("table", caption, element("thead", element("tr", heads)), element("tbody", rows), class_="questions")


def _filters() -> Iterator[Html]:
    yield element("label", "Words or id ", element("input", type="search", id="words", autocomplete="off"))
    options = [element("option", "all", value=""), *(element("option", name, value=name) for name in OUTCOMES)]
    yield element("label", "Outcome ", element("select", options, id="outcome"))


def _row(record: Record) -> Html:
    best = record["nodes"][record["best"]] if record["best"] >= 0 else None
    numbers = (record["cost"], record["usage"]["llm_calls"], best["depth"] if best else None)
    return element(
        "tr",
        element("th", quoted(record["question"][:_SHOWN]), quoted(record["id"], "span", class_="id"), scope="row"),
        element("td", icon(SIGNS[record["outcome"]]), record["outcome"], class_=f"end {SIGNS[record['outcome']]}"),
        (element("td", "–" if number is None else f"{number:,}", class_="number") for number in numbers),
    )
