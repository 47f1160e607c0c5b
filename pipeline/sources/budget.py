"""What a call draws on: the keys of the budgets to ask before it, and to blame after it."""

from __future__ import annotations

from typing import NamedTuple


class Draws(NamedTuple):
    """What a call counts against: a use case on an object, besides the app and the user."""

    use_case: str
    object_id: str
    user_id: str

    def keys(self, source: str) -> tuple[str, str, str]:
        """The budget keys to ask before the call."""
        return f"{source}:app", f"{source}:{self.use_case}:{self.object_id}", f"{source}:user:{self.user_id}"

    def blamed(self, source: str, whom: str) -> str:
        """The key of the budget that an error says is used up."""
        app, own, user = self.keys(source)
        fixed = {"app": app, "user": user, "object": own, "": own}
        return fixed.get(whom) or f"{source}:{whom}:{self.object_id}"
