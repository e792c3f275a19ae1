"""A search as a tree of characters, for a terminal of any width."""

import textwrap
from collections.abc import Iterator
from typing import Final

from deeprag_graph.explore.tree import NONE, ROOT, SEARCH_STOPS
from deeprag_graph.ledger import Record
from deeprag_graph.narrative import cost
from deeprag_graph.pages.view import WORDS, Branch, View, calls, count, forecast, stop_words
from deeprag_graph.transcript import one_line

_SHOWN: Final = 300  # characters of one text
_NARROWEST: Final = 24  # columns that the text keeps, however deep the branch


def text_tree(record: Record, width: int) -> Iterator[str]:
    """Yield the lines of a search; what is on the path to the right answer is marked with a star."""
    view = View(record)
    for text in _head(view):
        yield from _wrapped(text, "", "  ", width)
    yield ""
    # What is to be drawn, the next one last: its branch, what stands before its first line, and before the others.
    waiting = [(Branch(NONE, "parametric", view.nodes[ROOT], ""), "", "")] if view.nodes else []
    while waiting:
        branch, first, others = waiting.pop()
        under = view.branches[branch.node["id"]] if branch.node else []
        inside = others + ("│  " if under else "   ")
        start, *rest = _texts(view, branch)
        yield from _wrapped(start, first, inside, width)
        for text in rest:
            yield from _wrapped(text, inside, inside, width)
        for n, below in enumerate(reversed(under)):
            waiting.append((below, others + ("├─ " if n else "└─ "), others + ("│  " if n else "   ")))


def _head(view: View) -> Iterator[str]:
    record = view.record
    yield _text(record["question"])
    yield f"Gold: {' · '.join(map(_text, record['answers'])) or 'none'}"
    price = "" if record["cost"] is None else f", {count(record['cost'], 'retrieval')} on the path"
    yield f"{record['outcome'].capitalize()}{price}: {SEARCH_STOPS[record['stop_reason']]}."
    if record["error"]:
        yield f"Error: {_text(record['error'])}"
    yield f"{count(len(view.nodes), 'node')}: {cost(record['usage'])}"
    if view.marked:
        yield f"* marks the {view.path_name}"


def _texts(view: View, branch: Branch) -> Iterator[str]:
    """Yield what there is to say of a branch, each text on lines of its own."""
    node = branch.node
    if node is None:
        yield f"{branch.decision}: {branch.why}"
        return
    mark = "* " if node["id"] in view.marked else ""
    answer = f" → {_text(node['answer'])}" if node["answer"] else ""
    yield f"{mark}{node['action'] or 'start'}{answer}"
    for text in node["corrections"]:
        yield f"! {_text(text)}"
    for passage, _ in view.passages(node):
        yield f"[{view.numbers[passage['id']]}] {_text(passage['title'] or passage['text'][:60])}"
    if node["outcome"] == "inner":
        yield f"asks {_text(node['subquery'])}"
        yield ", ".join([*forecast(node), calls(node)])
        return
    yield f"ends {WORDS[node['outcome']]}: {_text(node['final']['short']) or 'no answer'} ({calls(node)})"
    if node["stop_reason"] != "concluded":
        yield f"{stop_words(node['stop_reason'])}{': ' if node['error'] else ''}{_text(node['error'])}"


def _text(text: str) -> str:
    line = one_line(text, _SHOWN + 1)
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"


def _wrapped(text: str, first: str, others: str, width: int) -> list[str]:
    room = max(_NARROWEST, width - len(others))
    parts = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return [(first if n == 0 else others) + part for n, part in enumerate(parts)]
