"""What args lose on their way through JSON, though what is left of them is valid."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from pydantic import BaseModel


def lost(given: object, taken: object, path: str = "args") -> str | None:
    """Say how the first field comes to a handler that does not come as it was given; None if all do.

    Another type of the same value is no loss: a list for a tuple, or an enum for its text.
    """
    if given == taken:
        return None
    parts = list(_parts(given, taken))
    if parts:
        found = (lost(one, other, _join(path, name)) for name, one, other in parts)
        return next((loss for loss in found if loss), None)
    if isinstance(given, BaseModel) or is_dataclass(given):
        named = isinstance(taken, BaseModel) or is_dataclass(taken)
        kinds = f"{type(given).__name__} would come as {type(taken).__name__}"
        return f"{path}: a {kinds}" if named and type(given) is not type(taken) else None
    comparable = type(given).__eq__ is not object.__eq__ and type(given) is type(taken)
    changed = comparable or taken is None
    return f"{path}: it would come with another value" if changed else None


def _parts(given: object, taken: object) -> Iterator[tuple[object, object, object]]:
    """Give the name of each part that both have, and the two."""
    if isinstance(given, Mapping) and isinstance(taken, Mapping):
        yield from ((key, given[key], taken[key]) for key in given if key in taken)
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        if len(given) == len(taken):
            yield from ((place, *both) for place, both in enumerate(zip(given, taken, strict=True)))
    elif type(given) is type(taken):
        for name in _fields(given):
            yield name, getattr(given, name, None), getattr(taken, name, None)


def _fields(value: object) -> list[str]:
    if isinstance(value, BaseModel):
        return [*type(value).model_fields, *(value.model_extra or ())]
    if is_dataclass(value):
        return [field.name for field in fields(value)]
    return []


def _join(path: str, name: object) -> str:
    return str(name) if path == "args" else f"{path}.{name}"
