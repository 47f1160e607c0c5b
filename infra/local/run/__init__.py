"""
The whole local stack in one command: `python -m infra.local.run`.

It starts everything that the pipeline meets in the cloud, mines a seeded world with faults, and compares what the
subscribers got with the simulators' truth. `--up` keeps the stack running on real schedules instead.

- `__main__`   the command line
- `choices`    what the command line decides
- `processes`  child processes: start, watch, kill, start again, never left behind
- `places`     folders, ports and the app's environment
- `cache`      which Redis there is on this machine
- `stack`      all processes of the box, in their order
- `clients`    HTTP to the simulators, the emulator and the host
- `product`    the pipeline's own command line
- `delivered`  what the subscribers got: lake files and analytics tables
- `compare`    the truth against what was delivered; pure
- `trouble`    the faults that a run survives, and when they end
- `world`      the order of a run: seed, order ticks, heal, wait for the truth
- `progress`   one picture of the run; `view` draws it live, `lines` prints it plainly
- `summary`    what is said at the end
"""
