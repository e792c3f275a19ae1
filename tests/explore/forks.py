"""Questions whose search is not a chain: what is asked next, and how long a path is, depend on the decisions so far.

As in `benchmarks.worlds`, what a search has to find can be computed without any search.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import strategies as st

from deeprag_graph.explore.tree import SearchStop
from deeprag_graph.policies.base import Completion, Prompt
from deeprag_graph.transcript import ANSWER, FINAL, FOLLOW_UP, RETRIEVE, Decision

QUESTION = "Where does the path with the forks end?"
GOLD = "at the well"
_DECISIONS: tuple[Decision, Decision] = ("parametric", "retrieve")


@dataclass(frozen=True)
class End:
    """A path ends here by itself; `ahead` says whether the policy writes the end in one go with what is before it."""

    right: bool
    ahead: bool = True


@dataclass(frozen=True)
class Fork:
    """A subquery, and what follows each decision.

    Attributes:
        wants: what the policy writes behind the subquery; None where it stops there.
        right: whether the answer is right that it gives when it is made to conclude here.
        ahead: whether the subquery is written in one go with what is before it.
    """

    parametric: "Fork | End"
    retrieve: "Fork | End"
    wants: Decision | None = None
    right: bool = False
    ahead: bool = True

    def after(self, decision: Decision) -> "Fork | End":
        return self.retrieve if decision == "retrieve" else self.parametric


class Leaf(NamedTuple):
    """The end of a path within the bounds; `cut` where the step bound made the policy conclude."""

    decisions: tuple[Decision, ...]
    right: bool
    cut: bool

    @property
    def cost(self) -> int:
        return self.decisions.count("retrieve")


def _trees(children: st.SearchStrategy[Fork | End]) -> st.SearchStrategy[Fork | End]:
    wants: st.SearchStrategy[Decision | None] = st.sampled_from((*_DECISIONS, None))
    return st.builds(Fork, children, children, wants, seldom, st.booleans())


seldom = st.sampled_from([False, False, False, True])  # otherwise most searches end at their first path
trees: st.SearchStrategy[Fork | End] = st.recursive(st.builds(End, seldom, st.booleans()), _trees, max_leaves=14)


def walk(root: Fork | End, decisions: Sequence[Decision | None]) -> Fork | End:
    """Return where the decisions lead."""
    for decision in decisions:
        assert isinstance(root, Fork)
        assert decision is not None
        root = root.after(decision)
    return root


def leaves(
    root: Fork | End, max_steps: int, max_retrievals: int, decisions: tuple[Decision, ...] = ()
) -> Iterator[Leaf]:
    """Yield the ends of all paths within the bounds that begin with `decisions`."""
    place, full = walk(root, decisions), len(decisions) == max_steps
    if full or isinstance(place, End):
        yield Leaf(decisions, place.right, full and not (isinstance(place, End) and place.ahead))
        return
    for decision in _DECISIONS:
        if decision == "parametric" or decisions.count("retrieve") < max_retrievals:
            yield from leaves(root, max_steps, max_retrievals, (*decisions, decision))


def least_cost(found: Sequence[Leaf]) -> int | None:
    return min((leaf.cost for leaf in found if leaf.right), default=None)


def reason(root: Fork | End, found: Sequence[Leaf], max_retrievals: int) -> SearchStop:
    """Return why a search stops where `found` are all the ends of paths within its bounds."""
    if any(leaf.right for leaf in found):
        return "solved"
    if any(leaf.cut for leaf in found):
        return "max_steps"
    before = {leaf.decisions[:n] for leaf in found for n in range(len(leaf.decisions))}
    withheld = any(decisions.count("retrieve") == max_retrievals for decisions in before)
    return "max_retrievals" if withheld else "exhausted"


class Guide:
    """The policy of one such question, for `ScriptedPolicy`; it is right about where each path ends."""

    def __init__(self, root: Fork | End, by_heart: str = "by heart", looked_up: str = "looked up") -> None:
        self.root, self._answers = root, {"parametric": by_heart, "retrieve": looked_up}

    def reply(self, prompt: Prompt) -> Completion:
        """Go on with the transcript, to where the policy stops by itself or a stop string ends it."""
        steps = prompt.trajectory["steps"]
        answered = [step["decision"] for step in steps if step["answer"] is not None]
        path = "".join(str(decision)[0] for decision in answered)
        place, lines = walk(self.root, answered), []
        if prompt.lead == FINAL:
            return Completion(self._final(place))
        if len(answered) == len(steps):
            lines = self._go_on(place, path)
        else:
            assert isinstance(place, Fork)
            decision = steps[-1]["decision"]
            if decision is None and place.wants == "retrieve":
                return Completion(RETRIEVE)
            decision = decision or "parametric"
            lines = [f"{ANSWER} {self._answers[decision]}", *self._ahead(place.after(decision), path + decision[0])]
        text = "\n".join(lines) + "\n"
        begun = len(prompt.opening)
        end = min((at for stop in prompt.stop if (at := text.find(stop, begun)) >= 0), default=len(text))
        return Completion(text[:end], completion_tokens=len(lines))

    def _ahead(self, place: Fork | End, path: str) -> list[str]:
        return self._go_on(place, path) if place.ahead else []

    def _go_on(self, place: Fork | End, path: str) -> list[str]:
        if isinstance(place, End):
            return [self._final(place)]
        asked = f"{FOLLOW_UP} Where does one get to after ‹{path}›?"
        if place.wants is None:
            return [asked]
        if place.wants == "retrieve":
            return [asked, RETRIEVE]
        return [asked, f"{ANSWER} {self._answers['parametric']}", *self._ahead(place.parametric, f"{path}p")]

    def _final(self, place: Fork | End) -> str:
        short = GOLD if place.right else "in the wood"
        return f"{FINAL} <answer long>It ends {short}.</answer long><answer short>{short}</answer short>"
