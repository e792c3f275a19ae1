"""Hypothesis profiles: a fast one at the desk, a thorough one with `HYPOTHESIS_PROFILE=ci`; both report their cases.

And the server that the tests of Studio share.
"""

import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("fast", max_examples=40, deadline=None, suppress_health_check=_SLOW_DATA)
settings.register_profile("ci", max_examples=300, deadline=None, suppress_health_check=_SLOW_DATA, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A shell has what it runs in the background ignore Ctrl-C, and processes inherit that; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a client of the API server that Studio talks to, with the graphs of langgraph.json."""
    from tests.studio_server import studio_server  # takes a second to import

    with studio_server(tmp_path_factory.mktemp("server")) as client:
        yield client


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases Hypothesis generated and passed in this run."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    statistics = [report._hypothesis_stats for report in reports if hasattr(report, "_hypothesis_stats")]
    cases = sum(int(count) for text in statistics for count in re.findall(r"(\d+) passing", text))
    if statistics:
        terminalreporter.write_line(f"Hypothesis: {cases:,} cases of {len(statistics)} properties")
