"""
The Facebook Graph API, simulated: built to the API, not to our client, with a truth that tests can ask for.

Run it with `python -m infra.local.graph --port 8080 --seed 7 --users 50 --posts 2000`, or in a test with
`async with running(Options(shape=Shape(users=2))) as graph`, or as a process with `spawn("infra.local.graph", …)`.

Reading order: `world` and `seeded` (what there is), `reader` (how the API shows it), `app` (tokens, budgets, faults,
routes), `control` (the endpoints under `/__sim/`). It imports nothing of the product.
"""

from infra.local.graph.process import Spawned, spawn
from infra.local.graph.seeded import Shape
from infra.local.graph.simulator import GraphSimulator, Options, build, running

__all__ = ["GraphSimulator", "Options", "Shape", "Spawned", "build", "running", "spawn"]
