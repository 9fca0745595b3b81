"""Mixed load and random faults for as many minutes as asked (F29, F43): what grows, grows for ever.

A scheduler and a worker, the witnesses, are never ended, so that what they hold can be compared.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from quarterjack.database import LOST
from tests.conftest import TestDatabase
from tests.faults.arena import Replica
from tests.faults.crew import Crew, child_of, children_of, crew, signal_node
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.soak]
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'quarterjack-% ' || $1 || '%'"
SOME_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'quarterjack-%' AND random() < 0.5
"""
TASKS = "SELECT (meta -> 'result')::integer FROM oban_jobs WHERE id = $1"
LOCKS = (
    "SELECT FROM qj_schedules FOR UPDATE",
    "SELECT FROM qj_lease FOR UPDATE",
    "LOCK TABLE oban_jobs",
)
WITNESSES = "scheduler-1", "witness"
GROWTH = 1.1
BOUNDS = {"threads of the worker": 50}
"""As many as its two queues may use, and its own, come as they are needed, and stay."""


@pytest.mark.timeout(0)
async def test_f29_nothing_grows(
    own_server_database: TestDatabase, tmp_path: Path, seed: int, request: pytest.FixtureRequest
) -> None:
    minutes: float = request.config.option.soak
    async with crew(own_server_database, tmp_path, seed=seed, schedulers=2) as all:
        witness = await all.hire("witness", queue="default=20,witness")
        for name in ("worker-1", "worker-2"):
            await all.hire(name)
        done: Counter[str] = Counter()
        samples: list[dict[str, float]] = []
        end = asyncio.get_running_loop().time() + 60 * minutes
        async with all.load():
            await all.field.pass_time(15.0)
            while asyncio.get_running_loop().time() < end:
                for _ in range(5):
                    name = all.field.dice.choice(sorted(FAULTS))
                    async with asyncio.timeout(120), all.field.trouble(name):
                        await FAULTS[name](all)
                    done[name] += 1
                    await all.field.decides()
                await all.field.all_started()
                await all.field.pass_time(5.0)
                samples.append(await _sample(all, witness))
                all.field.diary.note("sample", "ok", held=samples[-1])
        executions = await all.verify()
    print(
        f"\n{minutes:g} min, {sum(done.values())} faults, {len(executions)} executions: {dict(done)}"
    )
    third = max(1, len(samples) // 3)
    grown = []
    for what in samples[0]:
        early = max(each[what] for each in samples[:third])
        late = min(each[what] for each in samples[-third:])
        print(f"{what}: {early:g} at most in the first third, {late:g} at least in the last one")
        grown += [what] if late > max(early * GROWTH, BOUNDS.get(what, 0)) else []
    assert not grown


async def _sample(all: Crew, witness: Replica) -> dict[str, float]:
    """What the witnesses hold."""
    [id] = await all.enqueue("census", queue="witness")
    tasks = await until(partial(all.field.ask, TASKS, id), within=20.0)
    pids = {"scheduler": all.field.replicas["scheduler-1"].service.pid, "worker": child_of(witness)}
    sample: dict[str, float] = {"tasks of the worker": tasks or 0}
    for (who, pid), node in zip(pids.items(), WITNESSES, strict=True):
        sample |= {f"{what} of the {who}": held for what, held in _held_by(pid).items()}
        sample[f"sessions of the {who}"] = await all.field.ask(SESSIONS, node) or 0
    return sample


def _held_by(pid: int) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "MB": int(status.partition("VmRSS:")[2].split()[0]) / 1024,
        "threads": int(status.partition("Threads:")[2].split()[0]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def _someone(all: Crew, kind: str) -> Replica:
    """One that is no witness."""
    living = [
        each
        for each in all.field.replicas.values()
        if each.service.running and each.name.startswith(kind) and each.name not in WITNESSES
    ]
    return all.field.dice.choice(living)


async def _kills_a_process(all: Crew) -> None:
    """One that has begun: a supervisor does not repeat one that cannot begin."""
    victim = _someone(all, "worker")
    await until(partial(_has_begun, victim), within=30.0)
    os.kill(child_of(victim), signal.SIGKILL)


async def _has_begun(worker: Replica) -> bool:
    """Say whether the latest life of the process has started."""
    lives = [line for line in worker.service.lines if " started" in line or "starting a" in line]
    return " started" in lives[-1] and bool(children_of(worker))


async def _loses_a_machine(all: Crew) -> None:
    victim = _someone(all, "worker")
    signal_node(victim, signal.SIGKILL)
    await victim.service.process.wait()
    await all.hire(f"worker-{len(all.field.replicas)}")


async def _deploys(all: Crew) -> None:
    victim = _someone(all, "worker")
    await all.hire(f"worker-{len(all.field.replicas)}")
    assert await victim.service.stop(within=20.0) == 0


async def _stops_a_worker(all: Crew) -> None:
    victim = _someone(all, "worker")
    signal_node(victim, signal.SIGSTOP)
    await all.field.pass_time(all.field.dice.uniform(0.5, 9.0))
    signal_node(victim, signal.SIGCONT)


async def _kills_a_scheduler(all: Crew) -> None:
    await _someone(all, "scheduler").service.kill()
    await all.field.start(f"scheduler-{len(all.field.replicas)}")


async def _cuts_off_a_worker(all: Crew) -> None:
    victim = _someone(all, "worker")
    way = all.field.dice.choice(("silent", "deaf"))
    setattr(victim.proxy, way, True)
    await all.field.pass_time(all.field.dice.uniform(0.5, 8.0))
    setattr(victim.proxy, way, False)


async def _cuts_replies(all: Crew) -> None:
    for replica in all.field.replicas.values():
        replica.proxy.cut_chance = 0.03
    await all.field.pass_time(all.field.dice.uniform(1.0, 6.0))
    for replica in all.field.replicas.values():
        replica.proxy.cut_chance = 0.0


async def _ends_sessions(all: Crew) -> None:
    for _ in range(3):
        await all.field.ask(SOME_SESSIONS)
        await all.field.pass_time(all.field.dice.uniform(0.2, 1.0))


async def _half_opens_listeners(all: Crew) -> None:
    for replica in all.field.replicas.values():
        replica.proxy.forget(b"listener")


async def _crashes_the_server(all: Crew) -> None:
    server = all.field.database.server
    await asyncio.to_thread(server.stop, "immediate")
    await all.field.pass_time(all.field.dice.uniform(0.0, 3.0))
    await asyncio.to_thread(server.start)


async def _locks(all: Crew) -> None:
    with suppress(*LOST):
        async with all.field.database.pool.acquire(timeout=5.0) as person, person.transaction():
            await person.execute(all.field.dice.choice(LOCKS))
            await all.field.pass_time(3.0)


async def _blocks_a_loop(all: Crew) -> None:
    with suppress(*LOST):
        await all.enqueue("block", seconds=3.0)


FAULTS: dict[str, Callable[[Crew], Awaitable[None]]] = {
    "kills a process": _kills_a_process,
    "loses a machine": _loses_a_machine,
    "deploys": _deploys,
    "stops a worker": _stops_a_worker,
    "kills a scheduler": _kills_a_scheduler,
    "cuts off a worker": _cuts_off_a_worker,
    "cuts replies": _cuts_replies,
    "ends sessions": _ends_sessions,
    "half opens listeners": _half_opens_listeners,
    "crashes the server": _crashes_the_server,
    "locks": _locks,
    "blocks a loop": _blocks_a_loop,
}
