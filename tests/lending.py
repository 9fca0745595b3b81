"""A module that makes jobs of what other modules have written, for tests that run them in real workers."""

from quarterjack_worker import job
from tests.process_handlers import show

job("lent", process=True)(show)
