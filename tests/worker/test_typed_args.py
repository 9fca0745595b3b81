"""Args come to their handler as its type has them, in whatever form they are given."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr
from typing_extensions import TypedDict

import quarterjack
from quarterjack.database import Pool
from quarterjack.errors import JobInvalid
from quarterjack_worker import JobTypeInvalid, job, new_job
from quarterjack_worker.testing import drain, perform


class Due(TypedDict):
    at: datetime
    share: Decimal


DUE = Due(at=datetime(2026, 11, 29, tzinfo=UTC), share=Decimal("0.10"))
noted: list[Due] = []


@job("note_due")
def note_due(args: Due) -> None:
    """Note when it is due."""
    noted.append(args)


class Exact(BaseModel):
    model_config = ConfigDict(strict=True)

    at: datetime
    name: str
    copies: int


@job("print_exactly")
def print_exactly(args: Exact) -> None:
    """Print it."""


@job("take_anything")
def take_anything(args: dict[str, Any]) -> None:
    """Take anything."""


async def test_a_typed_dict_holds_what_its_type_says(quarterjack_pool: Pool) -> None:
    noted.clear()

    await perform(quarterjack_pool, note_due, DUE)
    await quarterjack.enqueue_many(quarterjack_pool, [new_job(note_due, DUE)])
    await drain(quarterjack_pool)

    assert noted == [DUE, DUE]


async def test_an_instant_that_would_come_as_a_text_is_refused(quarterjack_pool: Pool) -> None:
    with pytest.raises(JobInvalid, match="datetime is not JSON"):
        await perform(quarterjack_pool, take_anything, DUE)


INSTANT = DUE["at"].isoformat()


def test_of_a_strict_type_only_what_does_not_fit_is_named() -> None:
    with pytest.raises(JobInvalid) as refused:
        new_job(print_exactly, {"at": INSTANT, "name": "a", "copies": "many"})

    assert str(refused.value) == "args of print_exactly: copies: Input should be a valid integer"


def test_what_is_no_json_is_named_by_its_field() -> None:
    with pytest.raises(JobInvalid, match="copies: Input should be a valid integer"):
        new_job(print_exactly, {"at": INSTANT, "name": "a", "copies": {1}})


class Login(BaseModel):
    name: str
    password: SecretStr = SecretStr("")


def test_a_secret_that_would_be_stored_as_asterisks_is_refused() -> None:
    def log_in(args: Any) -> None:
        """Log in."""

    log_in.__annotations__["args"] = Login
    job("log_in")(log_in)

    with pytest.raises(JobInvalid, match="a secret would be stored"):
        new_job(log_in, Login(name="ana", password=SecretStr("hush")))
    assert new_job(log_in, Login(name="*" * 10)).args == {"name": "*" * 10, "password": ""}
    assert new_job(log_in, {"name": "ana", "password": "hush"}).args["password"] == "hush"


class Share(BaseModel):
    parts: int

    def model_post_init(self, _: Any) -> None:
        assert 100 // self.parts


@job("share", max_attempts=1)
def share(args: Share) -> None:
    """Share it."""


async def test_what_a_validator_raises_is_of_the_args(quarterjack_pool: Pool) -> None:
    with pytest.raises(JobInvalid, match="args of share: ZeroDivisionError"):
        new_job(share, {"parts": 0})

    done = await perform(quarterjack_pool, share, {"parts": 0})
    assert "ArgsInvalid: ZeroDivisionError" in done.errors[0]["error"]


def test_a_type_that_only_type_checkers_know_is_told() -> None:
    def send(args: Any) -> None:
        """Send it."""

    send.__annotations__["args"] = "Unknown"

    with pytest.raises(JobTypeInvalid, match="'Unknown' is not defined; define or import it"):
        job("send_unknown")(send)
