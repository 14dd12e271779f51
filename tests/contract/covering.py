"""Which member of an interface a test is about: `test_completeness` reads it, and holds the test to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])


def covers(*members: str) -> Callable[[Test], Test]:
    """``@covers("ManifestService.put")``: the test uses this member, and expects errors of its docstring."""
    assert members

    def unchanged(test: Test) -> Test:
        return test

    return unchanged
