"""
The Facebook Graph API, simulated: built to the API, not to our client, with a truth that tests can ask for.

Run it with `python -m infra.local.graph --port 8080 --seed 7 --users 50 --posts 2000`, or in a test with
`async with running(Options(shape=Shape(users=2))) as graph`, or as a process with `spawn("infra.local.graph", …)`.

The control endpoints, all JSON, a refusal being a 400 with its reason:

GET    /__sim/world     users with tokens, pages, ad accounts, counts; the app's id, secret and token (`user=`)
GET    /__sim/truth     `rows` with id, version, hash, times, fate, and `expected` ids (`user= scope= edge= since=
                        until= fields= items=1`; edge: posts (default), comments, ads, adsets, campaigns, accounts,
                        adaccounts, insights, several with commas, or all; with `fields` the hash is over that view)
GET    /__sim/calls     counters, and with `log=1` the calls (`run= user= edge= scope= status= code= owner= limit=`);
                        a run is what the caller sent as `X-Sim-Run`
POST   /__sim/faults    one or a list of `{kind, match, user, edge, after_calls, times, rate, every, seed, …}`; the
                        kinds and their options are `faults.KINDS`; GET lists those in force with what they hit,
                        DELETE lifts (`id=`)
POST   /__sim/mutate    one or a list of `{do: create|edit|delete|show|churn, …}`, with `at_call` (and `match`) when
                        that many calls came in; see `script.KEYS`; DELETE forgets what waits
POST   /__sim/budgets   calls per rolling window by kind: app, user, page, ad_account, insights; `window_seconds`; GET
POST   /__sim/users/{user}/token    `{action: rotate|revoke|expire|revive, subcode}`
POST   /__sim/clock     `{advance: seconds}` or `{now: instant, fixed: bool}`; GET
POST   /__sim/reset     `{what: [calls, faults, script, budgets, jobs, world]}`, everything by default

With `--state FILE` the world outlives its process: every change is written there before it is answered (`journal`), and
a start on the same file makes it again (`replay`) with its times, versions, ids, tokens, faults, budgets' limits and
reports. What counts calls begins anew: the log, what budgets have used, how often a fault has hit and which calls its
`rate` picks, and the calls that a change with `at_call` waits for. A start on the file of another world is refused.

Reading order: `world` and `seeded` (what there is), `reader` (how the API shows it), `app` (tokens, budgets, faults,
routes), `control` (the endpoints under `/__sim/`). It imports nothing of the product.
"""

from infra.local.graph.process import Spawned, spawn
from infra.local.graph.seeded import Shape
from infra.local.graph.simulator import GraphSimulator, Options, build, running

__all__ = ["GraphSimulator", "Options", "Shape", "Spawned", "build", "running", "spawn"]
