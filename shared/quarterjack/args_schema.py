"""Whether args are what a job type takes, by the JSON Schema that its workers registered."""

from collections.abc import Mapping
from typing import Any

import jsonschema
from referencing.exceptions import Unresolvable


def misfit(args: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """Say what the job type would not take; a schema that is none of ours is no obstacle."""
    try:
        validator = jsonschema.Draft202012Validator(dict(schema))
        problem = jsonschema.exceptions.best_match(validator.iter_errors(dict(args)))
    except (jsonschema.SchemaError, Unresolvable):
        return None
    if problem is None:
        return None
    where = ".".join(map(str, problem.absolute_path))
    return f"{where}: {problem.message}"[:500] if where else problem.message[:500]
