"""The tree as an outline: nested lists whose entries open and close, for eyes and ears, with a script and without."""

from collections.abc import Iterator
from typing import Final

from deeprag_graph.explore.tree import ROOT, Node
from deeprag_graph.pages.markup import Html, element, icon, quoted
from deeprag_graph.pages.view import WORDS, Branch, View, calls, count, forecast, stop_words

_OPEN_DEPTH: Final = 2  # levels that begin open where there is no path to show
_INDENTED: Final = 10  # levels that move to the right; those below stay in line, or a small screen had no room


def outline(view: View) -> Html:
    """Return the outline, with the path to the right answer open."""
    entries: dict[int, Html] = {}
    for node in reversed(view.nodes):  # children first, so that no depth is too deep
        under = (
            entries[branch.node["id"]] if branch.node else _untried(branch, node["depth"] + 2)
            for branch in view.branches[node["id"]]
        )
        entries[node["id"]] = _entry(view, node, list(under))
    return element("ul", entries[ROOT], class_="outline", role="list", aria_label="Outline of the tree")


def _entry(view: View, node: Node, under: list[Html]) -> Html:
    marked = node["id"] in view.marked
    opened = marked or (not view.marked and node["depth"] < _OPEN_DEPTH)
    details = element(
        "details",
        element("summary", _head(view, node)),
        element("div", _body(view, node), class_="body"),
        element("ul", under, role="list") if under else Html(),
        open=opened,
    )
    kinds = ["entry", *(["marked"] if marked else []), *(["deep"] if node["depth"] >= _INDENTED else [])]
    return element("li", details, id=f"node-{node['id']}", class_=" ".join(kinds), aria_level=node["depth"] + 1)


def _untried(branch: Branch, level: int) -> Html:
    text = element("span", branch.why, class_="note")
    return element("li", chip(branch.decision), " ", text, class_="untried", aria_level=level)


def chip(name: str) -> Html:
    """Return the name of a decision with its sign."""
    return element("span", icon(name), name, class_=f"chip {name}")


def _head(view: View, node: Node) -> Iterator[Html]:
    """Yield the lines that stand there while an entry is closed: how one gets here, and what comes next."""
    mark = element("span", icon("path"), view.path_name, class_="mark")
    first = [chip(node["action"] or "start"), " "]
    if node["answer"]:
        first += [quoted(node["answer"], class_="answer"), " "]
    yield element("span", first, mark if node["id"] in view.marked else "", class_="line")
    yield element("span", _next(node), class_="line")
    if view.below[node["id"]]:
        yield element("span", f"{count(view.below[node['id']], 'node')} below", class_="below")


def _next(node: Node) -> Iterator[Html]:
    if node["outcome"] != "inner":
        yield element("span", icon(node["outcome"]), f"ends {WORDS[node['outcome']]}", class_=f"end {node['outcome']}")
        yield Html(" ")
        yield quoted(node["final"]["short"], class_="final")
        return
    yield element("span", "asks", class_="label")
    yield Html(" ")
    yield quoted(node["subquery"], class_="subquery")
    for note in forecast(node):
        yield Html(" ")
        yield element("span", note, class_="note")


def _body(view: View, node: Node) -> Iterator[Html]:
    facts = [f"node {node['id']}", f"{count(node['cost'], 'retrieval')} so far", calls(node)]
    yield element("p", " · ".join(facts), class_="facts")
    if node["final"]["long"]:
        yield element("p", "Final answer: ", quoted(node["final"]["long"]))
    if node["stop_reason"]:
        yield element("p", f"Ended here: {stop_words(node['stop_reason'])}.")
    if node["error"]:
        yield element("p", "Error: ", quoted(node["error"]), class_="error")
    if node["corrections"]:
        items = (element("li", quoted(text)) for text in node["corrections"])
        yield element("div", "Corrections: ", element("ul", items), class_="corrections")
    yield from _passages(view, node)


def _passages(view: View, node: Node) -> Iterator[Html]:
    if node["action"] == "retrieve" and not node["passages"] and not node["error"]:
        yield element("p", "No passage was found.")
    if node["passages"]:
        items = (
            element(
                "li",
                quoted(passage["title"] or passage["text"][:60], "a", href=f"#passage-{view.numbers[passage['id']]}"),
                element("span", f" score {score:.3f}", class_="note") if score is not None else Html(),
            )
            for passage, score in view.passages(node)
        )
        shown = count(len(node["passages"]), "passage")
        yield element("details", element("summary", shown), element("ol", items), class_="passages")
