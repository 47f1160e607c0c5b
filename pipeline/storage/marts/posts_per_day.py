"""How much each page posted on each day (UTC), and what came back."""

from pipeline.storage.marts.base import Mart, NotNull, Relation, Unique

MART = Mart(
    name="posts_per_day",
    feeds=("posts",),
    select="""
        SELECT user_id, scope AS page_id, source_date AS day, COUNT(*) AS posts,
               SUM(engagement_comments) AS comments, SUM(engagement_reactions) AS reactions,
               SUM(engagement_shares) AS shares, SUM(engagement_total) AS engagement
        FROM data_posts
        WHERE deleted = 0
        GROUP BY user_id, scope, source_date
    """,
    tests=(
        Unique(("user_id", "page_id", "day")),
        NotNull("day"),
        NotNull("engagement"),
        Relation(("user_id", "page_id"), "mart_engagement_per_page", ("user_id", "page_id")),
    ),
)
