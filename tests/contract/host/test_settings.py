"""Settings as Azure reads them: precedence, spellings, references."""

from datetime import timedelta

import pytest

from infra.local.host.settings import AppSettings, HostJson, SettingMissing, read_json, timespan


def test_the_environment_wins_over_local_settings(tmp_path):
    """In the cloud only the environment exists; a desk must be able to override its file the same way."""
    (tmp_path / "local.settings.json").write_text('{"Values": {"A": "file", "B": "file", "N": 3, "T": true}}')

    settings = AppSettings.load(tmp_path, {"A": "environment"})

    assert [settings.get(name) for name in "ABNT"] == ["environment", "file", "3", "true"]


def test_a_reference_is_replaced_without_regard_to_case():
    """.NET configuration ignores case, so %posts_queue% works in Azure and must work here."""
    settings = AppSettings({"POSTS_QUEUE": "posts", "ENVIRONMENT": "local"})

    resolved = settings.resolve("%posts_queue%-%ENVIRONMENT%")

    assert resolved == "posts-local"


def test_a_missing_reference_is_named():
    """'Cannot resolve' without a name costs an hour."""
    with pytest.raises(SettingMissing, match="POSTS_SCHEDULE"):
        AppSettings({}).resolve("%POSTS_SCHEDULE%")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"BUS": "Endpoint=x"}, ("Endpoint=x", None)),
        ({"AzureWebJobsBUS": "Endpoint=y", "BUS": "Endpoint=x"}, ("Endpoint=y", None)),
        ({"BUS__fullyQualifiedNamespace": "n.example"}, (None, "n.example")),
    ],
)
def test_a_connection_is_found_in_each_form_azure_knows(values, expected):
    """Desks use connection strings, the cloud uses an identity; the app's code names one setting for both."""
    connection = AppSettings(values).connection("BUS")

    assert (connection.connection_string, connection.namespace) == expected


def test_a_missing_connection_names_the_setting_and_the_identity_form():
    """The message has to tell both ways out."""
    with pytest.raises(SettingMissing, match=r"BUS is missing.*BUS__fullyQualifiedNamespace"):
        AppSettings({}).connection("BUS")


@pytest.mark.parametrize("name", ["AzureWebJobs.miner.Disabled", "AzureWebJobs_miner_Disabled"])
@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_both_spellings_disable_a_function(name, value):
    """Linux has no dots in names of settings, Windows has; people copy either."""
    assert AppSettings({name: value}).disabled_by("miner") == name


def test_false_does_not_disable():
    """A setting of '0' is how a function is switched on again."""
    assert AppSettings({"AzureWebJobs.miner.Disabled": "0"}).disabled_by("miner") is None


def test_an_override_wins_over_host_json():
    """The tuning knob of production: no deployment is needed to change a concurrency."""
    settings = AppSettings({"AzureFunctionsJobHost__extensions__serviceBus__maxConcurrentCalls": "3"})
    host_json = HostJson({"extensions": {"serviceBus": {"maxConcurrentCalls": 16, "prefetchCount": 5}}}, settings)

    calls = host_json.whole("extensions.serviceBus.maxConcurrentCalls", 1)

    assert calls == 3
    assert host_json.whole("extensions.servicebus.prefetchcount", 1) == 5


def test_an_override_creates_what_host_json_does_not_have():
    """Most host.json files are short."""
    settings = AppSettings({"AzureFunctionsJobHost__functionTimeout": "00:00:07"})

    timeout = HostJson({}, settings).span("functionTimeout", None)

    assert timeout == timedelta(seconds=7)


@pytest.mark.parametrize("value", ["-1", "-00:00:00.0010000"])
def test_an_infinite_span_is_none(value):
    """.NET writes infinity in two ways."""
    host_json = HostJson({"functionTimeout": value}, AppSettings({}))

    assert host_json.span("functionTimeout", timedelta(1)) is None


def test_a_number_that_is_none_is_named():
    """A typing error in host.json must not surface as a traceback of the host."""
    host_json = HostJson({"extensions": {"serviceBus": {"prefetchCount": "many"}}}, AppSettings({}))

    with pytest.raises(ValueError, match=r"extensions\.serviceBus.prefetchCount is 'many'"):
        host_json.whole("extensions.serviceBus.prefetchCount", 0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:05:00", 300), ("1.00:00:01", 86_401), ("-00:00:01", -1), ("00:00:00.5", 0.5)]
)
def test_timespans_are_read(text, seconds):
    """They come from .NET, not from ISO 8601."""
    assert timespan(text).total_seconds() == seconds


def test_a_timespan_that_is_none_is_refused():
    """Guessing a unit would be worse."""
    with pytest.raises(ValueError, match="five minutes"):
        timespan("five minutes")


def test_json_may_have_comments_commas_and_a_byte_order_mark(tmp_path):
    """Visual Studio and the .NET tools write and take all three."""
    path = tmp_path / "host.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": "http://x", // a comment\n "b": [1, 2,], /* more */ "c": ",]",}')

    document = read_json(path)

    assert document == {"a": "http://x", "b": [1, 2], "c": ",]"}
