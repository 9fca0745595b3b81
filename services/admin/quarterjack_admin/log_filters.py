"""Filters of what aiohttp and asyncio say so often that whoever reaches the port could fill the log."""

import logging
import math

from aiohttp.http_exceptions import HttpProcessingError

from quarterjack.clock import boot

SAID_EVERY = 10.0


def is_of_a_request(record: logging.LogRecord) -> bool:
    """Drop what aiohttp says of bytes that are no request: whoever reaches the port could fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class FullPort:
    """Says every ten seconds that a port takes no more connections; asyncio says it hundreds of times in one."""

    def __init__(self) -> None:
        self._said_at = -math.inf

    def __call__(self, record: logging.LogRecord) -> bool:
        """Drop a record that was said just before, and put another of its kind into words."""
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        if boot() - self._said_at < SAID_EVERY:
            return False
        self._said_at = boot()
        record.msg = "no more connections are taken: too many files are open (ulimit -n)"
        record.args, record.exc_info = (), None
        return True
