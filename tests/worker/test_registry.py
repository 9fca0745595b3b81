"""What can be a job, and how a mistake is told."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Annotated, Any, Literal, Protocol

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict

from quarterjack.cron import CronError
from quarterjack.errors import JobInvalid
from quarterjack.new_job import NewJob, Options
from quarterjack_worker import Context, DefaultSchedule, JobTypeInvalid, job, middleware, new_job
from quarterjack_worker.handlers.backoff import default
from quarterjack_worker.handlers.registry import REGISTRY


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    before = dict(REGISTRY)
    REGISTRY.clear()
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@dataclass
class Report:
    month: str
    copies: int = 1


class Typed(TypedDict):
    month: str


class Model(BaseModel):
    month: str


class Telling(Protocol):
    def warn(self, text: str) -> None: ...


async def alone_in_the_world(context: Context) -> None:
    """Know nothing of what comes next."""


def test_a_renamed_job_keeps_its_old_name_beside_the_new_one() -> None:
    @job("old_name")
    @job("new_name", queue="q")
    def report() -> None: ...

    made = new_job(report)

    assert (made.worker, made.queue) == ("new_name", "q")
    assert REGISTRY["old_name"].handler is REGISTRY["new_name"].handler is report


def test_all_that_a_job_may_be_given_is_known_to_type_checkers() -> None:
    known = {field.name: field.type for field in fields(NewJob)}

    assert {"worker": str, "args": Mapping[str, Any], **Options.__annotations__} == known


@pytest.mark.parametrize("type", [Report, Typed, Model])
def test_the_type_of_the_args_becomes_a_schema(type: Any) -> None:
    def report(args: Any) -> None:
        """Send it."""

    report.__annotations__["args"] = type
    job("report")(report)

    described = REGISTRY["report"].registration()
    assert described.args_schema["properties"]["month"]["type"] == "string"
    assert described.description == "Send it."


def test_args_without_a_type_are_an_object() -> None:
    @job("anything")
    def anything(args) -> None:  # type: ignore[no-untyped-def] # what a newcomer writes
        """Take anything."""

    assert REGISTRY["anything"].registration().args_schema["type"] == "object"


class Letter(BaseModel):
    sender: str = Field("nobody", alias="from")


class Exact(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    at: datetime

    @computed_field  # type: ignore[prop-decorator] # as pydantic has it
    @property
    def year(self) -> int:
        return self.at.year


@pytest.mark.parametrize(
    "args", [Letter.model_validate({"from": "ana"}), Exact(at=datetime(2026, 11, 28, tzinfo=UTC))]
)
def test_what_is_stored_of_a_model_gives_the_model_again(args: BaseModel) -> None:
    def take(args: Any) -> None:
        """Take it."""

    take.__annotations__["args"] = type(args)
    job("take")(take)

    assert REGISTRY["take"].read(new_job(take, args).args) == args


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"priority": 11}, "priority"),
        ({"queue": ""}, "queue"),
        ({"timeout": timedelta(0)}, "timeout"),
        ({"timeout": 5}, "timeout is 5; give a timedelta"),
        ({"timeout": timedelta.max}, "timeout"),
        ({"tags": "mail"}, "tags are 'mail': give a list"),
        ({"unique": True}, "unique is True: give a Unique"),
        ({"schedule": "@daily"}, "give a DefaultSchedule"),
        ({"redacted": "password"}, "redacted is 'password'; give a list"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(JobTypeInvalid, match=said):
        job("bad", **options)(lambda: None)


def test_a_taken_name_is_refused() -> None:
    first, again = [lambda: None for _ in range(2)]
    again.__module__ = "shop.jobs"
    job("one")(first)

    with pytest.raises(JobTypeInvalid, match=r"has this name already; choose another$"):
        job("one")(alone_in_the_world)
    with pytest.raises(JobTypeInvalid, match="import its file by one name alone"):
        job("one")(again)


def test_args_that_are_no_object_are_refused() -> None:
    def listed(args: list[int]) -> None:
        """Take a list."""

    with pytest.raises(JobTypeInvalid, match="array"):
        job("listed")(listed)


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(JobTypeInvalid, match=r"\(args, context\)"):
        job("three")(lambda a, b, c: None)


def test_the_context_comes_after_the_args() -> None:
    def swapped(context: Context, args: Report) -> None:
        """Take them the other way round."""

    with pytest.raises(JobTypeInvalid, match=r"\(args, context\) or \(context: Context\)"):
        job("swapped")(swapped)


def test_a_handler_that_takes_only_the_context_has_any_args() -> None:
    @job("alone")
    def alone(context: Context) -> None:
        """Take the context."""

    assert REGISTRY["alone"].registration().args_schema["type"] == "object"
    assert new_job(alone, {"month": "2026-11"}).args == {"month": "2026-11"}


@pytest.mark.parametrize(
    "annotation", [Context | None, Annotated[Context, "this attempt"], Telling, object, Any]
)
def test_the_context_may_be_called_by_another_type(annotation: Any) -> None:
    def tell(args: Report, context: Any = None) -> None:
        """Tell."""

    tell.__annotations__["context"] = annotation
    job("tell")(tell)

    assert REGISTRY["tell"].takes == slice(2)


@pytest.mark.parametrize("annotation", [int, int | None, dict[str, int], Report])
def test_what_is_not_the_context_is_refused_where_that_is_given(annotation: Any) -> None:
    def retry(args: Report, times: Any = None) -> None:
        """Expect a default to hold."""

    retry.__annotations__["times"] = annotation

    with pytest.raises(JobTypeInvalid, match="takes as times is its Context"):
        job("retry")(retry)


def test_a_context_alone_may_be_left_out_where_the_handler_is_called() -> None:
    @job("alone")
    def alone(context: Context | None = None) -> None:
        """Take it if there is one."""

    assert REGISTRY["alone"].takes == slice(1, 2)


class Office:
    def send(self, args: Report) -> None:
        """Send it."""

    @staticmethod
    async def by_hand(args: Report) -> None:
        """Send it without an office."""


def test_a_static_method_is_a_function() -> None:
    job("by_hand")(vars(Office)["by_hand"])

    assert REGISTRY["by_hand"].is_async
    assert new_job(Office.by_hand, Report("2026-11")).worker == "by_hand"


def test_a_method_is_refused_but_with_its_object() -> None:
    office = Office()

    with pytest.raises(JobTypeInvalid, match="no object to call it on"):
        job("unbound")(Office.send)

    job("bound")(office.send)
    assert new_job(office.send, Report("2026-11")).worker == "bound"


def test_a_job_without_a_name_is_refused() -> None:
    unnamed: Any = job

    with pytest.raises(JobTypeInvalid, match=r'write @job\("its_name"\)'):
        unnamed(lambda: None)


def test_middleware_that_cannot_be_called_is_refused() -> None:
    layer: Any = alone_in_the_world

    with pytest.raises(JobTypeInvalid, match="must take \\(context, next\\)"):
        middleware(layer)


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


def test_what_an_annotation_says_of_a_union_is_heeded() -> None:
    @job("pet")
    def pet(args: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None:
        """Pet it."""

    with pytest.raises(JobInvalid, match="tag 'cow' found using 'kind'"):
        new_job(pet, {"kind": "cow"})


def test_the_class_of_the_args_is_none_of_them() -> None:
    def send(args: Report) -> None:
        """Send it."""

    job("send")(send)

    with pytest.raises(JobInvalid, match=r"args are the class Report: give Report\(…\)"):
        new_job(send, Report)


def test_bytes_that_are_no_text_are_told() -> None:
    @dataclass
    class Raw:
        body: bytes

    def send(args: Any) -> None:
        """Send it."""

    send.__annotations__["args"] = Raw
    job("send")(send)

    with pytest.raises(JobInvalid, match="decode byte"):
        new_job(send, Raw(b"\xff"))


def test_a_type_that_says_nothing_of_its_parameters_is_refused() -> None:
    with pytest.raises(JobTypeInvalid, match="no signature"):
        job("odd")(max)


@pytest.mark.parametrize("handler", [partial(print), 5, Report, Office])
def test_what_is_no_function_is_refused(handler: Any) -> None:
    with pytest.raises(JobTypeInvalid, match="is no function"):
        job("odd")(handler)


def steps() -> Iterator[int]:
    yield 1


async def more_steps() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "handler", [steps, more_steps, contextmanager(steps), asynccontextmanager(more_steps)]
)
def test_a_handler_that_yields_is_refused(handler: Any) -> None:
    with pytest.raises(JobTypeInvalid, match="it yields"):
        job("steps")(handler)


def test_a_decorator_may_run_what_yields_and_a_context_manager_may_be_one() -> None:
    @wraps(steps)
    def counted() -> int:
        return sum(steps())

    job("counted")(counted)
    job("within")(contextmanager(steps)()(alone_in_the_world))


@pytest.mark.parametrize("name", ["", "two words", "x" * 128, "-x", "x\n"])
def test_a_schedule_name_that_the_table_refuses_is_told_at_once(name: str) -> None:
    with pytest.raises(JobTypeInvalid, match="schedule's name"):
        DefaultSchedule(name=name, cron="* * * * *")


def test_a_default_schedule_is_checked_where_it_is_written() -> None:
    with pytest.raises(CronError, match="61"):
        DefaultSchedule(name="x", cron="61 * * * *")


@pytest.mark.parametrize(
    ("attempt", "max_attempts", "least"),
    [(1, 20, 17), (5, 20, 47), (20, 20, 2**20), (50, 100, 1039)],
)
def test_a_failed_job_waits_as_in_oban(attempt: int, max_attempts: int, least: int) -> None:
    assert default(attempt, max_attempts) in (least, least + 15)
