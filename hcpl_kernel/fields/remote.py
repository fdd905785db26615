"""Image files at URLs, which only a user's own listing can name: fetched when they are read, never kept on the disk.

The library that fetches them, fsspec, is loaded with the first URL.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from contextlib import suppress
from typing import Any

PROTOCOLS = ("http", "https", "ftp", "sftp", "s3", "gs", "gcs", "az", "abfs", "file", "memory")
"""Only what fetches a file; fsspec has others, of which some look into archives or run programs."""

OBJECT_STORES = ("s3", "gs", "az", "abfs")
"""Of these, which obstore can fetch from, too; credentials come from the environment."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://.", re.IGNORECASE)


class RemoteError(Exception):
    """Why a file cannot be fetched, as the end of a sentence: `cannot be fetched: https://...: 404`."""


def is_url(text: str) -> bool:
    """Whether the cell of a listing is a URL and not a path."""
    return _URL.match(text) is not None


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file at a URL.

    Attributes:
        url: where it is.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL's path, without what follows a `?` or `#`."""
        return re.split(r"[?#]", self.url)[0].rstrip("/").rsplit("/", 1)[-1]

    def read(self, most: int) -> bytes:
        """The file's content.

        Args:
            most: bytes that it may have.

        Raises:
            RemoteError: if it has more, if it cannot be fetched, or if fsspec is not installed.
        """
        system, path = self._place()
        try:
            with system.open(path, "rb") as file:
                data: bytes = file.read(most + 1)
        except Exception as error:  # noqa: BLE001 - every protocol's library has errors of its own
            raise RemoteError(f"cannot be fetched: {self.url}: {_said(error)}") from error
        if len(data) > most:
            raise RemoteError(f"is too large: {self.url} has more than {most} bytes")
        return data

    def stamp(self, most: int) -> str | None:
        """By what a changed file is known: its ETag, its size and time of change, or else a hash of its content.

        None where it cannot be fetched.
        """
        try:
            system, path = self._place()
            facts = {re.sub("[_-]", "", key).lower(): value for key, value in system.info(path).items()}
            told = [facts.get("etag"), facts.get("mtime") or facts.get("lastmodified")]
            if any(told):
                return f"{self.url} {facts.get('size')} {told[0]} {told[1]}"
            return hashlib.blake2b(self.read(most), digest_size=16).hexdigest()
        except RemoteError:
            return None
        except Exception:  # noqa: BLE001 - as in `read`, whose error becomes the field's problem
            return None

    def _place(self) -> tuple[Any, str]:
        """The file system and the path in it."""
        protocol = self.url.split("://", 1)[0].lower()
        if protocol not in PROTOCOLS or "::" in self.url:
            raise RemoteError(f"cannot be fetched: {self.url}; expected one of {', '.join(p + '://' for p in PROTOCOLS)}")
        try:
            import fsspec
        except ImportError as error:
            raise RemoteError(f"is at a URL, which needs fsspec: pip install 'hcpl-kernel[remote]': {self.url}") from error
        if protocol in OBJECT_STORES:
            _let_obstore_fetch(protocol)
        try:
            system, path = fsspec.core.url_to_fs(self.url)
        except Exception as error:  # noqa: BLE001 - a protocol's own library may be absent, or refuse the URL
            raise RemoteError(f"cannot be fetched: {self.url}: {_said(error)}") from error
        return system, str(path)


@functools.cache
def _let_obstore_fetch(protocol: str) -> None:
    """Make obstore (the extra `cloud`) fetch from a kind of object store whose own library is not installed."""
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError:
        with suppress(ImportError):  # neither is there: the store's own library is named when the file is fetched
            from obstore.fsspec import register

            register(protocol)


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
