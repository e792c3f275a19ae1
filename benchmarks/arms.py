"""What the benchmarks of calls a second share: loads, a bare client that replays requests, what the server has used."""

import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import openai

PASSAGE = " ".join(["The Heron Pond is an oil painting of 1881 by Marta Lindqvist of Ostervik."] * 8)  # DPR: 100 words
_CALL = ("model", "prompt", "max_tokens", "temperature", "stop", "logprobs")

Request = dict[str, Any]


class Load(NamedTuple):
    """How many at once, and how long the server takes for a call."""

    at_once: int
    seconds: float

    @classmethod
    def read(cls, text: str) -> "Load":
        at_once, seconds = text.split(":")
        return cls(int(at_once), float(seconds))

    def base_url(self, root: str) -> str:
        """Return the address at which a fake server answers that slowly."""
        return f"{root}/{self.seconds * 1000:g}ms/v1"


def openai_client(base_url: str) -> openai.AsyncOpenAI:
    """Return the client as it comes."""
    return openai.AsyncOpenAI(base_url=base_url, api_key="none")


def aiohttp_client(base_url: str) -> openai.AsyncOpenAI:
    """Return the client with the transport that the policy uses."""
    return openai.AsyncOpenAI(base_url=base_url, api_key="none", http_client=openai.DefaultAioHttpClient())


def replay(client: openai.AsyncOpenAI) -> Callable[[Request], Awaitable[None]]:
    """Return a function that sends a recorded request as an application without a graph would."""

    async def send(request: Request) -> None:
        options = {name: value for name, value in request.items() if name in _CALL}
        options["prompt"] = request["prompt"][0]  # LangChain sends a list of one, which is dearer to check
        extra = {name: value for name, value in request.items() if name not in _CALL}
        response = await client.completions.create(**options, extra_body=extra, timeout=120.0)
        assert response.choices[0].text

    return send


class Probe:
    """Asks a fake server what it has done."""

    def __init__(self, client: httpx.Client, root: str) -> None:
        self._client, self._root = client, root

    def used(self) -> tuple[float, int]:
        """Return the CPU seconds of the server so far, and the completions that it was asked for."""
        used = self._get("used")
        return used["cpu"], used["calls"]

    def record(self) -> None:
        """Have it keep the requests from here on."""
        self._get("record")

    def recorded(self) -> list[Request]:
        """Return what it has kept, in the order of arrival, and have it keep no more."""
        return list(self._get("recorded"))

    def _get(self, name: str) -> Any:
        return self._client.get(f"{self._root}/0ms/{name}").json()


@contextmanager
def probe(root: str) -> Iterator[Probe]:
    """Give a probe of the fake server at `root`."""
    with httpx.Client(timeout=120.0) as client:
        yield Probe(client, root)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the most."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}
