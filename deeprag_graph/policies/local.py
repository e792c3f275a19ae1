"""The local policy: a small real model on this machine, fetched once, with nothing to start and no key."""

from pathlib import Path

from deeprag_graph.errors import DeepRAGError, ModelUnreachableError, OperatorError
from deeprag_graph.policies.completion import CompletionPolicy
from deeprag_graph.policies.llama_server import LlamaServer
from deeprag_graph.policies.weights import fetch
from deeprag_graph.prompts import DEMONSTRATIONS

SLOTS = 4  # each has a context of its own in memory, 235 MB with the default model


class LocalPolicy(CompletionPolicy):
    """Continues the transcript with a GGUF model that llama.cpp serves to this process alone.

    The model was not tuned on the transcript, so the format is demonstrated to it.

    Args:
        model: a name in `weights.MODELS`, the path of a GGUF file, or None for the default model.
        parallel: questions answered at a time, 4 at most, as each takes memory of its own (235 MB with the default
            model); whoever asks more at a time waits for the server.
        progress: show a progress bar while the weights are fetched, the first time.

    Raises:
        OperatorError: no llama.cpp (the extra `local`), no weights, or a file that is not a model.
    """

    unreachable = "its llama.cpp process has ended; make the policy anew, or run the command again"
    passages = 1  # given three, so small a model tends to answer from the last one

    def __init__(self, model: str | Path | None = None, *, parallel: int = 1, progress: bool = True) -> None:
        self.server = LlamaServer(fetch(model, progress), parallel=min(parallel, SLOTS))
        # a small machine may take minutes over a long prompt; the episode's own budget is what bounds it
        super().__init__(base_url=self.server.base_url, api_key="none", demonstrations=DEMONSTRATIONS, timeout=600.0)

    def close(self) -> None:
        """Stop the server; otherwise it stops with this process."""
        self.server.close()

    def _explain(self, error: Exception) -> DeepRAGError:
        explained = super()._explain(error)
        # this server does not come back, so nobody shall wait for it
        return OperatorError(str(explained)) if isinstance(explained, ModelUnreachableError) else explained
