"""The whole tree in one picture: a sign for each node, from which one gets to its entry in the outline."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from deeprag_graph.explore.tree import ROOT, Node
from deeprag_graph.pages.markup import Html, element, icon
from deeprag_graph.pages.view import WORDS, Branch, View, count

_COLUMN: Final = 18.0
_STUB: Final = 10.0  # width of a decision that was not tried
_ROW: Final = 34.0
_SIGN: Final = 14.0
_SMALL: Final = 8.0
_MARGIN: Final = 4.0
_LEAST, _MOST = 11 / _COLUMN, 30 / _COLUMN  # how far the picture shrinks before it scrolls, and grows


class _Layout(NamedTuple):
    """Where nodes and decisions that were not tried stand, from left to right, and how wide that is."""

    nodes: dict[int, float]
    stubs: dict[tuple[int, str], float]
    width: float


def overview(view: View) -> tuple[Html, str]:
    """Return the picture and the rules that keep its size within what can be read."""
    layout = _layout(view)
    stubs = (view.nodes[parent]["depth"] + 1 for parent, _ in layout.stubs)
    depth = max(*stubs, *(node["depth"] for node in view.nodes), 0)
    width, height = layout.width + 2 * _MARGIN, _y(depth) + _SIGN / 2 + 4
    drawn = element(
        "svg",
        element("g", _edges(view, layout)),
        element("g", _stubs(layout, view)),
        (_link(view, node, layout.nodes[node["id"]]) for node in view.nodes),
        viewBox=f"{-_MARGIN:g} 0 {width:g} {height:g}",
        role="group",
        aria_label=f"Picture of the tree, {count(len(view.nodes), 'node')}. Arrow keys move in it, Enter goes to the "
        "entry below.",
    )
    rules = f".picture svg{{min-width:{width * _LEAST:.0f}px;max-width:{width * _MOST:.0f}px}}\n"
    return element("div", drawn, class_="picture"), rules


def _layout(view: View) -> _Layout:
    nodes: dict[int, float] = {}
    stubs: dict[tuple[int, str], float] = {}
    right = 0.0
    waiting = [Branch(-1, "parametric", view.nodes[ROOT], "")]
    while waiting:
        branch = waiting.pop()
        if branch.node is None:
            stubs[branch.parent, branch.decision] = right + _STUB / 2
            right += _STUB
        elif under := view.branches[branch.node["id"]]:
            waiting += reversed(under)
        else:
            nodes[branch.node["id"]] = right + _COLUMN / 2
            right += _COLUMN
    for node in reversed(view.nodes):  # parents stand between what hangs under them
        if under := view.branches[node["id"]]:
            at = [nodes[b.node["id"]] if b.node else stubs[b.parent, b.decision] for b in under]
            nodes[node["id"]] = sum(at) / len(at)
    return _Layout(nodes, stubs, right)


def _edges(view: View, layout: _Layout) -> Iterator[Html]:
    # The marked path is drawn last, over the others.
    for node in sorted(view.nodes[1:], key=lambda node: node["id"] in view.marked):
        before = view.nodes[node["parent"]]
        kind = f"edge {node['action']}{' marked' if node['id'] in view.marked else ''}"
        yield _edge(kind, layout.nodes[before["id"]], before["depth"], layout.nodes[node["id"]])


def _edge(kind: str, x: float, depth: int, to: float) -> Html:
    y = _y(depth)
    return element(
        "path", class_=kind, d=f"M{x:g} {y:g}C{x:g} {y + _ROW / 2:g} {to:g} {y + _ROW / 2:g} {to:g} {y + _ROW:g}"
    )


def _stubs(layout: _Layout, view: View) -> Iterator[Html]:
    for (parent, _), to in layout.stubs.items():
        depth = view.nodes[parent]["depth"]
        yield _edge("edge open", layout.nodes[parent], depth, to)
        yield _sign("open", to, _y(depth + 1), _SMALL)


def _y(depth: int) -> float:
    return depth * _ROW + _SIGN / 2 + 4


def _sign(name: str, x: float, y: float, size: float) -> Html:
    return element("use", href=f"#icon-{name}", x=f"{x - size / 2:g}", y=f"{y - size / 2:g}", width=size, height=size)


def _link(view: View, node: Node, x: float) -> Html:
    y = _y(node["depth"])
    marked = node["id"] in view.marked
    name = ", ".join(
        [
            f"Node {node['id']}",
            f"after {node['action']}" if node["action"] else "the beginning",
            WORDS[node["outcome"]],
            *([f"on the {view.path_name}"] if marked else []),
        ]
    )
    return element(
        "a",
        element("title", name),
        element("circle", class_="halo", cx=f"{x:g}", cy=f"{y:g}", r=_SIGN / 2 + 2),
        _sign("start" if not node["action"] and node["outcome"] == "inner" else node["outcome"], x, y, _SIGN),
        href=f"#node-{node['id']}",
        class_=f"{node['outcome']}{' marked' if marked else ''}",
        aria_label=name,
        tabindex=0 if node["id"] == ROOT else -1,
        data_parent=node["parent"],
        data_depth=node["depth"],
    )


def legend(view: View) -> Html:
    """Return what the signs mean, of which the page says the same in words."""
    signs = [
        ("retrieve", "retrieve (solid line, to the right)"),
        ("parametric", "parametric: answered from memory (dashed line, to the left)"),
        ("right", "ends right"),
        ("wrong", "ends wrong"),
        ("malformed", "left the format"),
        ("failed", "a call failed"),
        ("open", "decision not tried"),
        *([("path", f"{view.path_name} (thick line)")] if view.marked else []),
    ]
    items = (element("li", icon(name), element("span", words), class_=name) for name, words in signs)
    return element("ul", items, class_="legend", role="list", aria_label="Legend")
