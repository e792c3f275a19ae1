"""The narrative of an answer, line by line as it happens: what a person reads of the events of a graph."""

import os
import textwrap
from collections.abc import Iterator
from typing import IO

from deeprag_graph.events import DecisionEvent, Event, FinalEvent, PassagesEvent
from deeprag_graph.state import STOP_REASONS, Usage

_STYLES = {"bold": "1", "dim": "2", "retrieve": "36", "parametric": "35", "answer": "32", "warning": "33"}
_BY = {
    "policy": "",
    "threshold": "by threshold",
    "always": "always",
    "never": "never retrieves",
    "budget": "the retrieval budget is spent",
    "person": "a person said no",
    "search": "explored",
}


class Narrative:
    """Turns events into lines of text, with colours where the output is a terminal and NO_COLOR is not set.

    Args:
        output: where the lines will go; it decides about colours.
        passages: show the passages' texts, not only their titles.
    """

    def __init__(self, output: IO[str], *, passages: bool = False) -> None:
        self._colours = output.isatty() and "NO_COLOR" not in os.environ
        self._texts = passages

    def lines(self, event: Event) -> Iterator[str]:
        """Yield the lines for one event."""
        match event["type"]:
            case "subquery":
                yield f"{event['step']:>3}  {self._styled('bold', event['text'])}"
            case "decision":
                yield self._decision(event)
            case "passages":
                yield from self._passages(event)
            case "answer":
                yield from ("     " + self._styled("answer", line) for line in f"→ {event['text']}".split("\n"))
            case "correction":
                yield self._styled("warning", f"     ! {event['text']}")
            case "final":
                yield from self._final(event)
            case "usage":
                yield self._styled("dim", cost(event["usage"]))

    def _decision(self, event: DecisionEvent) -> str:
        text = "searches" if event["decision"] == "retrieve" else "answers from memory"
        notes = [_BY[event["by"]]] if _BY[event["by"]] else []
        if event["p_retrieve"] is not None:
            notes.append(f"p(retrieve) = {event['p_retrieve']:.2f}")
        note = self._styled("dim", "  " + ", ".join(notes)) if notes else ""
        return f"     {self._styled(event['decision'], text)}{note}"

    def _passages(self, event: PassagesEvent) -> Iterator[str]:
        if not event["passages"] and event["error"] is None:
            yield self._styled("warning", "     nothing was found")
        for number, passage in enumerate(event["passages"], 1):
            yield self._styled("dim", f"     [{number}] {passage['title'] or passage['text'][:60]}")
            if self._texts:
                indent = " " * 9
                text = textwrap.fill(passage["text"], 96, initial_indent=indent, subsequent_indent=indent)
                yield self._styled("dim", text)

    def _final(self, event: FinalEvent) -> Iterator[str]:
        yield ""
        if event["stop_reason"] != "concluded":
            yield self._styled("warning", f"Stopped: {event['error'] or STOP_REASONS[event['stop_reason']]}")
        if event["answer"]:
            yield f"Answer: {self._styled('bold', event['answer'])}"
            if event["answer_long"] != event["answer"]:
                yield f"        {event['answer_long']}"

    def _styled(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colours and text else text


def cost(usage: Usage) -> str:
    """Return one line that says what an answer, or many together, cost."""
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    return (
        f"{usage['retrievals']} {_plural('retrieval', usage['retrievals'])}, "
        f"{usage['llm_calls']} {_plural('model call', usage['llm_calls'])}, "
        f"{tokens:,} tokens ({usage['completion_tokens']:,} written), {usage['seconds']:.1f} s"
    )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
