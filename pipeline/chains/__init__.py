"""The chain protocol as pure functions: coverage, the event-by-state table, ids. No I/O, no clock, no randomness."""
