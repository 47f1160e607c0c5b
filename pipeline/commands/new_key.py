"""`new-key`: draw a key for TOKEN_KEY."""

from __future__ import annotations

import argparse

from pipeline.commands.base import OK, Command, Context


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


async def run(args: argparse.Namespace, context: Context) -> int:
    """Print a key."""
    from pipeline.storage.tokens import new_key

    context.say(new_key())
    context.note("set it as TOKEN_KEY; to rotate, put it before the old one, separated by a comma, and keep both")
    return OK


COMMAND = Command("new-key", "draw a key for TOKEN_KEY, which seals tokens in the database", configure, run)
