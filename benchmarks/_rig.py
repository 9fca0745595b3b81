"""What the benchmarks share: a throw-away server, real scheduler processes, percentiles, and a budget's verdict."""

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from quarterjack import migrate
from quarterjack.database import Address, Pool, open_pool
from quarterjack_local.postgres import Server

LOGGED = re.compile(r"<(?P<who>quarterjack-[^>]*)> LOG: +(?:statement|execute [^:]*): (?P<what>.*)")
SETTINGS = {"max_connections": "200", "log_line_prefix": "'<%a> '", "checkpoint_timeout": "30min"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A migrated database on a server of its own, with the settings of an ordinary one."""

    url: str
    pool: Pool
    log: Path
    pid: int

    def at(self, url: str) -> "Rig":
        """Give the same server, with another of its databases for what is started."""
        return replace(self, url=url)

    async def logging(self, on: bool) -> None:
        """Have every statement logged, or none."""
        await self.pool.execute(f"ALTER SYSTEM SET log_statement = '{'all' if on else 'none'}'")
        await self.pool.execute("SELECT pg_reload_conf()")

    async def statements(self, seconds: float) -> list[str]:
        """Give what the services sent in so many seconds, each by its first words."""
        began = self.log.stat().st_size
        await self.logging(True)
        await asyncio.sleep(seconds)
        await self.logging(False)
        said = self.log.read_bytes()[began:].decode(errors="replace")
        joined = re.sub(r"\n\t[ \t]*", " ", said)
        return [match["what"].strip() for match in LOGGED.finditer(joined)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running scheduler."""

    node: str
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def end(self, number: signal.Signals) -> None:
        """Signal it and wait until it is gone."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()

    def memory(self, field: str = "VmRSS") -> float:
        """Give its memory in MB: VmRSS as it is, VmHWM at most."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(rf"{field}:\s+(\d+)", text)[0]) / 1024


@asynccontextmanager
async def rig(**settings: str) -> AsyncIterator[Rig]:
    """Start a server with an empty, migrated database; it is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="quarterjack-bench-") as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - the server runs as a user of its own
        data = Path(directory, "data")
        server = Server(data, settings=SETTINGS | settings)
        await asyncio.to_thread(server.start)
        try:
            url = server.url("postgres")
            address = Address(url=url, direct_url=url, schema="public")
            await migrate.apply(address)
            async with open_pool(address, name="benchmark", size=6) as pool:
                pid = server.running()
                assert pid is not None
                yield Rig(url=url, pool=pool, log=data.with_name("data.log"), pid=pid)
        finally:
            await asyncio.to_thread(server.stop, "immediate")


async def start(
    rig: Rig, node: str, *, url: str | None = None, env: Mapping[str, str] | None = None
) -> Process:
    """Start one scheduler; QUARTERJACK_BENCH_LOG names a file for what it says."""
    log = os.environ.get("QUARTERJACK_BENCH_LOG", os.devnull)
    with open(log, "ab") as file:  # noqa: ASYNC230 - once for each process
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "quarterjack_scheduler"),
            stdout=file,
            stderr=file,
            env=os.environ
            | {"DATABASE_URL": url or rig.url, "QUARTERJACK_NODE": node}
            | dict(env or {}),
        )
    return Process(node=node, process=process)


@asynccontextmanager
async def schedulers(rig: Rig, *nodes: str) -> AsyncIterator[list[Process]]:
    """Run schedulers until the block ends."""
    running = [await start(rig, node) for node in nodes]
    try:
        yield running
    finally:
        for each in running:
            await each.end(signal.SIGKILL)


async def until(pool: Pool, question: str, *arguments: object, within: float = 60.0) -> object:
    """Ask again and again until the answer is true, and give it."""
    async with asyncio.timeout(within):
        while True:
            if answer := await pool.fetchval(question, *arguments):
                return answer
            await asyncio.sleep(0.05)


async def leader(pool: Pool) -> str:
    """Give the node that leads, once one does."""
    question = (
        "SELECT node FROM qj_lease WHERE expires_at > clock_timestamp() AND holder IS NOT NULL"
    )
    return str(await until(pool, question))


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


class Budgets:
    """Prints a row for each figure, and remembers whether one exceeded its budget."""

    def __init__(self) -> None:
        self.missed = 0

    def row(self, what: str, value: float, unit: str, budget: float | None = None) -> None:
        kept = budget is None or value <= budget
        self.missed += not kept
        said = "" if budget is None else f"at most {budget:g} {unit}{'' if kept else '   MISSED'}"
        print(f"{what:<58}{value:>10.2f} {unit:<6}{said}", flush=True)


class Table:
    """Collects ratios, and says which keep what they must."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.missed = 0

    def at_least(
        self,
        what: str,
        ours: float,
        theirs: float,
        unit: str,
        must: float | None,
        aim: float | None = None,
    ) -> None:
        ratio = ours / theirs
        goals = [f"≥ {must:g} ×"] if must else []
        goals += [f"aim {aim:g}"] if aim else []
        figures = f"{ours:,.0f} {unit}", f"{theirs:,.0f} {unit}", f"{ratio:.2f}", ", ".join(goals)
        self._row(what, *figures, kept=ratio >= (must or aim or 0), aim=must is None)

    def at_most(
        self, what: str, ours: float, unit: str, most: float, beside: str = "", *, aim: bool = False
    ) -> None:
        goal = f"{'aim' if aim else '≤'} {most:.2f} {unit}"
        self._row(what, f"{ours:.2f} {unit}", beside, "", goal, kept=ours <= most, aim=aim)

    def _row(self, *cells: str, kept: bool, aim: bool) -> None:
        """Note it; an aim that is missed is no budget that is missed."""
        self.missed += not kept and not aim
        word = "yes" if kept else "not yet" if aim else "**no**"
        self.rows.append(f"| {' | '.join(cells)} | {word} |")
        print(self.rows[-1], flush=True)

    def show(self, missing: dict[str, str]) -> None:
        print("\n| figure | ours | other | ratio | must | kept |\n|---|---:|---:|---:|---|---|")
        print("\n".join(self.rows))
        for name, why in missing.items():
            print(f"| {name} | | not installed: {why} | | | |")
