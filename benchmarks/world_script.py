"""What the policy of the scripted worlds writes, from the text of a prompt: for the fake server."""

import re
from collections.abc import Sequence
from typing import Final

from benchmarks.fake_server import NAME, Script
from benchmarks.worlds import Worlds, numbered
from deeprag_graph.policies.base import Prompt
from deeprag_graph.transcript import ANSWER, CONTEXT, FINAL, FOLLOW_UP, RETRIEVE, Passage, Step, Trajectory

_ASSISTANT: Final = "<|im_start|>assistant\n"  # the fake server's chat template
_LINE: Final = re.compile(rf"^({'|'.join(map(re.escape, (FOLLOW_UP, RETRIEVE, CONTEXT, ANSWER)))})(.*)$", re.MULTILINE)
_WORLD: Final = re.compile("‹(.{4})›")
_SOME: Final = [Passage(id="", title="", text="", score=None)]  # a world does not read them


def world_script(questions: int) -> Script:
    """Return the script of `numbered(questions)`."""
    worlds = Worlds(numbered(questions))

    def script(prompt: str, stop: Sequence[str]) -> tuple[str, str]:
        transcript = prompt[prompt.rindex(_ASSISTANT) + len(_ASSISTANT) :]
        named = _WORLD.search(prompt)
        assert named is not None
        lead = FINAL if transcript.endswith(FINAL) else ""
        trajectory = Trajectory(question=named.group(), steps=_steps(transcript), final=None)
        text = worlds.reply(Prompt(trajectory, lead, stop=tuple(stop)))
        return text.replace(named.group(1), NAME), named.group(1)

    return script


def _steps(transcript: str) -> list[Step]:
    """Return the steps as far as a world reads them; `transcript.parse` would clean every passage."""
    steps: list[Step] = []
    for marker, text in _LINE.findall(transcript):
        if marker == FOLLOW_UP:
            steps.append(Step(subquery="", decision=None, p_retrieve=None, passages=None, answer=None))
        elif marker == RETRIEVE:
            steps[-1]["decision"] = "retrieve"
        elif marker == CONTEXT:
            steps[-1]["passages"] = _SOME
        else:
            step = steps[-1]
            step["answer"] = text.strip() or None
            if step["decision"] is None:
                step["decision"], step["passages"] = "parametric", []
    return steps
