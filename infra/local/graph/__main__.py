"""`python -m infra.local.graph`: the Graph simulator on a port."""

import sys

from infra.local.graph.serve import serve
from infra.local.graph.simulator import build, parse

if __name__ == "__main__":
    options, host, port = parse(sys.argv[1:])
    sys.exit(serve("graph", lambda: build(options), host=host, port=port, state=options.state))
