"""
A local Azure Functions host over Microsoft's own worker code.

`python -m infra.local.host --app DIR` loads any Python v2 `function_app.py`
through `azure-functions-runtime`, which is what production runs, and feeds it
from Service Bus, timers and HTTP. It exists for desks and tests and is never
deployed.

- `__main__`   the command line; `indexing` serves its --index
- `host`       starts everything, drains it, answers /admin
- `plan`       which functions run, and why others do not; `report` prints it
- `settings`   app settings, host.json, %NAME%, connections
- `functions`  triggers and outputs, read from what the worker found
- `worker`     runs inside each worker process, and nothing else here does
- `processes`  a worker as the host sees it; `pool` starts, restarts and feeds them
- `execution`  one invocation: worker, outputs, log; `tracing` its trace context
- `messages`   Service Bus messages as the extension hands them to Python
- `bus`        clients and senders; `listeners`, `single`, `batches` the triggers
- `schedules`  NCRONTAB; `timers` runs it, remembering across restarts
- `routes`     HTTP routes; `web` serves them, `keys` guards them on demand
"""
