"""What child scopes cost: the real store, miner and Graph source, against the Graph simulator over HTTP."""
