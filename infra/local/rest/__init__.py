"""
A second kind of API, simulated: page numbers, integer ids, an API key, 429 with `Retry-After`, no usage headers.

Run it with `python -m infra.local.rest --port 8081 --seed 7 --users 50 --transactions 200`, or in a test with
`async with running(Options(users=2)) as rest`, or as a process with `spawn("infra.local.rest", …)`. With `--state FILE`
the ledger outlives its process, as the Graph simulator's world does: see there.
"""

from infra.local.graph.process import Spawned, spawn
from infra.local.rest.simulator import Options, RestSimulator, build, running

__all__ = ["Options", "RestSimulator", "Spawned", "build", "running", "spawn"]
