"""Route templates as ASP.NET matches them."""

import pytest

from infra.local.host.functions import Function, HttpTrigger
from infra.local.host.routes import Route, compiled, match


def route(template: str, *methods: str, prefix: str = "api") -> Route:
    trigger = HttpTrigger("req", template, frozenset(methods), "anonymous")
    return compiled(Function(template, template, trigger, {}, None), trigger, prefix)


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("users", "/api/users", {}),
        ("Users", "/API/users/", {}),
        ("users/{id}", "/api/users/a%20b", {"id": "a b"}),
        ("users/{id:int}", "/api/users/7", {"id": "7"}),
        ("users/{id:int?}", "/api/users", {}),
        ("users/{id=5}", "/api/users", {"id": "5"}),
        ("files/{*path}", "/api/files/a/b.txt", {"path": "a/b.txt"}),
        ("/{*route}", "/api/anything/at/all", {"route": "anything/at/all"}),
        ("a/{x:alpha:length(2)}", "/api/a/zz", {"x": "zz"}),
        ("a/{x:range(1,9)}", "/api/a/9", {"x": "9"}),
        ("{name}.json", "/api/report.json", {"name": "report"}),
    ],
)
def test_a_path_that_fits_gives_its_parameters(template, path, expected):
    """Functions read them from route_params under these names."""
    found = match([route(template)], "GET", path)

    assert found is not None
    assert found[1] == expected


@pytest.mark.parametrize(
    ("template", "path"),
    [("users/{id:int}", "/api/users/x"), ("users", "/users"), ("a/{x:range(1,9)}", "/api/a/10"), ("a", "/api/a/b")],
)
def test_a_path_that_does_not_fit_is_not_found(template, path):
    """A constraint decides whether a route exists, not whether its value is good."""
    assert match([route(template)], "GET", path) is None


def test_a_method_that_no_route_takes_is_not_found():
    """Azure answers 404, not 405."""
    assert match([route("users", "POST")], "GET", "/api/users") is None


def test_the_more_literal_route_wins():
    """Registration order must not decide, since it does not in Azure."""
    found = match([route("{*rest}"), route("{id}"), route("{id:int}"), route("me")], "GET", "/api/me")

    assert found is not None
    assert found[0].function.name == "me"


def test_an_empty_prefix_puts_routes_at_the_root():
    """Web frameworks behind one catch-all route need it."""
    assert match([route("{*rest}", prefix="")], "GET", "/") is not None
