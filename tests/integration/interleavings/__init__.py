"""Seeded interleavings of real handlers on a virtual clock, checked against invariants after every transaction."""
