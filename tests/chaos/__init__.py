"""
The local stack under faults: `make chaos SEED=1 SCALE=small`, and whether the subscribers got the truth all the same.

A safety phase with faults, a liveness phase without, then the independent checker over the lake's files.

- `__main__`    the command line
- `scales`      how large a run is
- `scene`       the running box, and what injectors need of it
- `faults`      every kind of fault by its number in the model, those left out with their reason
- `failpoints`  orders to processes at failpoints, and which cells of the matrix were carried out
- `on_*`        injectors: processes, bus, cache, store, sources
- `people`      what people do meanwhile, and every content that was true once
- `recovery`    from a kill to the next commit of each chain that was in motion
- `canaries`    secrets that the run works with, and a grep for them over all that it wrote
- `verdict`     the truth and the lake before the checker
- `run`         the order of a run
"""
