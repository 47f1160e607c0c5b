"""What each ad account spent on each day, and for how many clicks."""

from pipeline.storage.marts.base import Mart, NotNull, Unique

MART = Mart(
    name="ad_spend_per_day",
    feeds=("ads-clicks",),
    select="""
        SELECT user_id, scope AS account_id, source_date AS day, COUNT(*) AS ads,
               SUM(impressions) AS impressions, SUM(clicks) AS clicks, SUM(spend) AS spend,
               CASE WHEN SUM(clicks) = 0 THEN NULL ELSE SUM(spend) / SUM(clicks) END AS cost_per_click
        FROM data_ads_clicks
        WHERE deleted = 0
        GROUP BY user_id, scope, source_date
    """,
    tests=(Unique(("user_id", "account_id", "day")), NotNull("spend"), NotNull("cost_per_click", where="clicks > 0")),
)
