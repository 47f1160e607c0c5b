"""The lake in a container of Azure Blob Storage. Imported only where LAKE_URL names one: the client is slow to load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobPrefix, ContainerClient, ExponentialRetry

from pipeline.errors import ConfigurationError
from pipeline.failpoints import failpoint
from pipeline.storage.lake import SUFFIX, LakeUnavailable

CALL_SECONDS = 20.0
"""One call with the client's own tries; well under a message's lock."""

RETRIES, CONNECT_SECONDS, READ_SECONDS = 2, 5, 10

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

_GZIP = ContentSettings(content_type="application/gzip")


class BlobLake:
    """A lake in a blob container; a conditional put makes each name write-once."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    async def write(self, name: str, body: bytes) -> bool:
        """Keep an object. The container is made if it is missing, which is so on a fresh emulator."""
        failpoint("lake.write.before")
        async with _reached():
            try:
                written = await self._put(name, body)
            except ResourceNotFoundError:
                await self._make_container()
                written = await self._put(name, body)
        failpoint("lake.write.after")
        return written

    async def read(self, name: str) -> bytes:
        """Give an object's bytes."""
        async with _reached():
            try:
                return await (await self._container.download_blob(name)).readall()
            except ResourceNotFoundError:
                raise KeyError(name) from None

    async def names(self, feed: str, *, since_date: str = "") -> AsyncIterator[str]:
        """Give the names of a feed's objects, one date after the other."""
        for date in await self._dates(feed):
            if date < f"feed={feed}/date={since_date}":
                continue
            pages = self._container.list_blob_names(name_starts_with=date).by_page()
            while True:
                async with _reached():
                    page = await anext(pages, None)
                    found = [name async for name in page] if page is not None else None
                if found is None:
                    break
                for name in found:
                    if name.endswith(SUFFIX):
                        yield name

    async def close(self) -> None:
        """Close the connection pool."""
        await self._container.close()

    async def _put(self, name: str, body: bytes) -> bool:
        try:
            await self._container.upload_blob(name, body, overwrite=False, content_settings=_GZIP)
        except ResourceExistsError:
            return False
        return True

    async def _make_container(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            return

    async def _dates(self, feed: str) -> list[str]:
        async with _reached():
            try:
                found = [one async for one in self._container.walk_blobs(name_starts_with=f"feed={feed}/")]
            except ResourceNotFoundError:
                return []
        return sorted(one.name for one in found if isinstance(one, BlobPrefix))


@asynccontextmanager
async def _reached() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except (AzureError, TimeoutError, OSError) as error:
        raise LakeUnavailable(f"the lake's container: {type(error).__name__}") from error


def open_container(url: str, access: str | AsyncTokenCredential) -> BlobLake:
    """
    Give the lake in the container that a LAKE_URL names, by a connection string (Azurite) or an identity.

    Raises ConfigurationError if the URL names no container. Connects at the first call.
    """
    if isinstance(access, str):
        container = ContainerClient.from_connection_string(
            access,
            container_name(url),
            retry_policy=_retries(),
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
        )
    else:
        container_name(url)
        container = ContainerClient.from_container_url(
            url, access, retry_policy=_retries(), connection_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS
        )
    return BlobLake(container)


def _retries() -> ExponentialRetry:
    # The client's own 15 s before its first retry would outlast the call; a longer fault is the scheduled copy's.
    return ExponentialRetry(initial_backoff=1, increment_base=1, retry_total=RETRIES, random_jitter_range=1)


def container_name(url: str) -> str:
    """Give the container that a LAKE_URL names: the last part of its path. Raises ConfigurationError without one."""
    name = url.rstrip("/").rpartition("/")[2]
    if not name or "." in name or ":" in name:
        raise ConfigurationError("LAKE_URL must name a container: https://account.blob.core.windows.net/lake")
    return name
