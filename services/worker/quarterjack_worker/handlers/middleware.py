"""What runs around every attempt of this worker."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.job_types import JobTypeInvalid

Next: TypeAlias = Callable[[], Awaitable[Any]]
Middleware: TypeAlias = Callable[[Context, Next], Awaitable[Any]]
Layer = TypeVar("Layer", bound=Middleware)

MIDDLEWARE: list[Middleware] = []


def middleware(layer: Layer) -> Layer:
    """Run `await layer(context, next)` around every attempt; what was registered first is outermost.

    `await next()` runs the attempt and gives what the handler returned, or raises what it raised. What the
    layer returns or raises counts as the handler's. It runs on the event loop, within the timeout of the job.
    """
    if not any(map(inspect.iscoroutinefunction, (layer, getattr(layer, "__call__", None)))):  # noqa: B004 - its kind
        raise JobTypeInvalid(f"middleware {layer!r:.80} is not async: write async def")
    try:
        inspect.signature(layer).bind("context", "next")
    except TypeError as error:
        raise JobTypeInvalid(
            f"middleware {layer!r:.80} must take (context, next): {error}"
        ) from error
    MIDDLEWARE.append(layer)
    return layer


def wrapped(layers: Sequence[Middleware], context: Context, attempt: Next) -> Next:
    """Put the layers around an attempt."""
    for layer in reversed(layers):
        attempt = partial(layer, context, attempt)
    return attempt
