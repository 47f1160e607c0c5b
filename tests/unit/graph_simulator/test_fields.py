"""The `fields` language."""

from __future__ import annotations

import pytest

from infra.local.graph.errors import GraphError
from infra.local.graph.fields import Field, parse


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("id,message", (Field("id"), Field("message"))),
        (" id , message ", (Field("id"), Field("message"))),
        ('["id","message"]', (Field("id"), Field("message"))),
        ("from{id,name}", (Field("from", (), (Field("id"), Field("name"))),)),
        ("comments.limit(2).summary(true)", (Field("comments", (("limit", "2"), ("summary", "true"))),)),
        (
            "posts.limit(1){comments.order(reverse_chronological){from{id}},id}",
            (
                Field(
                    "posts",
                    (("limit", "1"),),
                    (
                        Field("comments", (("order", "reverse_chronological"),), (Field("from", (), (Field("id"),)),)),
                        Field("id"),
                    ),
                ),
            ),
        ),
        (
            'insights.time_range({"since":"2026-01-01","until":"2026-01-02"}){clicks}',
            (
                Field(
                    "insights",
                    (("time_range", '{"since":"2026-01-01","until":"2026-01-02"}'),),
                    (Field("clicks"),),
                ),
            ),
        ),
        ("", ()),
    ],
)
def test_fields_are_read_as_the_api_reads_them(text: str, fields: tuple[Field, ...]):
    """Nested expansions with modifiers are what saves calls; clients write them in many ways."""
    assert parse(text) == fields


@pytest.mark.parametrize("text", ["a{", "a}", "a.limit(", "a.limit", "a(1)", "a b", "{", "a{b}}", "[1"])
def test_a_syntax_error_is_code_2500(text: str):
    """The API answers with a position, not with a crash."""
    with pytest.raises(GraphError) as caught:
        parse(text)

    assert caught.value.code == 2500


def test_depth_is_bounded():
    """A request must not be able to exhaust the stack."""
    with pytest.raises(GraphError):
        parse("a{" * 500 + "b" + "}" * 500)
