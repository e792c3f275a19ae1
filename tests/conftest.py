"""Hypothesis profiles: a fast one at the desk, a thorough one with `HYPOTHESIS_PROFILE=ci`; both report their cases."""

import os
import re
import signal

import pytest
from hypothesis import HealthCheck, settings

_SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("fast", max_examples=40, deadline=None, suppress_health_check=_SLOW_DATA)
settings.register_profile("ci", max_examples=300, deadline=None, suppress_health_check=_SLOW_DATA, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A shell has what it runs in the background ignore Ctrl-C, and processes inherit that; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases Hypothesis generated and passed in this run."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    statistics = [report._hypothesis_stats for report in reports if hasattr(report, "_hypothesis_stats")]
    cases = sum(int(count) for text in statistics for count in re.findall(r"(\d+) passing", text))
    if statistics:
        terminalreporter.write_line(f"Hypothesis: {cases:,} cases of {len(statistics)} properties")
