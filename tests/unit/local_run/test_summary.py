"""What is said at the end."""

from __future__ import annotations

from pathlib import Path

from infra.local.run import summary
from infra.local.run.compare import Key, Verdict
from infra.local.run.places import Places, free_ports
from infra.local.run.progress import FeedLine, Picture
from infra.local.run.session import Report

GOOD = Verdict(10, 10, 0, [], [], [], [], [])
BAD = Verdict(10, 9, 0, [Key("posts", "u", "p", "7")], [], [], [], [])


def _report(verdict: Verdict) -> Report:
    return Report(verdict=verdict, picture=Picture(feeds=[FeedLine("ads-clicks", 10, 10)], calls=40), paging_anew=100)


def test_a_match_says_so_and_where_to_look(tmp_path: Path):
    """The next step of a newcomer is to look at the data."""
    said = summary.text(_report(GOOD), Places(tmp_path, free_ports()))

    assert "The subscribers hold the truth." in said
    assert "lost 0   twice 0" in said
    assert "40 API calls; paging everything anew at each order takes 100: 60 saved" in said
    assert "data_ads_clicks" in said
    assert said.count(".venv/bin/python -m") == 2


def test_a_mismatch_names_examples_and_the_errors_of_the_host(tmp_path: Path):
    """Whoever has to find out begins with these lines."""
    places = Places(tmp_path, free_ports())
    places.log("host").parent.mkdir()
    places.log("host").write_text("12:00:00 INFO fine\n12:00:01 ERROR posts_miner failed: boom\n")

    said = summary.text(_report(BAD), places)

    assert "NOT the truth: lost 1 (posts/p/7)" in said
    assert "1 errors in" in said
    assert "posts_miner failed: boom" in said


def test_tables_that_differ_from_the_lake_are_no_match():
    """Two subscribers, one truth."""
    report = _report(GOOD)
    report.tables_differ = 3

    assert not report.matched
