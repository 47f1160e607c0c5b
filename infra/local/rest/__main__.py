"""`python -m infra.local.rest`: the REST simulator on a port."""

import sys

from infra.local.graph.serve import serve
from infra.local.rest.simulator import build, parse

if __name__ == "__main__":
    options, host, port = parse(sys.argv[1:])
    sys.exit(serve("rest", lambda: build(options), host=host, port=port, state=options.state))
