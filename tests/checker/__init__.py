"""
The checker: does what a subscriber got equal the truth?

It shares no code with the pipeline and reads two things only: the simulator's truth (`GET /__sim/truth`) and what
arrived. `python -m tests.checker --truth URL --received FILE…` prints one JSON verdict a received file. With `--follow`
it runs beside a test that changes the world: it asks the simulator anew for every file, and at every `look` before.

Three sets: MUST is the final content of everything visible at the end; MAY is any revision that was true once; NEVER is
everything else, another user's item, and a second copy of a revision.
"""
