"""How many comments the posts of each page got on each day (UTC)."""

from pipeline.storage.marts.base import Mart, NotNull, Unique

MART = Mart(
    name="comments_per_day",
    feeds=("posts", "comments"),
    select="""
        SELECT c.user_id, p.scope AS page_id, c.source_date AS day, COUNT(*) AS comments,
               COUNT(DISTINCT c.author_id) AS commenters
        FROM data_comments AS c
        JOIN data_posts AS p ON p.user_id = c.user_id AND p.item_id = c.scope
        WHERE c.deleted = 0
        GROUP BY c.user_id, p.scope, c.source_date
    """,
    tests=(Unique(("user_id", "page_id", "day")), NotNull("comments")),
)
