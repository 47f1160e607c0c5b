"""Look by id for what a finished refresh did not return: what is gone becomes a tombstone (rule 16)."""

from __future__ import annotations

from pipeline.chains import protocol
from pipeline.chains.protocol import Chain
from pipeline.miners.plan import Plan
from pipeline.miners.tools import Tools
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import read_item
from pipeline.sources.base import Fault, FaultKind
from pipeline.storage import pages
from pipeline.storage.items import Candidate, deletion, not_returned
from pipeline.storage.outbox import Held
from pipeline.storage.quarantine import Bad
from pipeline.storage.tokens import read_sealed

VERIFY_ITEMS = 50
"""Items that one refresh reads by id because its listing did not return them; the next refresh goes on."""


class Verifying:
    """Reads items by id."""

    def __init__(self, tools: Tools) -> None:
        self.database = tools.database
        self.sources = tools.sources
        self.secret = tools.secret
        self.settings = tools.settings
        self.clock = tools.clock

    async def verify(self, plan: Plan, chain: Chain) -> list[Held]:
        """
        Read by id what a finished refresh did not return; what is gone becomes a tombstone (rule 16).

        A crash in between loses nothing: the next refresh misses the same items again.
        """
        missing = await self.database.read(
            not_returned, chain.key, mark=protocol.mark_of(chain), lo=chain.lo, hi=chain.hi, limit=VERIFY_ITEMS
        )
        if not missing:
            return []
        now = await self.database.now()
        source = self.sources[plan.feed.source]
        sealed = await self.database.read(read_sealed, chain.key.user_id, plan.feed.source)
        token = self.secret(chain.key.user_id, plan.feed.source, sealed)
        deadline = self.clock() + self.settings.message_time_budget_seconds
        found: list[Candidate] = []
        bad: list[Bad] = []
        for item_id, moment in missing if token else ():
            assert token
            if self.clock() > deadline:
                break
            answer = await source.fetch_item(plan.feed, chain.key.user_id, chain.key.scope, item_id, token)
            if isinstance(answer, Fault):
                if answer.kind is not FaultKind.GONE:
                    break
                found.append(deletion(item_id, moment))
            else:
                item = read_item(plan.feed, answer, observed=now)
                (found if isinstance(item, Candidate) else bad).append(item)  # type: ignore[arg-type]  # one of the two
        return await self.database.write(
            "verify",
            pages.commit_items,
            chain,
            plan.feed,
            found,
            bad,
            now,
            lambda accepted, nonce: encode(plan.feed, plan.topic, chain, accepted, nonce),
        )
