"""What each user earned on each day (UTC), per currency: sums over currencies would mean nothing."""

from pipeline.storage.marts.base import Mart, NotNull, Unique

MART = Mart(
    name="revenue_per_day",
    feeds=("transactions",),
    select="""
        SELECT user_id, source_date AS day, currency, COUNT(*) AS transactions, SUM(amount) AS revenue,
               COUNT(DISTINCT fan_id) AS fans
        FROM data_transactions
        WHERE deleted = 0
        GROUP BY user_id, source_date, currency
    """,
    tests=(Unique(("user_id", "day", "currency")), NotNull("currency"), NotNull("revenue")),
)
