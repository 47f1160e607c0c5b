"""HTTP route templates: literals, {name}, {name:int?}, {*rest}."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from infra.local.host.functions import Function, HttpTrigger

_PARAMETER = re.compile(r"\{(\*{0,2})(\w+)((?::[^{}():?=]+(?:\([^()]*\))?)*)(\?)?(?:=([^{}]*))?\}")
_CONSTRAINTS = {
    "int": r"-?\d+",
    "long": r"-?\d+",
    "bool": r"[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]",
    "alpha": r"[A-Za-z]+",
    "guid": r"\{?[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\}?",
    "decimal": r"-?\d+(?:\.\d+)?",
    "double": r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "float": r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "datetime": r"\d{4}-\d{1,2}-\d{1,2}(?:[T ][^/]*)?",
    "required": r"[^/]+",
}
_LITERAL, _CONSTRAINED, _FREE, _REST = range(4)


class Route(NamedTuple):
    """A compiled route; `order` puts the more literal one first, as ASP.NET does."""

    function: Function
    trigger: HttpTrigger
    path: str
    pattern: re.Pattern[str]
    checks: tuple[tuple[str, str, str], ...]
    defaults: dict[str, str]
    order: tuple[int, ...]


def compiled(function: Function, trigger: HttpTrigger, prefix: str) -> Route:
    """Compile a route under `prefix`; raises ValueError for a template nobody can match."""
    path = "/".join(part for part in (prefix.strip("/"), trigger.route.strip("/")) if part)
    pattern, order, checks, defaults = "", [], [], {}
    for segment in path.split("/") if path else ():
        text, rank, found, given = _segment(segment)
        pattern += text
        order.append(rank)
        checks += found
        defaults.update(given)
    # A route that ends in an optional parameter must lose to the same route without it.
    return Route(function, trigger, path, re.compile(pattern, re.IGNORECASE), tuple(checks), defaults, tuple(order))


def match(routes: Iterable[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Find the function for a request; a method that no route takes is not found, as in Azure."""
    wanted = "/" + path.strip("/") if path.strip("/") else ""
    for route in sorted(routes, key=lambda each: each.order):
        if route.trigger.methods and method.upper() not in route.trigger.methods:
            continue
        found = route.pattern.fullmatch(wanted)
        if found is None:
            continue
        values = {name: unquote(value) for name, value in found.groupdict().items() if value}
        if all(_holds(values.get(name), check, argument) for name, check, argument in route.checks):
            return route, {**route.defaults, **values}
    return None


def _segment(segment: str) -> tuple[str, int, list[tuple[str, str, str]], dict[str, str]]:
    parameters = list(_PARAMETER.finditer(segment))
    if not parameters:
        if "{" in segment or "}" in segment:
            raise ValueError(f"{segment!r} is not a route segment")
        return f"/{re.escape(segment)}", _LITERAL, [], {}
    checks: list[tuple[str, str, str]] = []
    defaults: dict[str, str] = {}
    text, at, optional, rank = "", 0, False, _FREE
    for parameter in parameters:
        text += re.escape(segment[at : parameter.start()])
        at = parameter.end()
        stars, name, constraints, question, default = parameter.groups()
        if stars:
            # The rest of the path, slashes and all, or nothing.
            return f"(?:/(?P<{name}>.*))?", _REST, [], {}
        if default is not None:
            defaults[name] = default
        optional = optional or bool(question) or default is not None
        value = "[^/]+"
        for constraint in filter(None, constraints.split(":")):
            kind, _, argument = constraint.rstrip(")").partition("(")
            rank = _CONSTRAINED
            if kind in _CONSTRAINTS:
                value = f"(?:{_CONSTRAINTS[kind]})"
            else:
                checks.append((name, kind, argument))
        text += f"(?P<{name}>{value})"
    text += re.escape(segment[at:])
    return (f"(?:/{text})?" if optional else f"/{text}"), rank, checks, defaults


def _holds(value: str | None, check: str, argument: str) -> bool:
    if value is None:
        return True
    numbers = [int(number) for number in re.findall(r"-?\d+", argument)]
    if check == "regex":
        return re.search(argument, value) is not None
    if check in ("length", "minlength", "maxlength"):
        measured = len(value)
    elif check in ("min", "max", "range") and re.fullmatch(r"-?\d+", value):
        measured = int(value)
    else:
        return False
    low, high = (numbers * 2)[:2]
    if check.startswith("min"):
        return measured >= low
    if check.startswith("max"):
        return measured <= low
    return low <= measured <= high
