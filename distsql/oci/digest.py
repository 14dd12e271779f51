"""Digests: ``algorithm:hex``, the name of content by its hash (OCI image specification, descriptor.md, "Digests")."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from distsql.errors import DigestInvalidError

if TYPE_CHECKING:
    from hashlib import _Hash

SHA256: Final = "sha256"
SHA512: Final = "sha512"

# The byte that stands for the algorithm in the catalogue, and the length of the raw hash. Never renumber.
_ALGORITHMS: Final = {SHA256: (b"\x01", 32), SHA512: (b"\x02", 64)}
# Not hashlib.new: to look an algorithm up by its name takes longer than to hash a manifest.
_HASHES: Final = {b"\x01"[0]: hashlib.sha256, b"\x02"[0]: hashlib.sha512}
_CODES: Final = {code[0]: algorithm for algorithm, (code, _) in _ALGORITHMS.items()}
_BATCH: Final = 1_000  # what stays in a processor's cache: all digests of an index at once take half as long again


class Digest(NamedTuple):
    """Content's name: the algorithm and the raw hash. Orders and compares as its packed form does."""

    packed: bytes

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Reads ``sha256:<64 hex>`` or ``sha512:<128 hex>``, lower case; else `DigestInvalidError`."""
        algorithm, _, encoded = text.partition(":")
        known = _ALGORITHMS.get(algorithm)
        if known is None:
            raise DigestInvalidError(
                f"{text[:160]!r} is no digest that this registry supports: give sha256:<64 hex digits> "
                "or sha512:<128 hex digits>, in lower case",
                detail={"digest": text[:160]},
            )
        code, size = known
        try:
            raw = bytes.fromhex(encoded)
        except ValueError:
            raw = b""
        # bytes.fromhex skips white space and takes capitals; the specification takes neither. There and back is the
        # quickest way to tell, and an index has ten thousands of digests.
        if len(raw) != size or raw.hex() != encoded:
            raise DigestInvalidError(
                f"{text[:160]!r} is malformed: {algorithm} is followed by {2 * size} lower-case hex digits",
                detail={"digest": text[:160]},
            )
        return cls(code + raw)

    @classmethod
    def parse_all(cls, texts: Sequence[str]) -> list[Digest]:
        """`parse` of each text; in a fifth of the time when they are sha256 and none is malformed."""
        batches = (texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH))
        return list(chain.from_iterable(map(cls._parse_batch, batches)))

    @classmethod
    def _parse_batch(cls, texts: Sequence[str]) -> Iterable[Digest]:
        prefix, (code, size) = f"{SHA256}:", _ALGORITHMS[SHA256]
        length = len(prefix) + 2 * size
        joined = "".join(texts)
        if set(map(len, texts)) == {length} and _all_begin_with(prefix, joined, length):
            encoded = joined.replace(prefix, code.hex())
            with contextlib.suppress(ValueError):
                packed = bytes.fromhex(encoded)
                if packed.hex() == encoded and len(packed) == len(texts) * (1 + size):
                    # `cls` itself, without the function that makes one from its fields.
                    return map(partial(tuple.__new__, cls), struct.iter_unpack(f"{1 + size}s", packed))
        return map(cls.parse, texts)

    @classmethod
    def of(cls, content: bytes, algorithm: str = SHA256) -> Digest:
        """The digest of content that is in memory."""
        return cls.from_hash(hashlib.new(algorithm, content, usedforsecurity=True))

    @classmethod
    def from_hash(cls, hasher: _Hash) -> Digest:
        """The digest of what a running hash of `new_hash` has seen so far."""
        return cls(_ALGORITHMS[hasher.name][0] + hasher.digest())

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return _CODES[self.packed[0]]

    @property
    def encoded(self) -> str:
        """The hash in lower-case hex."""
        return self.packed[1:].hex()

    def verifies(self, content: bytes) -> bool:
        """Whether this is the digest of the content."""
        packed = self.packed
        return _HASHES[packed[0]](content).digest() == packed[1:]

    def __str__(self) -> str:
        """The wire form, ``algorithm:hex``."""
        packed = self.packed
        return f"{_CODES[packed[0]]}:{packed[1:].hex()}"

    def __repr__(self) -> str:
        """Short enough to read in a failing test."""
        return f"Digest({self})"


def _all_begin_with(prefix: str, joined: str, length: int) -> bool:
    """Whether each of the joined texts of this length does: character by character, and not text by text."""
    count = len(joined) // length
    return all(joined[at::length] == character * count for at, character in enumerate(prefix))


def new_hash(algorithm: str) -> _Hash:
    """A running hash of a supported algorithm, else `DigestInvalidError`."""
    if algorithm not in _ALGORITHMS:
        raise DigestInvalidError(
            f"{algorithm[:40]!r} is no digest algorithm of this registry: use sha256 or sha512",
            detail={"algorithm": algorithm[:40]},
        )
    return hashlib.new(algorithm)
