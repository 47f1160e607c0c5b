"""
The whole local stack in one command: `python -m infra.local.run`.

It starts everything that the pipeline meets in the cloud, mines a seeded world with faults, and compares what the
subscribers got with the simulators' truth. `--up` keeps the stack running on real schedules instead.

- `__main__`   the command line; `choices` what it decides
- `session`    one run: seed, order, be troubled, heal, wait for the truth; `trouble` the faults and changes
- `up`         the other way to run: on real schedules, whatever dies is started again
- `stack`      all processes of the box; `processes` one of them; `places` folders, ports and the app's environment
- `cache`      which Redis there is on this machine
- `clients`    HTTP to the simulators, the emulator and the host; `product` the pipeline's own command line
- `users`      users and tokens, from the simulators into the pipeline
- `truth`      what the simulators say; `delivered` what the subscribers got: lake files and analytics tables
- `compare`    the one against the other; pure
- `progress`   one picture of the run; `view` draws it live, `lines` prints it plainly, `summary` at the end
- `query`      a look at the tables without any other tool
"""
