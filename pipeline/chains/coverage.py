"""
Coverage: item time proven complete, as half-open intervals of whole seconds.

`Spans` are sorted, disjoint and never touch; every function keeps them so.
"""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[int, int]
Spans = tuple[Span, ...]


def add(spans: Spans, lo: int, hi: int) -> Spans:
    """Prove `[lo, hi)`, merging it with what it overlaps or touches. An empty interval proves nothing."""
    if lo >= hi:
        return spans
    out = []
    for a, b in spans:
        if b < lo or a > hi:
            out.append((a, b))
        else:
            lo, hi = min(lo, a), max(hi, b)
    out.append((lo, hi))
    out.sort()
    return tuple(out)


def uncovered(spans: Spans, lo: int, hi: int) -> Spans:
    """Give the parts of `[lo, hi)` that are not proven, oldest first."""
    out = []
    for a, b in spans:
        if b <= lo or a >= hi:
            continue
        if a > lo:
            out.append((lo, a))
        lo = max(lo, b)
    if lo < hi:
        out.append((lo, hi))
    return tuple(out)


def proven(spans: Spans, lo: int, hi: int) -> bool:
    """Tell whether nothing in `[lo, hi)` is open; true of an empty interval."""
    return not uncovered(spans, lo, hi)


def normal(spans: Iterable[Span]) -> Spans:
    """Give the intervals in normal form, whatever their order and overlap."""
    out: Spans = ()
    for lo, hi in spans:
        out = add(out, lo, hi)
    return out
