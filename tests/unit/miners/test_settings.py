"""Settings: wrong ones are named, all at once, without their values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.settings import CONNECTION, load

SECRET = "canary-4711"
GOOD = {
    "ENVIRONMENT": "prod", "WEBSITE_SITE_NAME": "app", "DATABASE_URL": "mssql+pyodbc://server/db",
    f"{CONNECTION}__fullyQualifiedNamespace": "x.servicebus.windows.net", "TOKEN_KEY": SECRET,
    "REDIS_URL": "rediss://cache.example.com", "LAKE_URL": "https://a.blob.core.windows.net/lake",
}  # fmt: skip


def problems(**changed: str) -> str:
    """Give what the check says about changed settings."""
    with pytest.raises(ConfigurationError) as caught:
        load({**GOOD, **changed}).check()
    return str(caught.value)


def test_a_complete_set_passes_in_azure() -> None:
    """Or nobody could deploy."""
    load(GOOD).check()


def test_all_that_is_missing_is_named_at_once() -> None:
    """One a deploy would take an afternoon."""
    with pytest.raises(ConfigurationError) as caught:
        load({"WEBSITE_SITE_NAME": "app"}).check()
    for name in (CONNECTION, "DATABASE_URL", "TOKEN_KEY", "ENVIRONMENT"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "sqlite:///x.db"),
        ("REDIS_URL", "redis://localhost:6379"),
        ("GRAPH_BASE_URL", "http://localhost:8080"),
        ("GRAPH_BASE_URL", "http://graph.facebook.com"),
        ("LAKE_URL", "file:.local/lake"),
        (CONNECTION, f"Endpoint=sb://x;SharedAccessKey={SECRET};UseDevelopmentEmulator=true;"),
        ("GRAPH_MINUTE_SECONDS", "1"),
    ],
)
def test_what_is_for_a_desk_is_refused_in_azure(name: str, value: str) -> None:
    """Each of these would run, and be wrong, until somebody looks."""
    text = problems(**{name: value})
    assert name in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAGES_PER_MESSAGE", "0"), ("PAGES_PER_MESSAGE", SECRET), ("LOCK_SECONDS", "-1"), ("ENVIRONMENT", "Prod Env"),
        ("SETTLE_SECONDS", "soon"), ("SQL_THREADS", "1e9"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_without_being_shown(name: str, value: str) -> None:
    """The error stands in a log."""
    with pytest.raises(ConfigurationError) as caught:
        load({name: value})
    assert name in str(caught.value)
    assert SECRET not in str(caught.value)


def test_secrets_do_not_show_in_the_settings_text() -> None:
    """Somebody will log them."""
    assert SECRET not in repr(load(GOOD))


def test_an_empty_setting_is_an_absent_one() -> None:
    """Templates leave names with empty values."""
    assert load({"PAGES_PER_MESSAGE": "", "SETTLE_SECONDS": ""}).settle_seconds is None


def test_schedules_are_taken_by_their_suffix() -> None:
    """A feed's own setting needs no field here."""
    assert load({"POSTS_SCHEDULE_MINER": "0 0 * * * *"}).schedules == {"POSTS_SCHEDULE_MINER": "0 0 * * * *"}


NAMES = st.sampled_from(
    ["PAGES_PER_MESSAGE", "LOCK_SECONDS", "ENVIRONMENT", "GRAPH_API_VERSION", "OUTBOX_MAX_ROWS", "X"]
)


@given(st.dictionaries(NAMES, st.text(max_size=12)))
def test_any_text_is_settings_or_one_named_error(environment: dict[str, Any]) -> None:
    """Anything else would be a stack trace at the first invocation."""
    try:
        load(environment)
    except ConfigurationError as error:
        assert any(name in str(error) for name in environment)  # noqa: PT017 - either outcome is right
