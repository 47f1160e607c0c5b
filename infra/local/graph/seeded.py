"""A world made from a seed: the same seed and the same end give the same bytes on every Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from infra.local.graph.clock import Clock, iso
from infra.local.graph.world import Body, Item, Listing, User, World

WORDS = (
    "new shop open today come and see our fresh bread coffee garden tools for the season with love from all of us "
    "thank you for your visit what a day music on the square tonight free entry bring friends rain or shine we bake "
    "while you sleep winter sale starts now half price on boots and coats last chance questions just ask below"
).split()
CORPUS_CHARACTERS = 32_768
FIRST_PAGE, FIRST_ACCOUNT, FIRST_USER = 1_000, 500, 10_000_000
FIRST_CAMPAIGN, FIRST_AD_SET, FIRST_AD = 300_000_000, 400_000_000, 600_000_000
FIRST_POST, POSTS_A_PAGE = 1_000_000_000, 1_000_000
FIRST_FAN, FANS = 20_000_000, 50_000
COMMENTS_A_POST = 100_000
TIE_EVERY = 25  # so many posts share the second of the post before them
REPLY_EVERY = 5
MASK = 2**64 - 1
LONG_MESSAGE_CHARACTERS = 8_000
ENVELOPE_BYTES = 330  # what a post's other usual fields take in JSON
STATUS_TYPES = ("added_photos", "mobile_status_update", "shared_story", "added_video")
REACTIONS = ("LIKE", "LOVE", "WOW", "HAHA", "SAD", "ANGRY", "CARE")
CATEGORIES = ("Shop", "Bakery", "Musician/band", "Community", "Local business")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large the world is; posts are per user, ads per ad account, comments per post on average."""

    seed: int = 7
    users: int = 50
    posts: int = 2000
    pages: int = 1
    ad_accounts: int = 1
    ads: int = 10
    comments: int = 2
    spread: int = 365 * 86_400
    post_bytes: int = 500


@lru_cache(maxsize=4)
def _corpus(seed: int) -> str:
    """Give the text that messages are cut from; a world that is made anew for each test needs it only once."""
    random = Random(seed)
    text = ""
    while len(text) < CORPUS_CHARACTERS + LONG_MESSAGE_CHARACTERS:
        text += random.choice(WORDS) + " "
    return text


class SeededMaker:
    """Makes bodies from an item's number, so that a hundred thousand posts need no memory until they are asked for."""

    def __init__(self, shape: Shape, end: int) -> None:
        self._shape = shape
        self._end = end
        self._corpus = _corpus(shape.seed)
        self._names: dict[str, str] = {}

    def body(self, item: Item) -> Body:
        """Give the body of a seeded item."""
        return getattr(self, f"_{item.kind}")(item)  # type: ignore[no-any-return]  # one method per kind

    def counts(self, item: Item) -> tuple[int, int, int]:
        """Give the seeded numbers of comments, replies among them, and reactions."""
        if item.kind == "comment":
            return 0, 0, item.number % 4
        if item.kind != "post" or item.number < FIRST_POST:
            return 0, 0, 0
        bits = self._bits(item)
        comments = bits % (2 * self._shape.comments + 1)
        return comments, comments // REPLY_EVERY, (bits >> 16) % 40

    def comments(self, post: Item) -> list[Item]:
        """Give the seeded comments of a post, oldest first."""
        total = self.counts(post)[0]
        number = post.number * COMMENTS_A_POST
        prefix = post.id.partition("_")[2]
        return [
            Item(
                "comment",
                f"{prefix}_{number + index}",
                owner=post.owner,
                parent=post.id,
                created=self._comment_time(post, index),
                number=number + index,
            )
            for index in range(1, total + 1)
        ]

    def post_of_comment(self, comment_id: str) -> str | None:
        """Give the post whose number begins a comment's id."""
        head, _, tail = comment_id.partition("_")
        if not (head.isdigit() and tail.isdigit()) or int(head) < FIRST_POST:
            return None
        return f"{FIRST_PAGE + (int(head) - FIRST_POST) // POSTS_A_PAGE}_{head}"

    def _post(self, item: Item) -> Body:
        bits = self._bits(item)
        index = item.number - FIRST_POST
        comments = bits % (2 * self._shape.comments + 1)
        text = item.id
        body: Body = {
            "id": text,
            "created_time": iso(item.created),
            "updated_time": iso(self._comment_time(item, comments) if comments else item.created),
            "message": self._message(index, bits >> 24),
            "from": {"id": item.parent, "name": self.page_name(item.parent)},
            "permalink_url": f"https://www.facebook.com/{item.parent}/posts/{text.partition('_')[2]}",
            "status_type": STATUS_TYPES[(bits >> 20) % len(STATUS_TYPES)],
            "is_published": True,
            "is_hidden": False,
        }
        if index % 97 == 17:
            del body["message"]
            body["story"] = f"{self.page_name(item.parent)} updated their cover photo."
        if shares := (bits >> 56) % 12:
            body["shares"] = {"count": shares}
        if (bits >> 60) % 3 == 0:
            body["full_picture"] = f"https://scontent.example/{text}.jpg"
        return body

    def _comment(self, item: Item) -> Body:
        bits = self._bits(item)
        index = item.number % COMMENTS_A_POST
        fan = (bits >> 8) % FANS
        body: Body = {
            "id": item.id,
            "created_time": iso(item.created),
            "from": {"id": str(FIRST_FAN + fan), "name": f"Fan {fan}"},
            "message": self._slice(bits >> 24, 8 + bits % 90),
            "like_count": bits % 4,
            "comment_count": 1 if index % REPLY_EVERY == REPLY_EVERY - 1 else 0,
            "is_hidden": False,
            "permalink_url": f"https://www.facebook.com/{item.parent}?comment_id={item.number}",
        }
        if index % REPLY_EVERY == 0:
            body["parent"] = {"id": f"{item.id.partition('_')[0]}_{item.number - 1}"}
        return body

    def _page(self, item: Item) -> Body:
        index = int(item.id) - FIRST_PAGE
        bits = self._bits(item)
        return {
            "id": item.id,
            "name": self.page_name(item.id),
            "username": f"page{index}",
            "category": CATEGORIES[index % len(CATEGORIES)],
            "category_list": [{"id": str(2200 + index % 5), "name": CATEGORIES[index % len(CATEGORIES)]}],
            "about": self._slice(bits, 60),
            "fan_count": bits % 90_000,
            "followers_count": bits % 90_000 + 92,
            "link": f"https://www.facebook.com/{item.id}",
            "verification_status": "not_verified",
            "tasks": ["ANALYZE", "ADVERTISE", "MODERATE", "CREATE_CONTENT", "MANAGE"],
            "were_here_count": bits % 700,
        }

    def _account(self, item: Item) -> Body:
        return {
            "id": item.id,
            "account_id": item.id.removeprefix("act_"),
            "name": f"Ad account {item.number}",
            "account_status": 1,
            "currency": "EUR",
            "timezone_name": "UTC",
            "timezone_id": 0,
            "amount_spent": str(self._bits(item) % 1_000_000),
            "created_time": iso(item.created),
        }

    def _campaign(self, item: Item) -> Body:
        return self._marketing(item, f"campaign {item.number}") | {"objective": "OUTCOME_TRAFFIC"}

    def _adset(self, item: Item) -> Body:
        campaign = str(FIRST_CAMPAIGN + item.number - FIRST_AD_SET)
        return self._marketing(item, f"ad set {item.number}") | {
            "campaign_id": campaign,
            "billing_event": "IMPRESSIONS",
        }

    def _ad(self, item: Item) -> Body:
        group = (item.number - FIRST_AD) // 5
        return self._marketing(item, f"ad {item.number - FIRST_AD}") | {
            "campaign_id": str(FIRST_CAMPAIGN + group),
            "adset_id": str(FIRST_AD_SET + group),
            "creative": {"id": f"9{item.id}"},
        }

    def _marketing(self, item: Item, name: str) -> Body:
        status = "PAUSED" if item.number % 7 == 3 else "ACTIVE"
        return {
            "id": item.id,
            "name": name,
            "account_id": item.parent.removeprefix("act_"),
            "status": status,
            "configured_status": status,
            "effective_status": status,
            "created_time": iso(item.created),
            "updated_time": iso(min(self._end, item.created + self._bits(item) % 864_000)),
        }

    def page_name(self, page_id: str) -> str:
        """Give a page's name."""
        return f"Page {int(page_id) - FIRST_PAGE}"

    def _message(self, index: int, bits: int) -> str:
        if index % 97 == 5:
            return "Größe, façade, Ελλάδα, 日本語 – " + self._slice(bits, 60)
        if index % 97 == 11:
            return "🎉👩‍👩‍👧 " + self._slice(bits, 60)
        if index % 997 == 23:
            return self._slice(bits, LONG_MESSAGE_CHARACTERS)
        usual = max(20, self._shape.post_bytes - ENVELOPE_BYTES)
        return self._slice(bits, usual * 3 // 4 + (bits >> 18) % (usual // 2))

    def _slice(self, bits: int, length: int) -> str:
        start = bits % CORPUS_CHARACTERS
        return self._corpus[start : start + length]

    def _comment_time(self, post: Item, index: int) -> int:
        step = 30 + (self._bits(post) >> 32) % 9_000
        return min(max(self._end, post.created), post.created + index * step)

    def _bits(self, item: Item) -> int:
        return mix(self._shape.seed, item.number)


def mix(seed: int, number: int) -> int:
    """Give 64 bits for a number (splitmix64): seeding a Random for each item would cost more than its whole body."""
    mixed = (seed * 1_000_003 + number) * 0x9E3779B97F4A7C15 & MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & MASK
    return mixed ^ mixed >> 31


def build(shape: Shape, clock: Clock) -> World:
    """Make the world; its history ends at the clock's present time."""
    end = int(clock.now())
    world = World(seed=shape.seed, clock=clock, maker=SeededMaker(shape, end), end=end)
    start = end - shape.spread
    for index in range(shape.users):
        user = User(id=str(FIRST_USER + index), name=f"User {index}", alias=str(index))
        world.users[user.id] = user
        shares = [shape.posts // shape.pages + (page < shape.posts % shape.pages) for page in range(shape.pages)]
        for place, posts in enumerate(shares):
            number = FIRST_PAGE + index * shape.pages + place
            page = Item("page", str(number), owner=user.id, parent=user.id, created=start, number=number)
            world.put(page)
            _fill(world, world.edge(page, "posts"), _posts(shape, page, posts, start))
        for place in range(shape.ad_accounts):
            _add_account(world, shape, user, index * shape.ad_accounts + place, start)
    return world


def _posts(shape: Shape, page: Item, count: int, start: int) -> Iterable[Item]:
    random = Random(f"{shape.seed}/posts of {page.id}")
    times = sorted(random.randrange(shape.spread) for _ in range(count))
    first = FIRST_POST + (page.number - FIRST_PAGE) * POSTS_A_PAGE
    for index, time in enumerate(times):
        created = start + (times[index - 1] if index and index % TIE_EVERY == 0 else time)
        number = first + index
        yield Item("post", f"{page.id}_{number}", owner=page.owner, parent=page.id, created=created, number=number)


def _add_account(world: World, shape: Shape, user: User, index: int, start: int) -> None:
    number = FIRST_ACCOUNT + index
    account = Item("account", f"act_{number}", owner=user.id, parent=user.id, created=start, number=number)
    world.put(account)
    random = Random(f"{shape.seed}/ads of {account.id}")
    times = sorted(start + random.randrange(shape.spread) for _ in range(shape.ads))
    groups = -(-shape.ads // 5)
    for kind, first, count in (
        ("campaign", FIRST_CAMPAIGN + index * groups, groups),
        ("adset", FIRST_AD_SET + index * groups, groups),
        ("ad", FIRST_AD + index * groups * 5, shape.ads),
    ):
        made = (
            Item(kind, str(first + place), owner=user.id, parent=account.id,
                 created=times[place if kind == "ad" else place * 5], number=first + place)
            for place in range(count)
        )  # fmt: skip
        _fill(world, world.edge(account, f"{kind}s"), made)


def _fill(world: World, listing: Listing, items: Iterable[Item]) -> None:
    """Add many items at once; a put for each would sort each in."""
    added = list(items)
    world.items.update((item.id, item) for item in added)
    listing.items.extend(added)
    listing.items.sort(key=lambda item: item.key)
