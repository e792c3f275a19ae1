"""A scripted model that follows the format, alone and behind a small real HTTP server that has faults on demand."""

import json
import math
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from deeprag_graph.policies.base import Prompt
from deeprag_graph.transcript import ANSWER, CONTEXT, FINAL, FOLLOW_UP, RETRIEVE, Trajectory, parse
from tests.loopback import Loopback

MODEL = "scripted-model"
FINAL_TEXT = " <answer long>It is done.</answer long><answer short>done</answer short>"
# What the server says with each status; a client shows it to a person.
SAID = {
    400: "This model's maximum context length is 4096 tokens.",
    401: "Incorrect API key.",
    404: "The model `other` does not exist.",
    429: "Slow down.",
    500: "Out of memory.",
    503: "Loading the model.",
}


def go_on(pattern: str, trajectory: Trajectory) -> str:
    """Return what a model writes next that searches at each R of the pattern and answers by itself at each P.

    It follows the format to the end, and invents passages where nobody stops it.
    """
    lines, steps = [], dict(enumerate(trajectory["steps"], 1))
    for n, kind in enumerate(pattern, 1):
        step = steps.get(n)
        if step is None:
            lines.append(f"{FOLLOW_UP} What is fact {n}?")
        if kind == "R" and (step is None or step["decision"] is None):
            lines += [RETRIEVE, CONTEXT, "[1] Text: invented"]
        if step is None or step["answer"] is None:
            lines.append(f"{ANSWER} value {n}")
    return "\n".join([*lines, f"{FINAL}{FINAL_TEXT}"])


def follow(pattern: str) -> Callable[[Prompt], str]:
    """Return a function for `ScriptedPolicy`: the model of `go_on`, with stop strings."""

    def reply(prompt: Prompt) -> str:
        if prompt.lead == FINAL:
            return FINAL_TEXT
        text = go_on(pattern, prompt.trajectory).removeprefix(prompt.opening)
        return text[: min((at for stop in prompt.stop if (at := text.find(stop)) >= 0), default=len(text))]

    return reply


class Shelf(BaseRetriever):
    """Has something on every subject, and a search that is synchronous alone."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int = 3) -> list[Document]:
        return [
            Document(f"Of {query} much is known.", id=f"{query} {n}", metadata={"title": f"Volume {n}", "score": 1 / n})
            for n in range(1, k + 1)
        ]


def chatml(messages: Sequence[dict[str, str]]) -> str:
    """Render messages in ChatML, open for the assistant."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return f"{turns}<|im_start|>assistant\n"


class FakeServer(Loopback):
    """Serves the model of `go_on` on loopback in the manner of vLLM or of llama.cpp; also a context manager.

    `requests` records (path, body, headers) of everything asked. `faults` maps the end of a path to an iterator of
    faults, one for each request to it: a status, or one of "429 soon", "sleep", "cut", "json", "empty", "null", "html".
    """

    def __init__(
        self, pattern: str = "R", style: Literal["vllm", "llama"] = "vllm", p_retrieve: float = 0.75, port: int = 0
    ) -> None:
        self.pattern, self.style, self.p_retrieve = pattern, style, p_retrieve
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.faults: dict[str, Iterator[str]] = {}
        self.models = [MODEL]
        self.vocabulary: list[str] = []
        super().__init__(_Handler, "fake", port)
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def sent(self, end: str) -> list[dict[str, Any]]:
        """Return the bodies of the requests whose path ends in `end`."""
        return [body for path, body, _ in self.requests if path.endswith(end)]

    def respond(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a request, None for a path that this kind of server has not."""
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
        if path == "/v1/completions":
            return self._complete(body)
        if path == "/v1/chat/completions":
            return self._chat(body)
        if path == "/apply-template" and self.style == "llama":
            return {"prompt": chatml(body["messages"])}
        if path == "/tokenize":
            text = chatml(body["messages"]) if "messages" in body else body.get("prompt", body.get("content", ""))
            return {"tokens": [self._number(token) for token in _tokens(text)]}
        if path == "/detokenize":
            return {("prompt" if self.style == "vllm" else "content"): "".join(map(self._word, body["tokens"]))}
        return None

    def _number(self, token: str) -> int:
        if token not in self.vocabulary:
            self.vocabulary.append(token)
        return self.vocabulary.index(token)

    def _word(self, number: int) -> str:
        return self.vocabulary[number]

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt: str = body["prompt"][0] if isinstance(body["prompt"], list) else body["prompt"]
        transcript = prompt.rpartition("<|im_start|>assistant\n")[2]
        if transcript.endswith(FINAL):
            reply = FINAL_TEXT
        else:
            reply = go_on(self.pattern, parse(transcript, ""))
            reply = reply.removeprefix(ANSWER) if transcript.endswith(ANSWER) else reply
        text, finish = _cut(reply, body.get("stop") or [], body.get("max_tokens", 16))
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        if body.get("logprobs"):
            choice["logprobs"] = self._logprobs(text)
        return {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": MODEL,
            "choices": [choice],
            "usage": _usage(prompt, text),
        }

    def _logprobs(self, text: str, *, chat: bool = False) -> dict[str, Any]:
        tokens = _tokens(text)
        likely = {"Let": math.log(self.p_retrieve), "Inter": math.log(1 - self.p_retrieve)}
        tops = [likely if token in ("Let's", "Intermediate") else {token: 0.0} for token in tokens]
        if self.style == "vllm" and not chat:
            return {"tokens": tokens, "token_logprobs": [0.0] * len(tokens), "top_logprobs": tops, "text_offset": []}
        content = [
            {"token": token, "logprob": 0.0, "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()]}
            for token, top in zip(tokens, tops, strict=True)
        ]
        return {"content": content}

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        contents = [message["content"] for message in body["messages"]]
        last = max(n for n, content in enumerate(contents) if "Question: " in content)
        turns = [re.sub(r"\n?Go on.*", "", content).strip() for content in contents[last + 1 :]]
        turns += [ANSWER] if contents[-1].endswith(f'"{ANSWER}"') else []
        if contents[-1].endswith(f'"{FINAL}"'):
            reply = FINAL + FINAL_TEXT
        else:
            reply = go_on(self.pattern, parse("\n".join(turns), ""))
        text, finish = _cut(
            reply, body.get("stop") or [], body.get("max_completion_tokens", body.get("max_tokens", 1000))
        )
        message = {"role": "assistant", "content": text}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
        if body.get("logprobs"):
            choice["logprobs"] = self._logprobs(text, chat=True)
        return {
            "id": "chat-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [choice],
            "usage": _usage("\n".join(contents), text),
        }


def _tokens(text: str) -> list[str]:
    return re.findall(r"\n| *[^\s<]+|<\|\w+\|>| +|<|\s", text)


def _cut(text: str, stops: Sequence[str], limit: int) -> tuple[str, str]:
    """Return the text as a server sends it, without the stop string that ended it, and why it ended."""
    end = min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))
    tokens = _tokens(text[:end])
    return "".join(tokens[:limit]), "length" if len(tokens) > limit else "stop"


def _usage(prompt: str, text: str) -> dict[str, int]:
    asked, written = len(_tokens(prompt)), len(_tokens(text))
    return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    fake: FakeServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any]) -> None:
        self.fake.requests.append((self.path, body, {k.lower(): v for k, v in self.headers.items()}))
        fault = next((next(f, "") for end, f in self.fake.faults.items() if self.path.endswith(end)), "")
        status = int(fault[:3]) if fault[:3].isdigit() else 200
        if fault == "sleep":
            self.fake.awake.wait(30)
        if status != 200:
            extra = {"Retry-After": "0.01"} if fault == "429 soon" else {}
            self._send(status, json.dumps({"error": {"message": SAID[status], "code": status}}), extra)
        elif fault == "cut":
            self._send(200, '{"choices": [', {"Content-Length": "1000"})
            # a reset rather than an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif fault in ("json", "html"):
            kind = {"Content-Type": "text/html"} if fault == "html" else {}
            self._send(200, "<html>A proxy's page</html>" if fault == "html" else '{"choices": [', kind)
        else:
            reply = self.fake.respond(self.path, body)
            if reply is None:
                self._send(404, json.dumps({"detail": "Not Found"}))
                return
            if fault in ("empty", "null"):
                reply["choices"] = [] if fault == "empty" else None
            self._send(200, json.dumps(reply))

    def _send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        sent = {"Content-Type": "application/json", "Content-Length": str(len(data))} | (headers or {})
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def free_address() -> str:
    """Return an address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


@contextmanager
def mortal_server(url: str = "") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the server in a process that can be killed with all of its connections; at `url` where one is given."""
    port = url.rpartition(":")[2].removesuffix("/v1") or "0"
    arguments = [sys.executable, "-m", "tests.fake_server", "RP", port]
    root = Path(__file__).parents[1]
    server = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), server
    finally:
        server.kill()
        server.communicate()


if __name__ == "__main__":  # python -m tests.fake_server PATTERN PORT: one that can be killed; prints its address
    with FakeServer(sys.argv[1], port=int(sys.argv[2])) as running:
        sys.stdout.write(f"{running.url}\n")
        sys.stdout.flush()
        sys.stdin.read()
