"""The page of one search: what was asked, what came of it, the path, the whole tree, the passages, the settings."""

from collections.abc import Iterator
from typing import Final

from deeprag_graph.explore.tree import NONE, SEARCH_STOPS, Node, trajectory
from deeprag_graph.ledger import Record
from deeprag_graph.pages.markup import Html, element, icon, page, quoted
from deeprag_graph.pages.outline import chip, outline
from deeprag_graph.pages.overview import legend, overview
from deeprag_graph.pages.settings import settings
from deeprag_graph.pages.view import SIGNS, View, count
from deeprag_graph.transcript import Step

_CONTROLS: Final = {"path": "Only the path", "all": "Expand all", "none": "Collapse all"}
_WOULD: Final = {"retrieve": "retrieve", "parametric": "answer from memory"}


def tree_page(record: Record) -> str:
    """Return the page of a search, one file that asks for nothing from outside."""
    view = View(record)
    picture, style = overview(view) if view.nodes else (Html(), "")
    body = [
        element("a", "Skip to the outline", class_="skip", href="#outline"),
        element("header", _head(record)),
        element("main", _main(view, picture)),
        element("footer", f"Drawn by deeprag tree from a ledger of schema version {record['schema_version']}."),
    ]
    return page(f"{record['question'][:120]} · search tree", *body, script="tree.js", style=style)


def _head(record: Record) -> Iterator[Html]:
    place = [part for part in (record["dataset"], record["id"]) if part]
    yield element("p", "Search tree of ", *_joined(place), class_="eyebrow")
    yield quoted(record["question"], "h1", class_="long" if len(record["question"]) > 160 else None)
    yield element("p", _gold(record), class_="gold")
    yield element("p", _outcome(record), class_=f"outcome {record['outcome']}")
    if record["error"]:
        yield element("p", "Error: ", quoted(record["error"]), class_="error")
    if record["gold_passages"]:
        yield element("p", "Retrievals were answered with the gold passages first.", class_="note")
    yield element("dl", _figures(record), class_="figures")


def _joined(texts: list[str]) -> Iterator[Html]:
    for n, text in enumerate(texts):
        yield Html(" · " if n else "")
        yield quoted(text)


def _gold(record: Record) -> Iterator[Html]:
    yield element("span", "Gold answer" if len(record["answers"]) == 1 else "Gold answers", class_="label")
    yield Html(" ")
    yield from _joined(record["answers"]) if record["answers"] else [element("span", "none")]


def _outcome(record: Record) -> Iterator[Html]:
    yield element("strong", icon(SIGNS[record["outcome"]]), record["outcome"].capitalize())
    yield element("span", f" {SEARCH_STOPS[record['stop_reason']]}.")


def _figures(record: Record) -> Iterator[Html]:
    usage = record["usage"]
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    figures = {
        "Cost of the path": "–" if record["cost"] is None else count(record["cost"], "retrieval"),
        "Nodes": f"{len(record['nodes']):,}",
        "Model calls": f"{usage['llm_calls']:,}",
        "Retrievals": f"{usage['retrievals']:,}",
        "Tokens (written)": f"{tokens:,} ({usage['completion_tokens']:,})",
        "Time": f"{usage['seconds']:,.1f} s",
    }
    for name, value in figures.items():
        yield element("div", element("dt", name), element("dd", value))


def _main(view: View, picture: Html) -> Iterator[Html]:
    yield element("section", _path(view), aria_labelledby="path")
    yield element("section", _tree(view, picture), aria_labelledby="tree")
    yield element("section", settings(view.record["settings"]), aria_labelledby="settings")
    if view.record["passages"]:
        yield element("section", _passages(view), aria_labelledby="passages")


def _path(view: View) -> Iterator[Html]:
    if view.record["best"] == NONE:
        yield element("h2", "Path", id="path")
        yield element("p", "No right path was found.")
        return
    yield element("h2", icon("path"), view.path_name.capitalize(), id="path")
    if view.record["outcome"] == "failed":
        yield element("p", "This path is right, but a branch that failed might have held a cheaper one.")
    steps = trajectory(view.record, view.record["best"])["steps"]
    if steps:
        rows = (_step(before, step) for before, step in zip(view.path[:-1], steps, strict=True))
        yield element("ol", rows, class_="steps", role="list")
    yield element("p", _final(view), class_="end right")


def _step(before: Node, step: Step) -> Html:
    decision = str(step["decision"])
    answer = quoted(step["answer"] or "no answer", class_="answer")
    choice = element("span", _choice(before["written"], decision), class_="note")
    return element(
        "li",
        quoted(step["subquery"], "p", class_="subquery"),
        element("p", chip(decision), " ", answer, " ", choice),
    )


def _choice(written: str, decision: str) -> str:
    """Return how the decision of the path stands to the one that the policy wrote."""
    if not written:
        return ""
    return "the policy's own decision" if written == decision else f"the policy itself would {_WOULD[written]}"


def _final(view: View) -> Iterator[Html]:
    best = view.path[-1]
    yield icon("right")
    yield quoted(best["final"]["short"], "strong")
    yield Html(" ")
    yield quoted(best["final"]["long"])
    yield Html(" ")
    yield element("a", f"node {best['id']}", href=f"#node-{best['id']}")


def _tree(view: View, picture: Html) -> Iterator[Html]:
    yield element("h2", "Tree", id="tree")
    if not view.nodes:
        yield element("p", "The search ended before its first node.")
        return
    yield picture
    yield legend(view)
    buttons = (
        element("button", words, type="button", data_show=name)
        for name, words in _CONTROLS.items()
        if view.marked or name != "path"
    )
    yield element("div", buttons, class_="controls", role="group", aria_label="What is open", hidden=True)
    help = "Arrow keys move from entry to entry; right opens, left closes; Home and End go to the ends."
    yield element("p", help, class_="note help", hidden=True)
    yield element("div", outline(view), id="outline", tabindex=-1)


def _passages(view: View) -> Iterator[Html]:
    yield element("h2", "Passages", id="passages")
    items = (
        element(
            "li",
            quoted(passage["title"] or "(no title)", "h3"),
            quoted(passage["text"], "p"),
            element("p", "id ", quoted(passage["id"]), class_="note"),
            id=f"passage-{number}",
        )
        for number, passage in enumerate(view.record["passages"], 1)
    )
    yield element("ol", items, class_="texts")
