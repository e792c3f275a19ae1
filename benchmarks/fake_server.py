"""A model server that does no thinking: OpenAI-compatible completions after a fixed delay, in a process of its own.

It follows the transcript. As a chain, each completion ends in a decision to retrieve until the prompt holds the wanted
number of contexts, then in the final answer; with worlds, it writes what their policy writes. The delay stands in the
address (`http://HOST:PORT/50ms/v1`), so that one server serves every load. Answers are rendered once, which leaves
about 0.1 ms of CPU a call.

    python -m benchmarks.fake_server chain RETRIEVALS     # prints its port; ends when its standard input is closed
    python -m benchmarks.fake_server worlds QUESTIONS
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, cast

NAME: Final = "@@@@"  # in a script's text: where the name of a world stands, which is as long
_TOKEN = re.compile(r"\n|[^\S\n]?[^\s]{1,5}|[^\S\n]")
_CONTEXT: Final = "\nContext:\n["
_ALTERNATIVES: Final = 5

# from a prompt and its stop strings to the completion, with NAME in place of the name that comes with it, if any does
Script = Callable[[str, Sequence[str]], tuple[str, str]]


def completion(number: int, retrievals: int) -> str:
    """Return what the model writes once it has been given `number` contexts, without the stop string."""
    answered = f" the {number}th fact of the chain, as the passages say\n" if number else ""
    if number < retrievals:
        return f"{answered}Follow up: What is fact number {number + 1} of the chain that was asked for?\nLet's "
    long, short = "The last fact of the chain is the one that answers the question.", "the last fact"
    return f"{answered}So the final answer is: <answer long>{long}</answer long><answer short>{short}</answer short>"


def chain(retrievals: int) -> Script:
    """Return the script of a model that retrieves so often."""
    texts = [completion(number, retrievals) for number in range(retrievals + 1)]
    return lambda prompt, _: (texts[min(prompt.count(_CONTEXT), retrievals)], "")


def _script(kind: str, number: int) -> Script:
    if kind == "chain":
        return chain(number)
    from benchmarks.world_script import world_script  # noqa: PLC0415 - a chain has no need of LangChain

    return world_script(number)


def _logprobs(text: str) -> dict[str, Any]:
    """Return log-probabilities in the form of the completions protocol."""
    tokens = _TOKEN.findall(text)
    top = [{token: -0.1, **{f" other{n}": -2.5 - n for n in range(1, _ALTERNATIVES)}} for token in tokens]
    offsets = [sum(map(len, tokens[:n])) for n in range(len(tokens))]
    return {"tokens": tokens, "token_logprobs": [-0.1] * len(tokens), "top_logprobs": top, "text_offset": offsets}


def _answer(text: str, with_logprobs: bool) -> bytes:
    logprobs = _logprobs(text)
    written = len(logprobs["tokens"])
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": logprobs if with_logprobs else None}
    usage = {"prompt_tokens": 500, "completion_tokens": written, "total_tokens": 500 + written}
    about = {"id": "cmpl-0", "object": "text_completion", "created": 0, "model": "fake"}
    return _response({**about, "choices": [choice], "usage": usage})


def _response(body: Any, status: str = "200 OK") -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class _Server:
    """What the connections share: the answers, each rendered once, what was asked for, and the requests to keep."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._answers: dict[tuple[str, bool], bytes] = {}
        self._calls = 0
        self._recorded: list[dict[str, Any]] | None = None

    def _complete(self, request: dict[str, Any]) -> bytes:
        self._calls += 1
        if self._recorded is not None:
            self._recorded.append(request)
        prompt = request["prompt"] if isinstance(request["prompt"], str) else request["prompt"][0]
        text, name = self._script(prompt, request.get("stop") or ())
        key = text, bool(request.get("logprobs"))
        if key not in self._answers:
            self._answers[key] = _answer(*key)
        return self._answers[key].replace(NAME.encode(), name.encode()) if name else self._answers[key]

    def reply(self, path: str, body: bytes) -> tuple[float, bytes]:
        """Return the delay in seconds and the response."""
        _, delay, *rest = path.split("/")
        match rest:
            case ["v1", "completions"]:
                return float(delay.removesuffix("ms")) / 1000, self._complete(json.loads(body))
            case ["apply-template"]:
                messages = json.loads(body)["messages"]
                turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
                return 0, _response({"prompt": "".join(turns) + "<|im_start|>assistant\n"})
            case ["v1", "models"]:
                return 0, _response({"object": "list", "data": [{"id": "fake", "object": "model"}]})
            case ["used"]:
                return 0, _response({"cpu": time.process_time(), "calls": self._calls})
            case ["record" | "recorded" as wanted]:
                kept, self._recorded = self._recorded, [] if wanted == "record" else None
                return 0, _response(kept)
        return 0, _response({"error": {"message": "no such address"}}, "404 Not Found")


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, just enough of it for the clients measured here."""

    def __init__(self, server: _Server) -> None:
        self._server, self._buffer = server, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode("latin-1")
            found = re.search(r"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            length = end + 4 + (int(found.group(1)) if found else 0)
            if len(self._buffer) < length:
                return
            delay, response = self._server.reply(head.split(" ", 2)[1], bytes(self._buffer[end + 4 : length]))
            del self._buffer[:length]
            asyncio.get_running_loop().call_later(delay, self._transport.write, response)


async def _serve(script: Script) -> None:
    loop, closed = asyncio.get_running_loop(), asyncio.Event()
    state = _Server(script)
    server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    loop.add_reader(sys.stdin, closed.set)  # readable when it is closed: nothing is ever written to it
    await closed.wait()


@contextmanager
def fake_server(kind: Literal["chain", "worlds"], number: int) -> Iterator[str]:
    """Run the server in a process of its own; gives its root, to which the delay is added: `{root}/50ms/v1`."""
    command = [sys.executable, "-m", "benchmarks.fake_server", kind, str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


if __name__ == "__main__":
    _chosen = _script(sys.argv[1], int(sys.argv[2]))
    try:
        import uvloop  # half the CPU a call, where it is installed
    except ImportError:
        asyncio.run(_serve(_chosen))
    else:
        uvloop.run(_serve(_chosen))
