"""`users`: add, import, list, disable. A token never stands on the command line."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import SecretStr

from pipeline.commands.base import FAILED, OK, Command, Context, WrongUse, with_json
from pipeline.commands.text import table, to_json

if TYPE_CHECKING:
    from pipeline.bootstrap import Pipeline
    from pipeline.operations.users import Added, NewUser, Users

COLUMNS = ("user_id", "token", "source", "priority")


class _RefuseToken(argparse.Action):
    """Say why a token as an argument is refused, and how to give one instead."""

    def __call__(self, parser: argparse.ArgumentParser, *arguments: object, **keywords: object) -> NoReturn:
        parser.error(
            "--token: an argument is seen by every process of this machine and kept in the shell's history; "
            "use --token-stdin or --token-env NAME"
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="add a user or store a new token; wakes what waited for the token")
    add.add_argument("user", help="the user's id in the source")
    token = add.add_mutually_exclusive_group()
    token.add_argument("--token-stdin", action="store_true", help="read the token from standard input")
    token.add_argument("--token-env", metavar="NAME", help="read the token from this environment variable")
    token.add_argument("--token", action=_RefuseToken, nargs="?", help=argparse.SUPPRESS)
    add.add_argument("--source", default="graph", help="the source the token is for (default: graph)")
    add.add_argument("--priority", type=int, help="users of higher priority are mined first (default: 0)")
    load = actions.add_parser("import", help=f"add users from a CSV file with the columns {', '.join(COLUMNS)}")
    load.add_argument("file", type=Path, help="only user_id must be there; an empty cell leaves what is stored")
    listed = actions.add_parser("list", help="list users and what is known of their tokens")
    listed.add_argument("--limit", type=int, default=1000, help="at most so many (default: 1000)")
    with_json(listed)
    disable = actions.add_parser("disable", help="stop scheduling a user; `add` makes it active again")
    disable.add_argument("user")


async def run(args: argparse.Namespace, context: Context) -> int:
    """Do what the action says."""
    async with context.pipeline() as pipeline:
        if args.action == "list":
            return await _list(args, context, pipeline)
        users = _users(pipeline)
        if args.action == "add":
            return await _add(args, context, users)
        if args.action == "import":
            return await _import(args, context, users)
        if not await users.disable(args.user):
            context.note(f"users: there is no user {args.user!r}")
            return FAILED
        context.say(f"user {args.user} is disabled; what is under way ends by itself")
        return OK


def _users(pipeline: Pipeline) -> Users:
    from pipeline.operations.users import Users

    return Users(pipeline.database, pipeline.flusher, pipeline.plans, pipeline.keys)


async def _add(args: argparse.Namespace, context: Context, users: Users) -> int:
    from pipeline.operations.users import NewUser

    added = await _put(users, [NewUser(args.user, _token(args, context), args.source, args.priority)])
    context.say(f"user {args.user} is {'added' if added.users else 'active'}{_and_token(added)}")
    return OK


def _and_token(added: Added) -> str:
    if not added.tokens:
        return ", without a new token"
    later = " as soon as the bus is in reach" if added.unsent else ""
    return f", token stored, {added.woken} chain{'s' if added.woken != 1 else ''} woken{later}"


def _token(args: argparse.Namespace, context: Context) -> SecretStr | None:
    if args.token_stdin:
        text = context.stdin.readline().strip()
        if not text:
            raise WrongUse("--token-stdin: standard input is empty")
        return SecretStr(text)
    if args.token_env:
        text = context.environment.get(args.token_env, "").strip()
        if not text:
            raise WrongUse(f"--token-env: the environment variable {args.token_env} is not set")
        return SecretStr(text)
    return None


async def _import(args: argparse.Namespace, context: Context, users: Users) -> int:
    try:
        with args.file.open(newline="", encoding="utf-8-sig") as file:
            added = await _put(users, _rows(file, args.file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WrongUse(f"FILE: {args.file}: {error}") from error
    later = "; they are rung as soon as the bus is in reach" if added.unsent else ""
    context.say(f"{added.users} users added, {added.tokens} tokens stored, {added.woken} chains woken{later}")
    return OK


def _rows(file: Any, path: Path) -> Iterator[NewUser]:
    from pipeline.operations.users import BadUser

    reader = csv.DictReader(file, restkey="", strict=True)
    found = tuple(reader.fieldnames or ())
    if "user_id" not in found or (unknown := set(found) - set(COLUMNS)):
        problem = "no column user_id" if "user_id" not in found else f"unknown columns {', '.join(sorted(unknown))}"
        raise WrongUse(f"FILE: {path}: {problem}; the first line names columns of {', '.join(COLUMNS)}")
    for row in reader:
        try:
            yield _row(row)
        except BadUser as error:
            problem = f"FILE: {path}, line {reader.line_num}: {error}"
            raise WrongUse(f"{problem}; lines above may be stored already, importing again is harmless") from None


def _row(row: dict[str, Any]) -> NewUser:
    from pipeline.operations.users import BadUser, NewUser

    if "" in row:
        raise BadUser("more cells than columns")
    cells = {name: (value or "").strip() for name, value in row.items()}
    priority = cells.get("priority", "")
    if priority and not priority.lstrip("-").isdecimal():
        raise BadUser(f"priority {priority[:20]!r}: not a whole number")
    token = SecretStr(cells["token"]) if cells.get("token") else None
    user = NewUser(cells["user_id"], token, cells.get("source") or "graph", int(priority) if priority else None)
    user.check()
    return user


async def _put(users: Users, new: Sequence[NewUser] | Iterator[NewUser]) -> Added:
    from pipeline.operations.users import BadUser

    try:
        return await users.add(new)
    except BadUser as error:
        raise WrongUse(str(error)) from error


async def _list(args: argparse.Namespace, context: Context, pipeline: Pipeline) -> int:
    from pipeline.storage import reports

    rows = await pipeline.database.read(reports.users_with_tokens, limit=args.limit)
    if args.json:
        context.say(to_json([row._asdict() | {"stored_at": _moment(row.stored_at)} for row in rows]))
        return OK
    cells = [(r.user_id, r.state, r.priority, r.source or "-", r.token, _moment(r.stored_at)) for r in rows]
    context.say(table(("user", "state", "priority", "source", "token", "stored (UTC)"), cells))
    return OK


def _moment(micros: int) -> datetime | None:
    return datetime.fromtimestamp(micros / 1_000_000, UTC) if micros else None


COMMAND = Command("users", "say who is mined, and store tokens", configure, run)
