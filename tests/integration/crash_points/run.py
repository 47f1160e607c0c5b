"""
Runs one workload with kills, as a process of its own with one thread, so that it may fork.

It starts the Graph simulator and the checker. For each case it puts empty files and the first world in place, forks a
worker that is killed at its failpoint, lets locks expire, starts a worker that heals, and hands what a subscriber got
to the checker, which asks the simulator for the truth. The last line it prints is a JSON summary.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import random
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.local.graph import spawn
from pipeline import failpoints
from pipeline.bootstrap import COLLECT_AFTER
from tests.integration.crash_points.host import LOCK, Host
from tests.integration.crash_points.simulated_graph import write_world
from tests.integration.crash_points.workloads import START, WORKLOADS

ROOT = Path(__file__).parents[3]
ANSWER_SECONDS = 60


class Checker:
    """The process that judges. It gets the address of the truth and the names of files, and nothing else of ours."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def look(self) -> None:
        """Let it note what is true now."""
        self._ask("look")

    def judge(self, received: Path) -> dict[str, Any]:
        """Give its verdict on what a subscriber got, against what is true now."""
        return self._ask(str(received))

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], ANSWER_SECONDS)[0]:
            raise SystemExit("the checker does not answer")
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("the checker failed, see above")
        found: dict[str, Any] = json.loads(answer)
        return found


@contextlib.contextmanager
def checking(truth_url: str) -> Iterator[Checker]:
    """Run a checker until the block ends."""
    command = [sys.executable, "-m", "tests.checker", "--deletions", "--truth", truth_url, "--follow"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield Checker(process)
    finally:
        process.kill()
        process.communicate(timeout=ANSWER_SECONDS)


def fork(host: Host, act: Callable[[], None]) -> int:
    """Run in a forked process; gives the signal that ended it, 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            host.start()
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        raise SystemExit("a worker failed by an exception, see above")
    return 0


def killing(at: int) -> Callable[[str], None]:
    """Give a hook that kills this process at the hit of that number, from 0."""
    left = at

    def hook(name: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    return hook


def case(host: Host, checker: Checker, name: str, kills: Iterable[int]) -> tuple[int, dict[str, Any]]:
    """Run one case; gives how many workers were really killed, and the verdict."""
    host.begin()
    checker.look()
    killed = 0
    act = host.work
    for at in kills:

        def doomed(act: Callable[[], None] = act, at: int = at) -> None:
            failpoints.install(killing(at))
            act()

        killed += fork(host, doomed) == signal.SIGKILL
        host.clock.advance(LOCK)
        act = host.heal
    received = host.folder / f"{name}.received"
    heal(host, received)
    return killed, checker.judge(received) | {"stuck": json.loads(received.with_suffix(".state").read_text())}


def heal(host: Host, received: Path) -> None:
    """Let a worker heal that nobody kills; it needs no process of its own."""
    host.start()
    host.heal()
    host.write_received(received)
    host.let_go()


def record(host: Host) -> list[str]:
    """Give the names of all failpoints that a worker passes, in order."""
    reader, writer = os.pipe()

    def recorded() -> None:
        names: list[str] = []
        failpoints.install(names.append)
        host.work()
        with os.fdopen(writer, "w") as out:
            json.dump(names, out)

    host.begin()
    fork(host, recorded)
    os.close(writer)
    with os.fdopen(reader) as text:
        return list(json.load(text))


def cases(chosen: argparse.Namespace, hits: list[str]) -> Iterator[tuple[str, list[int]]]:
    """Give name and kills of each case of this part."""
    part, parts = map(int, chosen.part.split("/"))
    if chosen.seeds:
        seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
        for seed in seeds if chosen.only is None else [chosen.only]:
            rng = random.Random(seed)
            yield f"seed-{seed}", [rng.randrange(len(hits)) for _ in range(rng.randint(2, 5))]
    else:
        for number in range(part, len(hits), parts) if chosen.only is None else [chosen.only]:
            yield f"hit-{number}-{hits[number]}", [number]


def run(chosen: argparse.Namespace, url: str) -> dict[str, Any]:
    """Run the cases of one part."""
    host = Host(chosen.folder, WORKLOADS[chosen.workload], url)
    host.prepare()
    # One run in this process fills the statement caches that every fork inherits.
    host.begin()
    host.start()
    host.work()
    host.let_go()
    heal(host, host.folder / "warm")
    if threading.active_count() > 1:
        raise SystemExit(f"a fork would lose threads: {threading.enumerate()}")
    gc.collect()
    gc.freeze()  # the collector of a forked worker would copy all that it looks at
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    hits = record(host)
    killed, verdicts = 0, []
    with checking(host.graph.truth_url) as checker:
        for name, kills in cases(chosen, hits):
            dead, verdict = case(host, checker, name, kills)
            killed += dead
            verdicts.append(verdict)
    bad = [one for one in verdicts if not one["valid"] or one["control"] != "red" or one["stuck"]]
    return {
        "cases": len(verdicts), "killed": killed, "hits": len(hits), "names": sorted(set(hits)), "bad": bad,
        "judged": sum(one["ok"] for one in verdicts),
    }  # fmt: skip


def main() -> int:
    """Run the cases of one part and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--part", default="0/1", help="which of how many equal parts")
    parser.add_argument("--seeds", type=int, default=0, help="run this many seeded multi-kill cases instead")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="only this hit or seed")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    write_world(chosen.folder / "world.jsonl")
    now = datetime.fromtimestamp(START, UTC).isoformat()
    with spawn("infra.local.graph", "--world", str(chosen.folder / "world.jsonl"), "--now", now) as graph:
        summary = run(chosen, graph.url)
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
