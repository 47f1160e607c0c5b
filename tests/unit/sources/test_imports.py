"""What loads when."""

from __future__ import annotations

import subprocess
import sys


def test_the_layer_loads_without_a_network_library():
    """The Functions host limits the start, and each of these takes a quarter of a second."""
    code = "import sys, pipeline.sources, pipeline.sources.base; print({'aiohttp', 'httpx'} & {*sys.modules})"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert found.stdout.strip() == "set()"
