"""`python -m tests.chaos --seed 1 --scale small`: exit code 0 only if the subscribers got the truth."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.chaos.run import Chaos
from tests.chaos.scales import SCALES

FOLDER = Path(".local/chaos")
LINE_CHARACTERS = 118
MOST_NAMED = 15


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="The local stack under faults.")
    parser.add_argument("--seed", type=int, default=1, help="of the world, the faults and their order")
    parser.add_argument("--scale", choices=sorted(SCALES), default="small")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result goes (default: .local/chaos.json)")
    given = parser.parse_args()
    folder = FOLDER.resolve() / f"{given.scale}-{given.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    result = asyncio.run(Chaos(given.seed, given.scale, folder).run())
    target = given.json or FOLDER.with_suffix(".json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(written(result) + "\n")
    sys.stdout.write(_summary(result, target))
    return 0 if result["valid"] else 1


def written(value: Any, indent: str = "") -> str:
    """Give JSON that a person can read: what fits into a line stands in one."""
    line = json.dumps(value)
    if len(indent) + len(line) <= LINE_CHARACTERS or not isinstance(value, (dict, list)) or not value:
        return line
    inner = f"{indent} "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(name)}: {written(part, inner)}" for name, part in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{inner}{written(part, inner)}" for part in value) + f"\n{indent}]"


def _summary(result: dict[str, Any], target: Path) -> str:
    points, checker = result["failpoints"], result["checker"]
    lines = [
        f"{'green' if result['valid'] else 'RED'}: {result['items']:,} items, {result['faults']:,} faults, "
        f"lost {result['lost']}, twice {result['twice']}, unexpected {checker['unexpected']}, stale {checker['stale']}",
        f"failpoints {points['names']}, cells {points['carried_out']} of {points['cells']} ({points['share']:.0%})",
        f"not tried: {', '.join(points['missing'][:MOST_NAMED])}",
        f"canaries {json.dumps(result['canaries'])}",
        f"recovery {json.dumps(result['recovery_seconds'])}",
        f"seconds {json.dumps(result['seconds'])}",
        f"written to {target}",
    ]
    if not result["valid"]:
        lines += [json.dumps(checker["examples"]), f"repeat: {result['repeat']}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
