"""The job type that Quarterjack's worker runs in the benchmark."""

from typing import Any

from common import ran

from quarterjack_worker import job


@job("noop", queue="default")
async def noop(args: dict[str, Any]) -> None:
    """Do nothing."""
    ran(args.get("at"))
