"""Args that would reach their handler as others than were given are refused where they are given."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pytest
from pydantic import BaseModel, Field

from quarterjack.errors import JobInvalid
from quarterjack_worker import job, new_job


class Address(BaseModel):
    host: str


class Routed(Address):
    hop: str = ""


class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str


class Device(BaseModel):
    address: Address = Address(host="h")
    spare: list[Address] = []
    pet: Cat | Dog = Cat(name="c")
    renamed: int = Field(default=0, validation_alias="in", serialization_alias="out")
    hidden: str | None = Field(default=None, exclude=True)
    lock: object = Field(default_factory=object, exclude=True)


class Colour(Enum):
    RED = "red"


@dataclass
class Part:
    name: Literal["a", "b"]
    made_at: datetime = field(init=False, default=datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class Loose:
    recipients: list[str]
    colour: Colour = Colour.RED
    folder: Path = Path()
    copies: int = 1
    parts: tuple[Part, ...] = ()


Held = TypeVar("Held")


class Box(BaseModel, Generic[Held]):
    holds: Held


@dataclass
class Boxed:
    box: Box[int]
    names: list[str]


@dataclass(eq=False)
class Unequal:
    parts: list[int]


@pytest.fixture
def take() -> Any:
    @job("take_whole")
    def take(args: dict[str, Any]) -> None:
        """Take it."""

    def of(args: object) -> Any:
        take.__annotations__["args"] = type(args)
        return new_job(job("take_whole")(take), args).args

    return of


def aged() -> Loose:
    part = Part("a")
    part.made_at = datetime(2026, 1, 2, tzinfo=UTC)
    return Loose(["ana"], parts=(Part("b"), part))


@pytest.mark.parametrize(
    ("args", "place"),
    [
        (Device(address=Routed(host="h", hop="x")), "address: a Routed would come as Address"),
        (Device(spare=[Address(host="h"), Routed(host="h")]), r"spare\.1: a Routed would"),
        (Device.model_validate({"in": 5}), "renamed: it would"),
        (Device(hidden="x"), "hidden: it would come with another value"),
        (Device(pet=Dog(name="d")), "pet: a Dog would come as Cat"),
        (aged(), r"parts\.1\.made_at: it would"),
    ],
)
def test_a_field_that_would_be_lost_is_named(take: Any, args: object, place: str) -> None:
    with pytest.raises(JobInvalid, match=f"args of take_whole: {place}"):
        take(args)


@pytest.mark.parametrize(
    "args",
    [
        Device(),
        Loose(("ana", "bob"), "red", "a/b", "3"),  # type: ignore[arg-type] # what a type checker would tell
        Unequal([1, 2]),
        Boxed(Box(holds=1), ("a",)),  # type: ignore[arg-type] # a box of anything
    ],
)
def test_what_only_has_another_type_is_taken(take: Any, args: object) -> None:
    assert take(args)
