"""Charts that are tables: each row has its numbers and, beside them, the same as a bar."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deeprag_graph.explore.summary import percent
from deeprag_graph.pages.markup import Html, element, quoted


def bars(caption: str, head: str, counts: Mapping[Any, int], *, of: str = "questions", kind: str = "plain") -> Html:
    """Return a table of counts, each with a bar and its share of all of them."""
    total, most = sum(counts.values()), max(counts.values(), default=0)
    rows = (
        element(
            "tr",
            quoted(str(name), "th", scope="row"),
            element("td", _bar([(kind, count)], most), class_="bar"),
            element("td", f"{count:,}", class_="number"),
            element("td", percent(count, total), class_="number note"),
        )
        for name, count in counts.items()
    )
    heads = [(head, None), ("", "bar"), (of, "number"), ("share", "number")]
    return _table(caption, heads, rows)


def stacks(caption: str, head: str, rows: Mapping[Any, Mapping[Any, int]], kinds: Sequence[str]) -> Html:
    """Return a table of counts by kind, each row with a bar that is as long as its sum and split by kind."""
    most = max((sum(row.values()) for row in rows.values()), default=0)
    body = (
        element(
            "tr",
            quoted(str(name), "th", scope="row"),
            element("td", _bar([(kind, row.get(kind, 0)) for kind in kinds], most), class_="bar"),
            (element("td", f"{row.get(kind, 0):,}", class_="number") for kind in kinds),
        )
        for name, row in rows.items()
    )
    return _table(caption, [(head, None), ("", "bar"), *((kind, f"number {kind}") for kind in kinds)], body, "stacks")


def counts(caption: str, head: str, rows: Mapping[Any, Mapping[str, int]]) -> Html:
    """Return a table of counts by kind, with the kinds, as many as there are, in its rows."""
    kinds = sorted({kind for row in rows.values() for kind in row})
    body = (
        element(
            "tr",
            quoted(kind, "th", scope="row"),
            (element("td", f"{row.get(kind, 0):,}", class_="number") for row in rows.values()),
        )
        for kind in kinds
    )
    return _table(caption, [(head, None), *((str(name), "number") for name in rows)], body)


def _table(caption: str, heads: Sequence[tuple[str, str | None]], rows: Iterator[Html], kind: str = "") -> Html:
    cells = (_head(name, kind) for name, kind in heads)
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", cells)),
        element("tbody", rows),
        class_=f"chart {kind}",
    )
    return element("div", table, class_="scroll")


def _head(name: str, kind: str | None) -> Html:
    if not name:
        return element("td", class_=kind)
    sign = (kind or "").removeprefix("number").strip()
    return element("th", _swatch(sign) if sign else Html(), name, scope="col", class_=kind)


def _swatch(kind: str) -> Html:
    return element(
        "svg", element("rect", width="100%", height="100%", class_=f"fill {kind}"), class_="swatch", aria_hidden="true"
    )


def _bar(parts: Sequence[tuple[str, int]], most: int) -> Html:
    """Return a bar of which 100 % stands for `most`."""
    at, drawn = 0.0, []
    for kind, number in parts:
        width = 100 * number / most if most else 0
        if width:
            drawn.append(element("rect", x=f"{at:.3f}%", width=f"{width:.3f}%", height="100%", class_=f"fill {kind}"))
        at += width
    return element("svg", drawn, class_="length", aria_hidden="true")
