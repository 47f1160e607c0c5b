"""What falls due when: a heap that does not keep what was called off."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

#: A heap this small is never worth rebuilding.
_SMALL = 64


class Deadlines(Generic[Key]):
    """
    Keys with a due time each.

    Calling one off leaves its heap entry behind; once such entries outnumber the live
    ones the heap is rebuilt, so memory follows what is live and not what has passed.
    """

    def __init__(self) -> None:
        self._due: dict[Key, int] = {}
        self._heap: list[tuple[int, int, Key]] = []
        self._entries = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def get(self, key: Key) -> int | None:
        return self._due.get(key)

    def set(self, key: Key, due: int) -> None:
        self._due[key] = due
        self._entries += 1  # breaks ties, so that keys are never compared
        heapq.heappush(self._heap, (due, self._entries, key))
        if len(self._heap) > 2 * len(self._due) + _SMALL:
            self._rebuild()

    def discard(self, key: Key) -> None:
        self._due.pop(key, None)
        if len(self._heap) > 2 * len(self._due) + _SMALL:
            self._rebuild()

    def next(self) -> int | None:
        """Return the earliest due time."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due:
                return due
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: int) -> Iterator[Key]:
        """Yield and forget every key that is due by `now`, earliest first."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                yield key

    def _rebuild(self) -> None:
        self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
