"""Ad insights: rows, report runs, and the ways in which runs go wrong."""

from __future__ import annotations

import pytest

from tests.contract.graph.conftest import Reader

FIELDS = "account_id,ad_id,ad_name,impressions,clicks,spend,actions"
PARAMS = {
    "level": "ad", "time_increment": "1", "fields": FIELDS, "time_range": '{"since":"2026-05-01","until":"2026-05-20"}'
}  # fmt: skip


async def start(reader: Reader, **params: str) -> str:
    """Start a report run as a POST with a form."""
    answer = await reader.client.post("/act_500/insights", data={**PARAMS, **params, "access_token": "tok-0"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["report_run_id"])


async def statuses(reader: Reader, run: str, polls: int) -> list[tuple[str, int]]:
    """Poll a run."""
    bodies = [(await reader.get(f"/{run}")).json() for _ in range(polls)]
    return [(body["async_status"], body["async_percent_completion"]) for body in bodies]


async def test_a_run_gets_on_by_polling_and_its_rows_are_the_truth(reader: Reader):
    """Create, poll, read: the three stages of the clicks feed."""
    run = await start(reader)
    seen = await statuses(reader, run, 3)

    rows = await reader.walk(f"/{run}/insights", limit=7)

    truth = await reader.control(
        "GET", "truth", edge="insights", user=0, since="2026-05-01", until="2026-05-20", fields=FIELDS, items=1
    )
    assert seen == [("Job Started", 50), ("Job Completed", 100), ("Job Completed", 100)]
    assert rows == [row["item"] for row in truth["rows"]]
    assert len(rows) > 50


async def test_numbers_are_text_and_zero_is_left_out(reader: Reader):
    """Insights write every number as text; a reader that sums text is a classic."""
    rows = await reader.walk("/act_500/insights", **PARAMS, limit=100)

    values = [row[name] for row in rows for name in ("impressions", "clicks", "spend") if name in row]
    assert all(isinstance(value, str) and float(value) >= 0 for value in values)
    assert "0" not in values


async def test_asking_at_once_gives_the_same_rows(reader: Reader):
    """The synchronous call and the run must agree."""
    run = await start(reader)
    await statuses(reader, run, 2)

    assert await reader.walk("/act_500/insights", **PARAMS, limit=50) == await reader.walk(f"/{run}/insights", limit=50)


async def test_insights_come_inside_other_nodes(reader: Reader):
    """Marketing clients read ads with their numbers in one call."""
    fields = "name,insights.date_preset(last_7d).time_increment(1){clicks,spend}"
    ads = await reader.walk("/act_500/ads", fields=fields, limit=5)
    ad = next(ad for ad in ads if "insights" in ad)

    direct = await reader.walk(
        f"/{ad['id']}/insights", date_preset="last_7d", time_increment=1, fields="clicks,spend", limit=100
    )

    assert ad["insights"]["data"] == direct


async def test_sums_by_account_equal_the_sum_of_days(reader: Reader):
    """Aggregation must not invent clicks."""
    days = await reader.walk("/act_500/insights", **PARAMS, limit=100)

    (total,) = await reader.walk("/act_500/insights", **{**PARAMS, "level": "account", "time_increment": "all_days"})

    assert int(total["clicks"]) == sum(int(row.get("clicks", 0)) for row in days)
    assert (total["date_start"], total["date_stop"]) == ("2026-05-01", "2026-05-20")


async def test_recent_days_grow_and_old_ones_do_not(reader: Reader):
    """The attribution window is why 28 days are read again."""
    recent = {**PARAMS, "time_range": '{"since":"2026-05-25","until":"2026-05-31"}', "limit": "100"}
    old = {**PARAMS, "time_range": '{"since":"2026-03-01","until":"2026-03-07"}', "limit": "100"}
    before = [await reader.walk("/act_500/insights", **params) for params in (recent, old)]
    await reader.control("POST", "clock", {"advance": 10 * 86_400})

    after = [await reader.walk("/act_500/insights", **params) for params in (recent, old)]

    assert before[0] != after[0]
    assert before[1] == after[1]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("job_stuck", [("Job Running", 12)]),
        ("job_fail", [("Job Failed", 60)]),
        ("job_100_running", [("Job Running", 100), ("Job Running", 100), ("Job Completed", 100)]),
    ],
)
async def test_runs_go_wrong(reader: Reader, kind: str, wanted: list[tuple[str, int]]):
    """Stuck for ever, failed, or at 100 per cent and still running."""
    await reader.fault(kind, times=1)
    run = await start(reader)

    seen = await statuses(reader, run, 4)

    assert seen[-len(wanted) :] == wanted


async def test_a_run_may_not_be_there_yet_and_its_result_not_readable(reader: Reader):
    """Code 100/33 right after creation is a race; 2601 on the result is transient."""
    await reader.fault("job_not_ready", times=1)
    run = await start(reader)
    early = (await reader.get(f"/{run}")).json()["error"]
    await reader.fault("result_error", times=1)
    await statuses(reader, run, 2)

    answers = [(await reader.get(f"/{run}/insights", limit=1)).json() for _ in range(2)]

    assert (early["code"], early["error_subcode"]) == (100, 33)
    assert (answers[0]["error"]["code"], answers[0]["error"]["error_subcode"]) == (2601, 1815107)
    assert len(answers[1]["data"]) == 1


async def test_rows_can_be_malformed_and_the_truth_names_them(reader: Reader):
    """A row has no id: it is named by ad and day."""
    await reader.fault("malformed_item", how="created_junk", share=0.3, edge="insights")

    rows = await reader.walk("/act_500/insights", **PARAMS, limit=100)

    truth = await reader.control("GET", "truth", edge="insights", user=0, since="2026-05-01", until="2026-05-20")
    junk = sum(row["date_start"] == "the day before yesterday" for row in rows)
    assert junk == sum(row["malformed"] == "created_junk" for row in truth["rows"]) > 5


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"time_range": '{"since":"2020-01-01","until":"2020-01-02"}'}, 3018),
        ({"fields": "ad_id,fame"}, 100),
        ({"level": "planet"}, 100),
        ({"time_range": "yesterday"}, 100),
    ],
)
async def test_wrong_parameters_are_refused_at_creation(reader: Reader, params: dict[str, str], code: int):
    """A run that cannot succeed is never started."""
    answer = await reader.client.post("/act_500/insights", data={**PARAMS, **params, "access_token": "tok-0"})

    assert answer.json()["error"]["code"] == code
