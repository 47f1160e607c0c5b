"""
Every user's data out of rate-limited, paged, token-protected APIs: completely, once, cheaply.

Read the layers in this order; data goes down the list, and a layer imports only what stands below it:
`functions` (triggers), `bootstrap` (composition root), `schedulers` | `subscribers` | `operations`, `miners`,
`processors`, `sources`, `storage`, `bus`, `chains` (the protocol, pure), `feeds`, `telemetry`, `settings` | `errors`.

Glossary
user        the account holder whose data is mined
scope       the object an edge hangs on: a page, an ad account, a post
feed        a kind of data, declared in one file of `feeds/`
item        one record of a feed, in revisions
chain       one traversal of one (user, feed, scope, lane)
lane        why it runs: main (fresh end), gap (older holes), refresh (recent again), backfill (ordered), sweep
doorbell    the message that wakes a chain; live only while its id equals the chain's
tick        the scheduler's message for one user; it opens chains
coverage    item time proven complete, as half-open intervals of whole seconds
parked      a chain that waits for an instant (`not_before`), with the reason
halted      a chain that stopped with a reason; its range stays an open gap until it is tried again
quarantine  where bad items and messages wait for a person
outbox      messages frozen in the transaction that made them true, sent after it
"""
