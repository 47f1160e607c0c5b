"""
Forty secrets that a run works with, and a grep for them over everything that it wrote: none may be found.

Looked for in plain, URL-encoded and base64 form (at each of its three alignments, in both alphabets). What is
compressed is opened first: the lake's files, message bodies in SQL and on the bus.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import os
import secrets
import sqlite3
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError
from redis.asyncio import Redis

from infra.local.graph.tokens import APP_SECRET
from infra.local.run import users as wards
from infra.local.run.places import Places
from infra.local.run.stack import Stack
from pipeline.storage.tokens import new_key

COUNT = 40
GREP_SECONDS = 300
PEEKED = 2_000
"""Messages of each queue that are looked into."""

OPENED = "canaries-opened.bin"
CONTROL = "canaries-control.txt"
INPUTS = frozenset({"app.env", OPENED})
"""A person's own settings, readable by their owner only, hold secrets by design."""


class Canaries:
    """Secrets by name. `settings` are the app's own; users' tokens join them when they are known."""

    def __init__(self) -> None:
        self._bus, self.redis_secret, self._lake = (secrets.token_urlsafe(24) + "/+=" for _ in range(3))
        self.redis_secret = self.redis_secret.removesuffix("/+=")
        key = new_key()
        self.planted = {"TOKEN_KEY": key, "GRAPH_APP_SECRET": APP_SECRET, "REDIS_URL": self.redis_secret}
        self.planted |= {"MINER_AZURE_SERVICE_BUS": self._bus, "LAKE_CONNECTION": self._lake}

    def settings(self, places: Places) -> dict[str, str]:
        """Give the app's settings that hold secrets."""
        lake = f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={self._lake};EndpointSuffix=core.windows.net"
        return {
            "TOKEN_KEY": self.planted["TOKEN_KEY"],
            "GRAPH_APP_SECRET": APP_SECRET,
            "MINER_AZURE_SERVICE_BUS": places.connection.replace("SAS_KEY_VALUE", self._bus),
            "LAKE_CONNECTION": lake,
        }

    async def plant_tokens(self, stack: Stack) -> list[str]:
        """Store all users' tokens; where they are too few, all users get new ones. Gives the users' ids."""
        users = await wards.import_all(stack)
        while True:
            world = (await stack.graph.get("/__sim/world"))["users"]
            for user in world:
                if len(self.planted) < COUNT:
                    self.planted[f"token {len(self.planted)} of {user['id']}"] = user["token"]
            if len(self.planted) == COUNT:
                return users
            for user in world:
                await stack.graph.send("POST", f"/__sim/users/{user['id']}/token", {"action": "rotate"})
            users = await wards.import_all(stack)

    async def harvest(self, stack: Stack) -> None:
        """Write down what ends with the box: messages, dead letters, Redis, and what the app answers."""
        folder = stack.places.folder / "harvest"
        folder.mkdir(exist_ok=True)
        entities = await stack.bus.get("/emulator/entities")
        (folder / "messages.bin").write_bytes(await _messages(stack.places.connection, entities["queues"]))
        (folder / "redis.bin").write_bytes(await _redis(stack.cache.url))
        commands = (stack.product.run(*line.split(), answer_codes=(0, 1, 2)) for line in _COMMANDS)
        answers = await asyncio.gather(*commands)
        (folder / "answers.txt").write_text("\n".join([*answers, repr(await stack.status())]))

    async def judge(self, folder: Path, database: Path) -> dict[str, Any]:
        """Grep through all that the run wrote, then through a file with one canary in each form."""
        return await asyncio.to_thread(self._judge, folder, database)

    def _judge(self, folder: Path, database: Path) -> dict[str, Any]:
        opened, control = folder / OPENED, folder / CONTROL
        _open_all(folder, database, opened)
        files = [path for path in folder.rglob("*") if path.is_file() and path.name not in INPUTS]
        found = {(self._forms[form], path) for form, path in self._grep([*files, opened])}
        opened.unlink()
        examples = _examples(self.planted["TOKEN_KEY"])
        control.write_text("\n".join(examples))
        noticed = len(self._grep([control]))
        control.unlink()
        return {
            "planted": len(self.planted),
            "found": len(found),
            "where": sorted(f"{name} in {path}" for name, path in found)[:20],
            "files": len(files),
            "megabytes": round(sum(path.stat().st_size for path in files) / 1e6),
            "control": "red" if noticed == len(examples) else f"green for {len(examples) - noticed}",
        }

    @property
    def _forms(self) -> dict[str, str]:
        return {form: name for name, secret in self.planted.items() for form in _forms(secret)}

    def _grep(self, files: Iterable[Path]) -> list[tuple[str, str]]:
        """Give each form that was found with the name of the file that holds it."""
        options = ("--text", "--only-matching", "--with-filename", "--null", "--fixed-strings", "--file=-")
        done = subprocess.run(
            ["grep", *options, "--", *map(str, files)],
            input="\n".join(self._forms).encode(),
            capture_output=True,
            timeout=GREP_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"grep: {done.stderr[-500:].decode(errors='replace')}")
        hits = (line.partition("\0") for line in done.stdout.decode(errors="replace").splitlines())
        return [(form, Path(path).name) for path, _, form in hits]


_COMMANDS = ("users list", "status --json", "quarantine list", "doctor")


def _forms(secret: str) -> set[str]:
    """Give how a secret may be written."""
    return {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), *_in_base64(secret.encode())}


def _examples(secret: str) -> list[str]:
    """Give lines of which each holds the secret in another form."""
    plain = [f"of{form}in the middle" for form in sorted({secret, quote(secret, safe=""), quote(secret)})]
    texts = [f"{'x' * before}{secret}, and more".encode() for before in range(3)]
    return [*plain, *(coded(text).decode() for text in texts for coded in (base64.b64encode, base64.urlsafe_b64encode))]


def _in_base64(secret: bytes) -> Iterator[str]:
    """Give the part of base64 that depends on the secret alone, wherever in the encoded text it begins."""
    for before in range(3):
        text = base64.b64encode(b"\0" * before + secret).decode()
        whole = text[(0, 2, 3)[before] : (len(secret) + before) // 3 * 4]
        yield whole
        yield whole.translate(str.maketrans("+/", "-_"))


def _open_all(folder: Path, database: Path, target: Path) -> None:
    """Write what is compressed in the lake, in SQL and in the messages into one file, opened."""
    with target.open("wb") as file:
        for path in folder.rglob("*.gz"):
            with contextlib.suppress(EOFError, OSError, zlib.error):  # a file that a kill cut short
                file.write(gzip.decompress(path.read_bytes()))
        file.writelines(_rows(database))


def _rows(database: Path) -> Iterator[bytes]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield from (_opened(value) + b"\n" for value in row if isinstance(value, (bytes, str)))


def _opened(value: bytes | str) -> bytes:
    body = value.encode() if isinstance(value, str) else value
    with contextlib.suppress(zlib.error):
        return zlib.decompress(body)
    return body


async def _messages(connection: str, queues: Mapping[str, Any]) -> bytes:
    """Peek at what waits and what is dead-lettered."""
    found: list[bytes] = []
    async with ServiceBusClient.from_connection_string(connection) as client:
        for queue, counts in queues.items():
            if counts["active"] + counts["locked"] + counts["scheduled"]:
                found += await _peeked(client, queue, None)
            if counts["deadLetter"]:
                found += await _peeked(client, queue, ServiceBusSubQueue.DEAD_LETTER)
    return b"\n".join(found)


async def _peeked(client: ServiceBusClient, queue: str, part: ServiceBusSubQueue | None) -> list[bytes]:
    found: list[bytes] = []
    number = 1
    async with client.get_queue_receiver(queue, sub_queue=part) as receiver:
        while len(found) < PEEKED:
            try:
                messages = await receiver.peek_messages(250, sequence_number=number)
            except ServiceBusError as error:
                raise RuntimeError(f"cannot peek into {queue}") from error
            if not messages:
                break
            number = (messages[-1].sequence_number or 0) + 1
            for message in messages:
                body = b"".join(bytes(each) for each in message.body)
                found.append(_opened(body) + repr((message.message_id, message.application_properties)).encode())
    return found


async def _redis(url: str) -> bytes:
    if not url:
        return b""
    client = Redis.from_url(url)
    try:
        dumped = [key + b" " + (await client.dump(key) or b"") async for key in client.scan_iter(count=500)]
    finally:
        await client.aclose()
    return b"\n".join(dumped)
