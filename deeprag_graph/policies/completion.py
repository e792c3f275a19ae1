"""The completion policy: continues the transcript itself, on any OpenAI-compatible server, vLLM first.

This is how a model tuned on the transcript is served. The prompt of each call is the server's own chat template around
the question, then the transcript so far, so it is a prefix of what the model was trained on.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import openai
from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.globals import get_llm_cache
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables.config import ensure_config
from langchain_openai import OpenAI
from langgraph.errors import GraphBubbleUp
from pydantic import SecretStr

from deeprag_graph.errors import DeepRAGError, OperatorError, PolicyError
from deeprag_graph.policies.base import Completion, Policy, Prompt
from deeprag_graph.policies.failures import START_SERVER, explain
from deeprag_graph.policies.probability import decision_probabilities, read_tokens
from deeprag_graph.policies.template import ChatTemplate, question_messages, server_template
from deeprag_graph.policies.transport import AsyncCompletions, Completions, in_time
from deeprag_graph.transcript import Trajectory, render

_PLACEHOLDER = "QUESTION-GOES-HERE"
_ALTERNATIVES = 5  # log-probabilities a token: the most that the completions protocol promises


class CompletionPolicy(Policy):
    """Goes on with the transcript by `/v1/completions`, with stop strings and log-probabilities.

    Args:
        model: the model's name on the server; None takes the first that the server lists.
        base_url: the server's address, with `/v1`.
        api_key: the key; `OPENAI_API_KEY` by default.
        template: the chat template; by default the server's own is asked for.
        demonstrations: trajectories shown before the question, for a model that was not tuned on the transcript.
        temperature: 0 is greedy.
        timeout: seconds for a call, where the episode's own budget is not tighter.
        max_retries: how often the client tries again after a 429, a 5xx or a broken connection.

    Attributes:
        unreachable: what a person does when the server does not answer at all, the end of a sentence.
    """

    unreachable = START_SERVER

    def __init__(
        self,
        model: str | None = None,
        base_url: str = "http://127.0.0.1:8000/v1",
        api_key: str | None = None,
        *,
        template: ChatTemplate | None = None,
        demonstrations: Sequence[Trajectory] = (),
        temperature: float = 0.0,
        timeout: float = 120.0,
        max_retries: int = 2,
    ) -> None:
        self.base_url, self.timeout = base_url.rstrip("/"), timeout
        self._key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._client = openai.OpenAI(
            base_url=self.base_url, api_key=self._key, timeout=timeout, max_retries=max_retries
        )
        self._model, self._temperature, self._retries = model, temperature, max_retries
        self._template, self._demonstrations = template, tuple(demonstrations)
        self._frames: dict[str, tuple[str, str]] = {}
        self._asking = threading.Lock()  # many questions that begin at once ask the server for its template once
        self._sync_llm: OpenAI | None = None
        self._async_llms: dict[asyncio.AbstractEventLoop, tuple[OpenAI, AsyncIterator[None]]] = {}

    def complete(self, prompt: Prompt) -> Completion:
        """Go on with the transcript; see `Policy.complete` for what is raised."""
        try:
            deadline = self._deadline(prompt)
            text = self._text(prompt, deadline)
            if self._sync_llm is None:
                self._sync_llm = self._llm(client=Completions(self._client, self._retries))
            callbacks = ensure_config().get("callbacks")
            result = self._sync_llm.generate([text], callbacks=callbacks, **_options(prompt, deadline))
            return self._read(prompt, result)
        except (DeepRAGError, GraphBubbleUp):
            raise
        except Exception as error:
            raise self._explain(error) from error

    async def acomplete(self, prompt: Prompt) -> Completion:
        """Go on with the transcript without blocking the event loop."""
        try:
            deadline = self._deadline(prompt)
            if prompt.instruction not in self._frames:
                await asyncio.to_thread(self._frame, prompt.instruction, deadline)
            text = self._text(prompt, deadline)
            result = await _agenerate(await self._async_llm(), text, _options(prompt, deadline))
            return self._read(prompt, result)
        except (DeepRAGError, GraphBubbleUp):
            raise
        except Exception as error:
            raise self._explain(error) from error

    @property
    def model(self) -> str:
        """The model's name; the server is asked for it where none was given."""
        return self._known_model(time.monotonic() + self.timeout)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    def _known_model(self, deadline: float) -> str:
        if self._model is None:
            try:
                listed = in_time(self._client, deadline, self._retries, lambda client: client.models.list().data)
            except openai.OpenAIError as error:
                raise self._explain(error) from error
            if not listed:
                raise OperatorError(f"The server at {self.base_url} serves no model: start it with one.")
            self._model = listed[0].id
        return self._model

    def _explain(self, error: Exception) -> DeepRAGError:
        return explain(error, self.base_url, self._model or "", key="OPENAI_API_KEY", unreachable=self.unreachable)

    def _deadline(self, prompt: Prompt) -> float:
        seconds = self.timeout if prompt.timeout is None else min(self.timeout, prompt.timeout)
        return time.monotonic() + seconds

    def _text(self, prompt: Prompt, deadline: float) -> str:
        before, after = self._frame(prompt.instruction, deadline)
        return before + prompt.trajectory["question"] + after + render(prompt.trajectory, prompt.lead)

    def _frame(self, instruction: str, deadline: float) -> tuple[str, str]:
        """Return what the chat template puts before and after the question; the server is asked once."""
        if instruction in self._frames:
            return self._frames[instruction]
        with self._asking:
            if instruction not in self._frames:
                model = self._known_model(deadline)  # from here on no later call has to ask for it
                messages = question_messages(instruction, self._demonstrations, _PLACEHOLDER)

                def ask(client: openai.OpenAI) -> str:
                    return server_template(client, model)(messages)

                template = self._template
                text = template(messages) if template else in_time(self._client, deadline, self._retries, ask)
                before, placeholder, after = text.rpartition(_PLACEHOLDER)
                if not placeholder:
                    raise OperatorError("The chat template leaves the question out; give another with `template`.")
                self._frames[instruction] = (before, after)
            return self._frames[instruction]

    def _llm(self, *, client: Completions | None = None, async_client: AsyncCompletions | None = None) -> OpenAI:
        return OpenAI(
            model=self.model,
            base_url=self.base_url,
            api_key=SecretStr(self._key),
            temperature=self._temperature,
            max_retries=self._retries,
            client=client,
            async_client=async_client,
            logprobs=_ALTERNATIVES,
            # the template has the beginning-of-text token already
            extra_body={"add_special_tokens": False},
        )

    async def _async_llm(self) -> OpenAI:
        """Return the client of this event loop; connections cannot be shared between loops."""
        loop = asyncio.get_running_loop()
        if loop not in self._async_llms:
            client = openai.AsyncOpenAI(
                base_url=self.base_url,
                api_key=self._key,
                max_retries=self._retries,
                http_client=openai.DefaultAioHttpClient(),  # half the CPU a call of the default one
            )
            closing = self._close_with_loop(loop, client)
            self._async_llms[loop] = self._llm(async_client=AsyncCompletions(client)), closing
            await anext(closing)
        return self._async_llms[loop][0]

    async def _close_with_loop(
        self, loop: asyncio.AbstractEventLoop, client: openai.AsyncOpenAI
    ) -> AsyncIterator[None]:
        """Close and forget the client when its loop ends: a loop that shuts down closes its generators first."""
        try:
            yield
        finally:
            self._async_llms.pop(loop, None)
            await client.close()

    def _read(self, prompt: Prompt, result: LLMResult) -> Completion:
        generation = result.generations[0][0] if result.generations and result.generations[0] else None
        if not isinstance(generation, Generation):
            raise PolicyError(f"The model server at {self.base_url} sent an answer without a completion.")
        info = generation.generation_info or {}
        usage = (result.llm_output or {}).get("token_usage", {})
        opening = prompt.opening
        steps = prompt.trajectory["steps"]
        undecided = not opening and bool(steps) and steps[-1]["decision"] is None
        chances = decision_probabilities(generation.text, read_tokens(info.get("logprobs")), undecided=undecided)
        return Completion(
            text=opening + generation.text,
            cut=info.get("finish_reason") == "length",
            prompt_tokens=usage.get("prompt_tokens", 0),
            completion_tokens=usage.get("completion_tokens", 0),
            p_retrieve={offset + len(opening): p for offset, p in chances.items()},
        )


def _options(prompt: Prompt, deadline: float) -> dict[str, Any]:
    left = max(0.001, deadline - time.monotonic())
    return {"stop": list(prompt.stop), "max_tokens": prompt.max_tokens, "timeout": left}


async def _agenerate(llm: OpenAI, text: str, options: dict[str, Any]) -> LLMResult:
    """Generate; without the detour that reports to callbacks and asks the cache where there is neither.

    The detour costs a fifth of the CPU of such a call. It also gives way to other tasks while the log-probabilities are
    alive, so that with many calls in flight the garbage collector goes through those of all of them.
    """
    callbacks = ensure_config().get("callbacks")
    listening = AsyncCallbackManager.configure(callbacks, llm.callbacks, llm.verbose).handlers
    if listening or get_llm_cache() is not None:
        return await llm.agenerate([text], callbacks=callbacks, **options)
    return await llm._agenerate([text], **options)
