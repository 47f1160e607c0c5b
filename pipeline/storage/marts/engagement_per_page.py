"""What the posts of each page bring, over all time."""

from pipeline.storage.marts.base import Mart, NotNull, Unique

MART = Mart(
    name="engagement_per_page",
    feeds=("posts",),
    select="""
        SELECT user_id, scope AS page_id, COUNT(*) AS posts,
               MIN(source_date) AS first_day, MAX(source_date) AS last_day,
               SUM(engagement_comments) AS comments, SUM(engagement_reactions) AS reactions,
               SUM(engagement_shares) AS shares, SUM(engagement_total) AS engagement,
               CAST(SUM(engagement_total) AS FLOAT) / COUNT(*) AS engagement_per_post
        FROM data_posts
        WHERE deleted = 0
        GROUP BY user_id, scope
    """,
    tests=(Unique(("user_id", "page_id")), NotNull("engagement_per_post")),
)
