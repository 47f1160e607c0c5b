"""
A local Azure Functions host over Microsoft's own worker code.

`python -m infra.local.host --app DIR` loads any Python v2 `function_app.py`
through `azure-functions-runtime`, which is what production runs, and feeds it
from Service Bus, timers and HTTP. It exists for desks and tests and is never
deployed.

- `__main__`    the command line
- `host`        puts the parts together, starts and drains them
- `settings`    app settings, host.json, %NAME%, connections
- `functions`   what the app registered, and why something cannot run here
- `worker`      runs inside each worker process (nothing else here does)
- `pool`        starts, restarts and feeds the worker processes
- `messages`    Service Bus messages as the extension hands them to Python
- `service_bus` queue and topic listeners, and senders for output bindings
- `schedules`   NCRONTAB; `timers` runs it, remembering across restarts
- `routes`      HTTP routes; `web` serves them, and /admin
- `report`      what is printed at start
"""
