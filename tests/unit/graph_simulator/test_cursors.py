"""Cursors are opaque, signed, and bound to where they came from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.local.graph.cursors import Cursors, Position

CURSORS = Cursors(7)


@given(st.integers(-1, 2**40), st.integers(-1, 2**60), st.integers(0, 2**20), st.text(max_size=20))
def test_a_cursor_leads_back_to_its_place(created: int, number: int, salt: int, scope: str):
    """Whatever the place and the scope's name."""
    place = Position(created, number, salt)

    assert CURSORS.read("posts", scope, CURSORS.write("posts", scope, place)) == place


@given(st.text(max_size=60))
def test_no_text_is_a_cursor_but_ours(text: str):
    """Junk is refused without an exception."""
    assert CURSORS.read("posts", "1000", text) is None


def test_another_world_scope_or_edge_refuses_it():
    """A mixed-up cursor must not silently list something else."""
    cursor = CURSORS.write("posts", "1000", Position(1, 2))

    assert Cursors(8).read("posts", "1000", cursor) is None
    assert CURSORS.read("posts", "1001", cursor) is None
    assert CURSORS.read("ads", "1000", cursor) is None
