"""
Layer: what is true. SQL holds chains, coverage, items, outbox, quarantine, users; Redis is a hint.

`database` runs units of work, `tables` names the columns, `pages` is the one transaction per page.
"""
