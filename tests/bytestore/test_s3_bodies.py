"""A part's bytes as a file that the client library reads, and reads again when it has to."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from distsql.bytestore.s3_bodies import Body


@given(st.binary(max_size=20_000), st.lists(st.integers(-1, 9000), max_size=8), st.integers(0, 20_000))
def test_it_reads_as_a_file(content: bytes, sizes: list[int], start: int) -> None:
    body, file = Body(20_000, piece=0), io.BytesIO(content)
    for at in range(0, len(content), 3000):
        body.add(memoryview(content)[at : at + 3000])
    assert (len(body), body.room) == (len(content), 20_000 - len(content))
    for each in (body, file):
        each.seek(start)
    for size in sizes:
        assert body.read(size) == file.read(size)
    assert body.seek(-len(content), io.SEEK_END) == 0
    assert body.read() == content
    assert body.seek(0, io.SEEK_CUR) == body.tell() == len(content)


def test_more_is_read_than_asked_for() -> None:
    body = Body(10, piece=4)
    body.add(b"0123456789")
    assert [body.read(1), body.read(5), body.read(1), body.read(1)] == [b"0123", b"45678", b"9", b""]


def test_it_is_empty_when_it_was_let_go() -> None:
    body = Body(10)
    body.add(b"some")
    for _ in range(2):
        body.release()
        assert (len(body), body.read()) == (0, b"")
