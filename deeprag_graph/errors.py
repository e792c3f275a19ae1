"""The exceptions of the package: one root, one class for each boundary that can fail."""


class DeepRAGError(Exception):
    """Root of every exception that this package raises on purpose; its text is one sentence for a person."""


class OperatorError(DeepRAGError, ValueError):
    """Something only the operator can mend: a wrong flag, no index, no server. The sentence says what to do."""


class PolicyError(DeepRAGError):
    """A model call that gave no completion: timeout, 429, 5xx, a connection cut half-way."""


class RetrievalError(DeepRAGError):
    """A search that gave no passages although the index is there: a server that failed, a damaged segment."""


class AwayError(DeepRAGError):
    """A server that may come back: bulk runs wait for it and go on, anything else takes it for what else it is."""


class ModelUnreachableError(AwayError, OperatorError):
    """No model server answers at the address."""


class ModelUnavailableError(AwayError, PolicyError):
    """A model server that broke off a call, or is there and not ready: 502, 503, 504."""


class SearchUnavailableError(AwayError, RetrievalError):
    """An index server that does not answer, or is there and not ready."""
