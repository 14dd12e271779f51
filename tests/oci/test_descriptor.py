"""Descriptors: the value, and its wire form."""

from __future__ import annotations

import json

import pytest

from distsql.oci.descriptor import Descriptor, Platform
from distsql.oci.digest import Digest

DIGEST = Digest.of(b"x")


def test_wire_form_of_the_least() -> None:
    assert Descriptor("a/b", 1, DIGEST).to_json() == {"mediaType": "a/b", "digest": str(DIGEST), "size": 1}


def test_wire_form_of_all() -> None:
    descriptor = Descriptor(
        "a/b",
        1,
        DIGEST,
        artifact_type="c/d",
        platform=Platform(os="linux", architecture="arm", variant="v7"),
        annotations={"k": "v"},
        urls=("https://example.com/x",),
    )
    wire = json.loads(json.dumps(descriptor.to_json()))
    assert wire["artifactType"] == "c/d"
    assert wire["platform"] == {"os": "linux", "architecture": "arm", "variant": "v7"}
    assert wire["annotations"] == {"k": "v"}
    assert wire["urls"] == ["https://example.com/x"]


def test_a_platform_says_only_what_it_knows() -> None:
    wire = Descriptor("a/b", 1, DIGEST, platform=Platform(os="linux")).to_json()
    assert wire["platform"] == {"os": "linux"}


def test_descriptors_are_values() -> None:
    one, same = (Descriptor("a/b", 1, DIGEST, annotations={"k": "v"}) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)
    assert one != Descriptor("a/b", 1, DIGEST)
    with pytest.raises(AttributeError):
        one.length = 2  # type: ignore[misc]
