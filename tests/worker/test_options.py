"""What a job's options say of its args must be true of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from quarterjack import Unique
from quarterjack_worker import DefaultSchedule, JobTypeInvalid, job, new_job
from quarterjack_worker.handlers.registry import REGISTRY

NIGHTLY = DefaultSchedule(name="nightly", cron="@daily")


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@dataclass
class Poll:
    tenant: str
    device: str = ""


class Device(BaseModel):
    name: str = Field(
        validation_alias=AliasChoices("host", "hostName"), serialization_alias="hostName"
    )
    login: dict[str, str] = {}


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    tenant: str = ""


def taking(kind: Any) -> Callable[..., None]:
    def take(args: Any) -> None:
        """Take it."""

    take.__annotations__["args"] = kind
    return take


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (
            Poll,
            {"unique": Unique(keys=("tennant",))},
            "unique names 'tennant', .* args: device, tenant",
        ),
        (
            Device,
            {"unique": Unique(keys=("name",))},
            "unique names 'name', .* args: host, hostName, login",
        ),
        (Poll, {"redacted": ("pin",)}, "redacted names 'pin'"),
        (Poll, {"schedule": NIGHTLY}, "gives no args, and it needs tenant: give them defaults"),
    ],
)
def test_what_is_not_so_of_its_args_is_refused(
    kind: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobTypeInvalid, match=said):
        job("take", **options)(taking(kind))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Device, {"unique": Unique(keys=("hostName",)), "redacted": ("login.pin",)}),
        (Open, {"unique": Unique(keys=("anything",)), "schedule": NIGHTLY}),
        (Poll | Device, {"unique": Unique(keys=("device",))}),
        (dict[str, Any], {"redacted": ("pin",), "schedule": NIGHTLY}),
        (Poll, {"redacted": ("pin",), "recorded": True}),
    ],
)
def test_what_may_be_so_is_taken(kind: Any, options: dict[str, Any]) -> None:
    take = job("take", **options)(taking(kind))

    assert new_job(take, {"tenant": "a", "hostName": "h"}).worker == "take"
