"""The jobs that come with Quarterjack; `--import quarterjack_worker.jobs` brings them all."""

from quarterjack_worker.jobs import refresh_trace_summaries

__all__ = ["refresh_trace_summaries"]
