"""The supervisor, on small stand-in processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from quarterjack_local.privileges import command_line
from quarterjack_local.supervisor import (
    LONGEST_DELAY,
    STEADY_AFTER,
    Service,
    next_delay,
    stop_in_order,
)
from tests.waiting import until

OBEDIENT = "import signal, time; print('here', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {OBEDIENT}"
SUPERVISOR = """
import asyncio, functools, os, sys
from quarterjack_local.supervisor import Service
child = Service(role="worker", name="child", command=sys.argv[1:], env=os.environ)
asyncio.run(child.run(functools.partial(print, flush=True), lambda: print(child.pid, flush=True)))
"""


@dataclass
class Watch:
    """What a supervised service said, and each pid it had."""

    service: Service
    lines: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)

    def say(self, _: str, line: str) -> None:
        self.lines.append(line)

    def changed(self) -> None:
        if self.service.pid is not None:
            self.pids.append(self.service.pid)

    async def said(self, word: str, times: int = 1) -> None:
        async def heard() -> bool:
            return sum(word in line for line in self.lines) >= times

        await until(heard)

    async def running(self) -> bool:
        return self.service.pid is not None


def service(*command: str, role: str = "worker", grace: float = 4.0) -> Service:
    return Service(role=role, name=f"{role}-1", command=command, env=os.environ, grace=grace)


def python(code: str, role: str = "worker", grace: float = 4.0) -> Service:
    return service(sys.executable, "-c", code, role=role, grace=grace)


@asynccontextmanager
async def supervised(*services: Service) -> AsyncIterator[list[Watch]]:
    watches = [Watch(each) for each in services]
    async with asyncio.TaskGroup() as group:
        for watch in watches:
            group.create_task(watch.service.run(watch.say, watch.changed))
        try:
            yield watches
        finally:
            await stop_in_order(services, [each.role for each in services])


async def gone(pid: int) -> bool:
    return not command_line(pid).strip()


def test_the_wait_doubles_and_begins_anew_after_a_steady_life() -> None:
    assert next_delay(0.5, lived=1) == 1.0
    assert next_delay(LONGEST_DELAY, lived=1) == LONGEST_DELAY
    assert next_delay(LONGEST_DELAY, lived=STEADY_AFTER) == 0.5


async def test_a_killed_service_is_started_again() -> None:
    async with supervised(python(OBEDIENT)) as [watch]:
        await watch.said("here")
        os.kill(watch.pids[0], signal.SIGKILL)
        await watch.said("here", times=2)

        assert len(set(watch.pids)) == 2
        assert "ended with -9; starting again in 0.5 s" in watch.lines


async def test_a_service_that_keeps_dying_is_tried_ever_more_rarely() -> None:
    async with supervised(python("raise SystemExit(3)")) as [watch]:
        await watch.said("in 1.0 s")

        assert "ended with 3; starting again in 0.5 s" in watch.lines


async def test_children_of_a_killed_service_die_and_do_not_delay_the_next() -> None:
    with_child = service("sh", "-c", "sleep 600 & echo child $!; exec sleep 600")
    async with supervised(with_child) as [watch]:
        await watch.said("child")
        child = int(watch.lines[0].split()[1])
        os.kill(watch.pids[0], signal.SIGKILL)
        await watch.said("child", times=2)

        await until(lambda: gone(child))


async def test_a_child_in_its_own_session_does_not_delay_the_next() -> None:
    escaping = service("sh", "-c", "setsid sleep 600 & echo child $!; exec sleep 600")
    async with supervised(escaping) as [watch]:
        await watch.said("child")
        os.kill(watch.pids[0], signal.SIGKILL)
        await watch.said("child", times=2)

    for line in watch.lines:
        if line.startswith("child"):
            os.kill(int(line.split()[1]), signal.SIGKILL)


async def test_a_service_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    async with supervised(python(STUBBORN, grace=0.2)) as [watch]:
        await watch.said("here")
        async with asyncio.timeout(3):
            await watch.service.stop()

    assert await gone(watch.pids[0])


async def test_a_stop_does_not_wait_for_the_next_try() -> None:
    async with supervised(python("raise SystemExit(3)")) as [watch]:
        await watch.said("in 2.0 s")
        async with asyncio.timeout(1):
            await watch.service.stop()


async def test_a_stop_during_a_start_leaves_nothing_running() -> None:
    async with supervised(python(OBEDIENT)) as [watch]:
        async with asyncio.timeout(3):
            await watch.service.stop()

    assert all([await gone(pid) for pid in watch.pids])


async def test_roles_stop_one_after_another() -> None:
    ended: list[str] = []

    class Noting(Watch):
        def changed(self) -> None:
            if self.service.pid is None:
                ended.append(self.service.role)

    roles = ["admin", "scheduler", "worker"]
    services = [python(OBEDIENT, role=role) for role in reversed(roles)]
    async with asyncio.TaskGroup() as group:
        watches = [Noting(each) for each in services]
        for watch in watches:
            group.create_task(watch.service.run(watch.say, watch.changed))
        for watch in watches:
            await watch.said("here")
        await stop_in_order(services, roles)

    assert ended == roles


async def test_a_line_without_an_end_is_not_kept_in_memory() -> None:
    async with supervised(python("print('x' * 300_000, flush=True); print('after')")) as [watch]:
        await watch.said("too long to show")
        await watch.said("after")


@pytest.mark.linux
async def test_services_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    code = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (open({str(heard)!r}, 'w'), sys.exit()))"
    supervisor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SUPERVISOR, sys.executable, "-c", f"{code}; {OBEDIENT}"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    assert b"here" in await supervisor.stdout.readline()

    supervisor.kill()
    await supervisor.wait()

    await until(lambda: gone(pid))
    assert heard.exists()
