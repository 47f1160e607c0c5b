"""How many ads each ad account has in each state; those that the API lists no more count as gone."""

from pipeline.storage.marts.base import AcceptedValues, Mart, NotNull, Unique

MART = Mart(
    name="ads_per_status",
    feeds=("ads",),
    select="""
        SELECT user_id, scope AS account_id, status, COUNT(*) AS ads
        FROM (SELECT user_id, scope, CASE WHEN deleted = 1 THEN 'GONE' ELSE status END AS status FROM data_ads) AS ad
        GROUP BY user_id, scope, status
    """,
    tests=(
        Unique(("user_id", "account_id", "status")),
        NotNull("status"),
        # The API's own states of an ad; an ad without one is written as empty text.
        AcceptedValues("status", ("ACTIVE", "PAUSED", "ARCHIVED", "DELETED", "GONE", "")),
    ),
)
