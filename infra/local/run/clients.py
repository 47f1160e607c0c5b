"""HTTP to everything in the box that has a control interface."""

from __future__ import annotations

from typing import Any

import httpx

REQUEST_SECONDS = 20.0


class Control:
    """One base address; JSON in and out."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.AsyncClient(base_url=url, timeout=REQUEST_SECONDS)

    async def get(self, path: str, **query: str | int) -> Any:
        """Read; raises httpx.HTTPError."""
        answer = await self._client.get(path, params=query)
        answer.raise_for_status()
        return answer.json()

    async def send(self, method: str, path: str, body: Any = None) -> Any:
        """Change something; raises httpx.HTTPError, with the reason from the answer."""
        answer = await self._client.request(method, path, json=body)
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {self.url}{path}: {answer.status_code} {answer.text[:300]}",
                request=answer.request,
                response=answer,
            )
        return answer.json() if answer.content else None

    async def answers(self, path: str) -> bool:
        """Tell whether it can be used."""
        try:
            answer = await self._client.get(path, timeout=2.0)
        except httpx.HTTPError:
            return False
        return answer.is_success

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
