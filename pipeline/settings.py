"""App settings: read from the environment once, checked together, never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline import redaction
from pipeline.errors import ConfigurationError

CONNECTION = "MINER_AZURE_SERVICE_BUS"
NAMESPACE = f"{CONNECTION}__fullyQualifiedNamespace"
SCHEDULE_SUFFIX = "_SCHEDULE_MINER"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

Seconds = float


class Settings(BaseSettings):
    """
    Every setting of the app, by the name it has in the environment in lower case.

    Durations are seconds. What a feed declares (`settle`, windows) may be overridden for all feeds at a desk.
    """

    model_config = SettingsConfigDict(
        case_sensitive=False, extra="ignore", env_ignore_empty=True, frozen=True, use_attribute_docstrings=True
    )

    environment: str = Field(default="local", pattern=r"^[a-z0-9][a-z0-9-]{0,20}$")
    """Ends every queue's and topic's name."""
    website_site_name: str = ""
    """Set by Azure; then nothing local is accepted."""

    # Where things are.
    miner_azure_service_bus: SecretStr | None = None
    """A connection string (a desk, an emulator)."""
    miner_azure_service_bus__fullyqualifiednamespace: str = ""
    """The namespace's host name, with managed identity (Azure)."""
    servicebus_control_url: str = ""
    """The local Service Bus's control interface, for depths of queues; Azure is asked through its own management."""
    database_url: SecretStr | None = None
    """`sqlite:///FILE` at a desk, `mssql+pyodbc://…` in Azure."""
    redis_url: SecretStr | None = None
    """A hint that spares work; without it everything works the same."""
    lake_url: str = ""
    """A folder (`file:…`) or a container (`https://account.blob.core.windows.net/lake`)."""
    lake_connection: SecretStr | None = None
    """A storage connection string where identity cannot be used, e.g. Azurite."""
    token_key: SecretStr | None = None
    """32 random bytes in base64 that seal tokens in SQL; several, by commas, rotate: the first seals."""

    # Sources.
    graph_base_url: str = "https://graph.facebook.com"
    """Where the Graph API is; https, or a loopback address."""
    graph_api_version: str = Field(default="v26.0", pattern=r"^v\d+\.\d+$")
    """The version in every path; the served one is compared with it."""
    graph_app_secret: SecretStr | None = None
    """Sends `appsecret_proof` with each call."""
    graph_access_token: SecretStr | None = None
    """A single user's token, for a first try; needs `GRAPH_USER_ID`. A stored one (`users add`) replaces it at once."""
    graph_user_id: str = ""
    """The user that `GRAPH_ACCESS_TOKEN` belongs to."""
    graph_minute_seconds: float = Field(default=60.0, gt=0, le=60)
    """How long the API's minute lasts: less only against a simulator with a time scale; refused in Azure."""
    rest_base_url: str = ""
    """Where the generic REST API is; empty switches its feeds off."""
    source_proxy_url: str = ""
    """An HTTP proxy for calls to sources."""
    api_total_seconds: Seconds = Field(default=20.0, gt=0, le=60)
    """One fetch with its quick retries."""
    api_read_seconds: Seconds = Field(default=10.0, gt=0, le=60)
    """One answer."""

    # Feeds.
    feeds_enabled: str = ""
    """Names separated by commas; empty means all whose source is configured."""
    feeds_package: str = ""
    """A package of own feeds, importable where the app runs."""
    subscribers_package: str = ""
    """A package of own subscribers, likewise."""
    scopes_max_age_seconds: Seconds = Field(default=86_400, ge=0)
    """How long discovered pages and ad accounts are believed."""
    settle_seconds: Seconds | None = Field(default=None, ge=0)
    """Replaces every feed's `settle`; for a desk."""
    fresh_window_seconds: Seconds | None = Field(default=None, gt=0)
    """Replaces every feed's `fresh_window`; for a desk."""
    refresh_every_seconds: Seconds | None = Field(default=None, gt=0)
    """Replaces every feed's `refresh_every`; for a desk."""
    refresh_window_seconds: Seconds | None = Field(default=None, gt=0)
    """Replaces every feed's `refresh_window`; for a desk."""
    sweep_every_seconds: Seconds | None = Field(default=None, ge=0)
    """Replaces every feed's `sweep_every`; for a desk."""

    # How a message is worked.
    pages_per_message: int = Field(default=5, ge=1, le=50)
    """Pages that one doorbell may fetch before the chain yields."""
    message_time_budget_seconds: Seconds = Field(default=20.0, gt=0, le=120)
    """No new page is begun under a doorbell after this."""
    lock_seconds: Seconds = Field(default=60.0, ge=1, le=300)
    """LockDuration of the mining queues."""
    token_recheck_seconds: Seconds = Field(default=900.0, gt=0)
    """How often a chain that waits for a token looks; a stored token wakes it at once."""
    api_down_seconds: Seconds = Field(default=60.0, gt=0)
    """How long a chain parks when its API is down and gives no hint."""
    brake_recheck_seconds: Seconds = Field(default=60.0, gt=0)
    """How often a chain that waits for the brake looks."""
    dead_letter_retry_seconds: Seconds = Field(default=300.0, gt=0)
    """How long a subscriber's dead letter waits for its first retry; six times as long for each further one."""
    mining_user_allowlist: str = ""
    """Only these users, separated by commas; empty means all."""

    # Limits of the store.
    sql_threads: int = Field(default=8, ge=1, le=64)
    """Threads and connections to the database, per worker process; SQLite, which has one writer, gets one."""
    max_senders: int = Field(default=8, ge=1, le=100)
    """Open senders per worker process; each is a connection."""
    outbox_max_rows: int = Field(default=20_000, ge=1)
    """Unsent messages beyond which chains wait."""
    outbox_max_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """Unsent bytes beyond which chains wait."""
    commit_max_seconds: Seconds = Field(default=2.0, gt=0)
    """Mean time of a transaction beyond which chains wait."""
    backpressure_seconds: Seconds = Field(default=30.0, gt=0)
    """How long they wait."""
    outbox_retention_seconds: Seconds = Field(default=0, ge=0)
    """How long sent messages are kept for `republish`; 0 removes them at once."""
    inbox_retention_seconds: Seconds = Field(default=30 * 86_400, ge=86_400)
    """Longer than any copy of a message can live: its time to live, plus what a person takes to send it again."""

    # Timers: the feeds' by the name of the setting, e.g. POSTS_SCHEDULE_MINER, and our own.
    schedules: Mapping[str, str] = Field(default_factory=dict)
    """The feeds' schedules, each in a setting of its own: `{FEED}_SCHEDULE_MINER`."""
    watchdog_schedule: str = "*/30 * * * * *"
    """When silent chains are looked for."""
    relay_schedule: str = "*/20 * * * * *"
    """When messages that a crash left are sent."""
    upkeep_schedule: str = "0 */10 * * * *"
    """When old rows are dropped and rates sampled."""

    @property
    def in_azure(self) -> bool:
        """Whether the app runs in Azure."""
        return bool(self.website_site_name)

    @property
    def enabled_feeds(self) -> tuple[str, ...]:
        """The names in FEEDS_ENABLED."""
        return _names(self.feeds_enabled)

    @property
    def configured_sources(self) -> frozenset[str]:
        """Sources that have an address; feeds of others are off."""
        return frozenset(name for name, url in (("graph", self.graph_base_url), ("rest", self.rest_base_url)) if url)

    @property
    def allowlist(self) -> frozenset[str]:
        """The users to mine; empty means all."""
        return frozenset(_names(self.mining_user_allowlist))

    def entity(self, base: str) -> str:
        """Give a queue's or topic's name in this environment."""
        return f"{base}-{self.environment}"

    def duration(self, name: Literal["settle", "fresh_window", "refresh_every", "refresh_window", "sweep_every"],
                 declared: timedelta) -> int:  # fmt: skip
        """Give a feed's duration in whole seconds, or the override at a desk."""
        override = getattr(self, f"{name}_seconds")
        return int(declared.total_seconds() if override is None else override)

    def secrets(self) -> list[str]:
        """Give every secret value and the secret parts of URLs and connection strings, so that they can be hidden."""
        values = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        parts = [redaction.parts_of_url(value) + redaction.parts_of_connection(value) for value in values]
        keys = [key.strip() for key in self.token_key.get_secret_value().split(",")] if self.token_key else []
        return [*values, *keys, *(part for one in parts for part in one)]

    def check(self) -> None:
        """Raise one ConfigurationError that names every setting that is missing or wrong for where the app runs."""
        problems = [f"{name} is missing" for name in self._missing()]
        if self.in_azure:
            problems += self._only_local()
        if problems:
            raise ConfigurationError("; ".join(problems))

    def _missing(self) -> list[str]:
        missing = []
        if not (self.miner_azure_service_bus or self.miner_azure_service_bus__fullyqualifiednamespace):
            missing.append(f"{CONNECTION} (or {NAMESPACE})")
        if not self.database_url:
            missing.append("DATABASE_URL")
        if not (self.token_key or self.graph_access_token):
            missing.append("TOKEN_KEY")
        if self.graph_access_token and not self.graph_user_id:
            missing.append("GRAPH_USER_ID (the user that GRAPH_ACCESS_TOKEN belongs to)")
        return missing

    def _only_local(self) -> list[str]:
        problems = []
        if "environment" not in self.model_fields_set:
            problems.append("ENVIRONMENT is missing")
        if self.database_url and self.database_url.get_secret_value().startswith("sqlite"):
            problems.append("DATABASE_URL names SQLite, which instances in Azure cannot share")
        bus = self.miner_azure_service_bus
        if bus and "UseDevelopmentEmulator=true" in bus.get_secret_value():
            problems.append(f"{CONNECTION} names an emulator")
        for name, url in (("GRAPH_BASE_URL", self.graph_base_url), ("REST_BASE_URL", self.rest_base_url)):
            if url and (urlsplit(url).hostname in LOCAL_HOSTS or urlsplit(url).scheme != "https"):
                problems.append(f"{name} is not a public https address")
        if self.redis_url and urlsplit(self.redis_url.get_secret_value()).hostname in LOCAL_HOSTS:
            problems.append("REDIS_URL names this machine")
        if not self.lake_url:
            problems.append("LAKE_URL is missing")
        if self.lake_url.startswith("file:"):
            problems.append("LAKE_URL names a folder")
        if self.servicebus_control_url:
            problems.append("SERVICEBUS_CONTROL_URL names an emulator")
        if self.graph_minute_seconds != 60:
            problems.append("GRAPH_MINUTE_SECONDS must be 60")
        return problems


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """
    Read settings from the environment (or a mapping in its place).

    Raises ConfigurationError naming each setting whose value does not fit, without the value.
    """
    source = os.environ if environment is None else environment
    fields = Settings.model_fields
    values: dict[str, Any] = {
        name.lower(): value for name, value in source.items() if name.lower() in fields and value != ""
    }
    values["schedules"] = {
        name.upper(): value for name, value in source.items() if name.upper().endswith(SCHEDULE_SUFFIX) and value
    }
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(faults) from None
    redaction.secrets.add(*settings.secrets())
    return settings


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
