"""Our engine beside others and beside a loop without any framework: `./dev bench engine [quick] [part …]`.

One throw-away Postgres with fsync and synchronous_commit on; every figure of a row comes from the same run, in turns,
and is the median of its rounds. Each peer is installed into an environment of its own; one that cannot be is named.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Sequence
from dataclasses import fields
from statistics import median

import _engines
from _drain import Bench, Drained, cpu_of, wakeups_of
from _engines import Engine
from _rig import Process, Table, percentile, rig, schedulers

SERVER = {"shared_buffers": "512MB", "max_wal_size": "8GB"}
PARTS = ("drains", "ten", "much", "latency", "lateness", "inserts", "idle")
FEWER = {"procrastinate": 20, "oban-py": 10}
"""Slow ones drain a part of the jobs, so that they do not take most of the time."""


class Comparison:
    """All measurements of one run."""

    def __init__(self, bench: Bench, *, quick: bool) -> None:
        self.bench = bench
        self.table = Table()
        self.rounds = 1 if quick else 3
        self.many = 20_000 if quick else 50_000
        self.scale = 10 if quick else 1
        self.peers, self.missing = _engines.install()
        self.ours, self.bare = _engines.quarterjack(fast=True), _engines.bare()

    async def measure(self, parts: Sequence[str]) -> None:
        """Take the parts that are named, or all."""
        for part in parts or PARTS:
            await getattr(self, part)()
        self.table.show(self.missing)

    async def drains(self) -> None:
        """One process at its best setting, and what a job costs."""
        slow = _engines.quarterjack(fast=False)
        found = await self._drain([self.ours, self.bare, slow, *self.peers], self.many)
        rate = found[self.ours.name].rate
        print(
            "\n| engine | jobs/s | transactions/job | WAL bytes/job | CPU µs/job: worker, server | MB |"
        )
        print("|---|---:|---:|---:|---:|---:|")
        for name, each in found.items():
            print(
                f"| {name} | {each.rate:,.0f} | {each.transactions:.4f} | {each.wal:,.0f} "
                f"| {each.worker_cpu:.0f}, {each.server_cpu:.0f} | {each.memory:.0f} |"
            )
        print()
        goals = {
            self.bare.name: (0.7, 0.85), "pgqueuer": (2, 2.5), "oban-py": (12, 20), "procrastinate": (40, None),
            "pg-boss": (1.3, 1.7), "graphile-worker": (0.7, 1),
        }  # fmt: skip
        for name, (must, aim) in goals.items():
            if name in found:
                what = f"drain of {self.many:,}, beside {name}"
                self.table.at_least(what, rate, found[name].rate, "/s", must, aim)
        self.table.at_most("memory while draining", found[self.ours.name].memory, "MB", 60)

    async def ten(self) -> None:
        """Ten jobs at once."""
        queuer = [peer for peer in self.peers if peer.name == "pgqueuer"]
        found = await self._drain([self.ours, self.bare, *queuer], 20_000, ten=True)
        for other in (self.bare, *queuer):
            least = 2 if other in queuer else 0.7
            what = f"ten at once, beside {other.name}"
            self.table.at_least(
                what, found[self.ours.name].rate, found[other.name].rate, "/s", least
            )

    async def much(self) -> None:
        """A long queue, a second process, a table full of other jobs."""
        many = 200_000 // self.scale
        found = await self._drain([self.ours, self.bare], many)
        one = found[self.ours.name].rate
        self.table.at_least(
            f"drain of {many:,}, beside {self.bare.name}",
            one,
            found[self.bare.name].rate,
            "/s",
            0.7,
            0.85,
        )
        two = await self._drain([self.ours, self.bare], many, processes=2)
        self.table.at_least("two processes, beside one", two[self.ours.name].rate, one, "/s", 1.2)
        loops = two[self.bare.name].rate, found[self.bare.name].rate
        self.table.at_least("two bare loops, beside one", *loops, "/s", None)
        others = 1_000_000 // self.scale
        full = await self._drain([self.ours], many, others=others)
        what = f"with {others:,} finished and {others:,} future jobs"
        self.table.at_least(what, full[self.ours.name].rate, one, "/s", 0.9)

    async def latency(self) -> None:
        """From the insert to the handler's start, in another process, nothing else to do; in ms."""
        found = {}
        for engine in (self.ours, self.bare, *self.peers):
            if late := await self._try(
                engine, self._late(engine, "trickle", 400 // self.scale + 60)
            ):
                found[engine.name] = (percentile(late, 0.5) * 1e3, percentile(late, 0.99) * 1e3)
                print(
                    f"{engine.name}: p50 {found[engine.name][0]:.2f} ms, p99 {found[engine.name][1]:.2f} ms"
                )
        peers = {name: found[name] for name in (peer.name for peer in self.peers) if name in found}
        for place, which in enumerate(("p50", "p99")):
            ours = found[self.ours.name][place]
            if peers:
                best = min(peers, key=lambda name: peers[name][place])
                self.table.at_most(
                    f"insert to start, {which}", ours, "ms", peers[best][place], f"best: {best}"
                )
            least = found[self.bare.name][place]
            self.table.at_most(
                f"insert to start, {which}",
                ours,
                "ms",
                1.15 * least,
                f"bare: {least:.2f} ms",
                aim=True,
            )

    async def lateness(self) -> None:
        """A scheduled job's start after its instant; a scheduler makes it claimable."""
        late = await self._late(self.ours, "later", 200 // self.scale + 60, scheduler=True)
        self.table.at_most(
            "scheduled job, start after its instant, p99", percentile(late, 0.99) * 1e3, "ms", 20
        )

    async def inserts(self) -> None:
        """In bulk, and one by one from several clients."""
        bulk = await self._insert([self.ours, self.bare, *self.peers], "bulk", self.many)
        best = max(
            (name for name in bulk if name not in (self.ours.name, self.bare.name)),
            key=bulk.__getitem__,
        )
        self.table.at_least(
            f"bulk insert, beside {best}", bulk[self.ours.name], bulk[best], "/s", 1.3
        )
        self.table.at_least(
            "bulk insert, beside COPY", bulk[self.ours.name], bulk[self.bare.name], "/s", None, 1
        )
        single = await self._insert(
            [self.ours, *self.peers], "singles", 10_000 // min(self.scale, 4), 10
        )
        if "oban-py" in single:
            self.table.at_least(
                "ten clients, beside oban-py", single[self.ours.name], single["oban-py"], "/s", 2
            )
        most = 16_000 // min(self.scale, 4)
        ringing = await self._insert([self.ours], "singles", most, 16)
        silent = await self._insert([self.ours], "silent", most, 16)
        self.table.at_least(
            "16 clients, beside never waking", *ringing.values(), *silent.values(), "/s", 0.9
        )

    async def idle(self) -> None:
        """A worker without jobs."""
        seconds = 60.0 / min(self.scale, 4)
        async with self.bench.database(self.ours) as url:
            worker = await self.bench.start(self.ours, "work", url, *self.ours.ten)
            try:
                await asyncio.sleep(5)
                pids = worker.family()
                before, began = _cost(pids), time.monotonic()
                sent = await self.bench.rig.statements(seconds)
                after, passed = _cost(pids), time.monotonic() - began
            finally:
                await worker.end()
        self.table.at_most("idle worker, statements", len(sent) / seconds, "/s", 2)
        cpu, woken = ((new - old) / passed for new, old in zip(after, before, strict=True))
        self.table.at_most("idle worker, CPU", 100 * cpu, "%", 0.5)
        self.table.at_most("idle worker, wake-ups", woken, "/s", 7, aim=True)

    async def _drain(
        self,
        engines: list[Engine],
        many: int,
        *,
        ten: bool = False,
        processes: int = 1,
        others: int = 0,
    ) -> dict[str, Drained]:
        found: dict[str, list[Drained]] = {}
        for _ in range(self.rounds):
            for engine in engines:
                part, settings = (
                    many // FEWER.get(engine.name, 1),
                    engine.ten if ten else engine.best,
                )
                work = self.bench.drain(engine, part, settings, processes=processes, others=others)
                if drained := await self._try(engine, work):
                    found.setdefault(engine.name, []).append(drained)
        return {name: _middle(each) for name, each in found.items()}

    async def _insert(
        self, engines: list[Engine], verb: str, many: int, *clients: int
    ) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for _ in range(self.rounds):
            for engine in engines:
                part = many // FEWER.get(engine.name, 1) if verb == "bulk" else many
                async with self.bench.database(engine) as url:
                    if seconds := await self._try(
                        engine, self.bench.run(engine, verb, url, part, *clients)
                    ):
                        found.setdefault(engine.name, []).append(part / seconds)
        for name, rates in found.items():
            print(f"{verb} {clients or ''} {name}: {median(rates):,.0f} /s", flush=True)
        return {name: median(rates) for name, rates in found.items()}

    async def _late(
        self, engine: Engine, verb: str, many: int, *, scheduler: bool = False
    ) -> list[float]:
        """Give how late each job began, in seconds, but the first few."""
        async with self.bench.database(engine) as url:
            beside: list[Process] = []
            worker = await self.bench.start(engine, "work", url, *engine.ten)
            try:
                async with schedulers(
                    self.bench.rig.at(url), *(["bench"] if scheduler else [])
                ) as beside:
                    await asyncio.sleep(3)
                    assert len(beside) == scheduler
                    inserting = asyncio.create_task(
                        self.bench.run(engine, verb, url, many, says=None)
                    )
                    async with asyncio.timeout(120):
                        late = [await worker.line("late") for _ in range(many)]
                    await inserting
            finally:
                await worker.end()
        return late[10:]

    async def _try(self, engine: Engine, work: Awaitable[object]) -> object:
        """Do it; a peer that fails is named and left out, ours is not."""
        try:
            return await work
        except (RuntimeError, TimeoutError) as error:
            if engine.name not in {peer.name for peer in self.peers}:
                raise
            self.missing[engine.name] = f"failed: {error}"
            return None


def _middle(found: list[Drained]) -> Drained:
    names = [field.name for field in fields(Drained)]
    return Drained(**{name: median(getattr(each, name) for each in found) for name in names})


def _cost(pids: Sequence[int]) -> tuple[float, int]:
    """Give the CPU seconds of some processes until now, and how often they were woken."""
    return sum(map(cpu_of, pids)), sum(map(wakeups_of, pids))


async def main(parts: Sequence[str], *, quick: bool) -> int:
    async with rig(**SERVER) as made:
        version = await made.pool.fetchval("SELECT current_setting('server_version')")
        comparison = Comparison(Bench(made), quick=quick)
        print(
            f"PostgreSQL {version}, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
        )
        await comparison.measure(parts)
        print(f"load {os.getloadavg()[0]:.1f}")
    return int(comparison.table.missed > 0)


if __name__ == "__main__":
    named = [each for each in sys.argv[1:] if each != "quick"]
    if unknown := set(named) - set(PARTS):
        sys.exit(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    sys.exit(asyncio.run(main(named, quick="quick" in sys.argv[1:])))
