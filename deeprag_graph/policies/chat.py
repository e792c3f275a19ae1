"""The chat policy: any LangChain chat model, untuned and without prefill, shown the format by demonstrations.

The segments of a transcript are the turns of a conversation: what the model wrote is its turn, what the environment
brought in is the user's. A turn ends where passages must come in, so that one reply covers as many nodes as it can.
"""

import re
from collections.abc import Sequence

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from langgraph.errors import GraphBubbleUp

from deeprag_graph.errors import DeepRAGError, OperatorError
from deeprag_graph.policies.base import Completion, Policy, Prompt
from deeprag_graph.policies.failures import START_SERVER, explain
from deeprag_graph.policies.probability import decision_probabilities, read_tokens
from deeprag_graph.prompts import DEMONSTRATIONS
from deeprag_graph.transcript import ANSWER, CONTEXT, FINAL, FOLLOW_UP, RETRIEVE, Trajectory, segments

_MARKERS = (FOLLOW_UP, RETRIEVE, ANSWER, FINAL, CONTEXT)
# chat models like to write Markdown: a fence around the lines, a marker in bold or as an item of a list
_FENCE = re.compile(r"^```.*\n?", re.MULTILINE)
# the last line may be what a stop string has left of a decision to retrieve, or of the decoration alone
_DECORATED = re.compile(rf"^[ \t*_#>-]+({'|'.join(map(re.escape, _MARKERS))}|(?:Let's *)?\Z)\**", re.MULTILINE)
# the ways in which the providers say that the token limit ended a reply
_REASONS, _CUT = ("finish_reason", "stop_reason", "done_reason"), ("length", "max_tokens")


class ChatPolicy(Policy):
    """Asks a LangChain chat model for the next lines of the transcript.

    Args:
        model: the chat model; with `logprobs=True, top_logprobs=5` bound to it, p(retrieve) is known too.
        demonstrations: trajectories shown before the question.
        stop: stop strings for models that take them, to which each prompt adds its own; without them a model that
            invents passages is cut by the parser.

    The model's own settings bound the tokens and the seconds of a call: there is no common way to hand on the prompt's.
    """

    def __init__(
        self,
        model: BaseChatModel,
        *,
        demonstrations: Sequence[Trajectory] | None = None,
        stop: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(model, Runnable):
            raise OperatorError(f"The model is a {type(model).__name__}; init_chat_model(name) makes a chat model.")
        self._model, self._stop = model, tuple(stop or ())
        self._demonstrations = DEMONSTRATIONS if demonstrations is None else tuple(demonstrations)
        address = getattr(model, "openai_api_base", None)
        self._server = str(address or model.get_name())
        self._unreachable = START_SERVER if address else "check the network connection"
        secrets = list(getattr(model, "lc_secrets", {}).values())
        self._key = secrets[0] if len(secrets) == 1 else ""

    @property
    def name(self) -> str:
        """The model's name at its provider."""
        return str(getattr(self._model, "model_name", None) or getattr(self._model, "model", None) or self._server)

    def complete(self, prompt: Prompt) -> Completion:
        """Ask for the next lines; see `Policy.complete` for what is raised."""
        try:
            reply = self._model.invoke(conversation(prompt, self._demonstrations), stop=self._stops(prompt))
        except GraphBubbleUp:
            raise
        except Exception as error:
            raise self._explain(error) from error
        return _read(prompt, reply)

    async def acomplete(self, prompt: Prompt) -> Completion:
        """Ask for the next lines without blocking the event loop."""
        try:
            reply = await self._model.ainvoke(conversation(prompt, self._demonstrations), stop=self._stops(prompt))
        except GraphBubbleUp:
            raise
        except Exception as error:
            raise self._explain(error) from error
        return _read(prompt, reply)

    def _stops(self, prompt: Prompt) -> list[str] | None:
        """Return the stop strings of a call, without one that the reply itself may begin with: there is no prefill."""
        stops = dict.fromkeys((*self._stop, *prompt.stop)) if self._stop else ()
        return [stop for stop in stops if stop not in prompt.opening] or None

    def _explain(self, error: Exception) -> DeepRAGError:
        return explain(error, self._server, key=self._key, unreachable=self._unreachable)


def conversation(prompt: Prompt, demonstrations: Sequence[Trajectory]) -> list[BaseMessage]:
    """Return the messages that ask for the next lines: demonstrations, the question, the turns so far."""
    messages = [message for shown in demonstrations for message in _turns(shown)] + _turns(prompt.trajectory)
    messages[0] = HumanMessage(f"{prompt.instruction}\n\n{messages[0].text}")
    if prompt.opening and isinstance(messages[-1], AIMessage):
        # a marker the transcript already ends in is asked for, since it cannot be put into the model's mouth
        messages[-1] = AIMessage(messages[-1].text.removesuffix(prompt.opening).rstrip())
        if not messages[-1].text:
            messages.pop()
    wanted = f'Go on. The next line begins with "{prompt.opening}"' if prompt.opening else "Go on with the next line."
    if isinstance(messages[-1], AIMessage):
        messages.append(HumanMessage(wanted))
    elif prompt.lead:
        messages[-1] = HumanMessage(f"{messages[-1].text}\n{wanted}")
    return messages


def _turns(trajectory: Trajectory) -> list[BaseMessage]:
    messages: list[BaseMessage] = [HumanMessage(f"Question: {trajectory['question']}")]
    for text, author in segments(trajectory):
        kind = AIMessage if author == "model" else HumanMessage
        if isinstance(messages[-1], kind):
            messages[-1] = kind(messages[-1].text + text)
        else:
            messages.append(kind(text))
    return messages


def _read(prompt: Prompt, reply: AIMessage) -> Completion:
    metadata = reply.response_metadata or {}
    written = reply.text.lstrip()
    text = _DECORATED.sub(r"\1", _FENCE.sub("", written)).strip()
    opening = "" if text.startswith(_MARKERS) else prompt.opening
    steps = prompt.trajectory["steps"]
    undecided = not opening and bool(steps) and steps[-1]["decision"] is None
    tokens = read_tokens(metadata.get("logprobs")) if text == written.rstrip() else []  # of the text as it was written
    chances = decision_probabilities(text, tokens, undecided=undecided)
    shift = len(opening) + 1 if opening else 0
    usage = reply.usage_metadata
    return Completion(
        text=f"{opening} {text}" if opening else text,
        cut=any(str(metadata.get(reason)).lower() in _CUT for reason in _REASONS),
        prompt_tokens=usage["input_tokens"] if usage else 0,
        completion_tokens=usage["output_tokens"] if usage else 0,
        p_retrieve={offset + shift: p for offset, p in chances.items()},
    )
