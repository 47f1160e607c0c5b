"""
Run benchmarks: `python -m tests.bench [name …]`, all by default, into `.local/bench.json`.

Figures are ratios against a bare loop in the same run; a busy machine makes them worse, not wrong.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NAMES = ("heart", "store", "fan_out", "sources", "host", "servicebus", "isolation", "recovery", "operations")


def main(chosen: list[str]) -> int:
    """Measure, print and write; 1 if a name is unknown or a benchmark failed."""
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        sys.stderr.write(f"no benchmark named {', '.join(unknown)}; known are {', '.join(NAMES)}\n")
        return 1
    target = ROOT / ".local" / "bench.json"
    results: dict[str, Any] = json.loads(target.read_text()) if target.exists() and chosen else {}
    results["machine"] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    failed = []
    for name in chosen or NAMES:
        sys.stdout.write(f"{name} …\n")
        started = time.monotonic()
        try:
            results[name] = importlib.import_module(f"tests.bench.{name}").measure()
        except Exception as error:  # one benchmark that fails must not hide the others
            failed.append(name)
            results[name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
        sys.stdout.write(json.dumps(results[name], indent=2) + f"\n{name}: {time.monotonic() - started:.0f} s\n")
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(results, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
