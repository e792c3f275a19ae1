"""HTML in which escaping cannot be forgotten: whatever is not made by `element` is text, and escaped by it.

A page is one file that asks for nothing from outside. Its policy lets only its own style and its own script run, by
their digests, so that text from a record could do nothing even if it did get past the escaping.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from importlib import resources
from typing import Final

_LONGEST: Final = 20_000  # characters of one text; none that this package writes to a ledger is as long
_VOID: Final = frozenset({"meta", "link", "input", "br"})

# What a page must not hold, or what could reorder the text around it: control characters, surrogates, bidi overrides.
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return `text` as HTML that shows it, cut where it is endless, its harmful characters replaced."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} … ({len(text):,} characters)"
    return Html(html.escape(_HARMFUL.sub("\ufffd", text)))


def element(name: str, /, *content: Iterable[str], **attributes: str | int | float | bool | None) -> Html:
    """Return an element; strings in its content are text, escaped here, unless they are `Html`.

    Args:
        name: of the element.
        content: strings, and iterables of strings.
        attributes: `class_` stands for `class`, `aria_label` for `aria-label`; True is an attribute without a value,
            False and None are none.
    """
    start = "".join([name, *(_attribute(key, value) for key, value in attributes.items())])
    return Html(f"<{start}>" if name in _VOID else f"<{start}>{''.join(map(_content, content))}</{name}>")


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{escape(str(value))}"'


def _content(content: Iterable[str]) -> str:
    if isinstance(content, str):
        return content if isinstance(content, Html) else escape(content)
    return "".join(map(_content, content))


def icon(name: str) -> Html:
    """Return one of the signs of `icons.svg`; the words beside it say the same."""
    return element("svg", element("use", href=f"#icon-{name}"), class_="icon", viewBox="0 0 16 16", aria_hidden="true")


def quoted(text: str, name: str = "bdi", /, **attributes: str | None) -> Html:
    """Return text of a record in an element that keeps its writing direction to itself."""
    return element(name, text, dir="auto", **attributes)


def page(title: str, *body: Html, script: str, style: str = "") -> str:
    """Return a whole page.

    Args:
        title: of the window.
        body: what stands in it.
        script: name of the page's script in this package.
        style: rules that join the style sheet.
    """
    rules, code = _file("style.css") + style, _file(script)
    policy = (
        f"default-src 'none'; style-src '{_digest(rules)}'; script-src '{_digest(code)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(rules)),
    ]
    signs = Html(_file("icons.svg"))
    whole = element("body", signs, *body, element("script", Html(code)))
    return f"<!DOCTYPE html>\n{element('html', element('head', *head), whole, lang='en')}\n"


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
