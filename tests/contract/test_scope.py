from __future__ import annotations

from collections.abc import Callable

from distsql.contract import Namespace
from distsql.values import GLOBAL_SCOPE, TenantScope
from tests.contract.covering import covers

MALFORMED = ["", "/", "a//b", "A/b", "a/b/", "/a", "a b", "a/../b", "a/b\n", "a/\0", "x" * 256]


@covers("Scope.name", "Scope.contains", "Namespace.scope")
def test_the_global_scope_contains_every_name(namespace: Namespace) -> None:
    scope = namespace.scope()
    assert scope == GLOBAL_SCOPE
    assert scope.name == ""
    assert all(scope.contains(name) for name in ("acme/web", "acme/web/deep/er", "web", "a-b/c.d_e"))


@covers("Scope.name", "Scope.contains", "Namespace.scope")
def test_a_tenants_scope_contains_its_names_only(scoped: Callable[[str], Namespace]) -> None:
    scope = scoped("acme").scope()
    assert scope == TenantScope("acme")
    assert scope.name == "acme"
    assert scope.contains("acme/web")
    assert scope.contains("acme/web/deep/er")
    assert not any(scope.contains(name) for name in ("other/web", "acme2/web", "acme-x/web", "web/acme"))


@covers("Scope.contains")
def test_a_name_of_one_component_is_the_librarys(scoped: Callable[[str], Namespace]) -> None:
    assert scoped("library").scope().contains("web")
    assert not scoped("web").scope().contains("web")


@covers("Scope.contains")
def test_a_malformed_name_belongs_to_no_scope(namespace: Namespace, scoped: Callable[[str], Namespace]) -> None:
    for scope in (namespace.scope(), scoped("a").scope()):
        assert [name for name in MALFORMED if scope.contains(name)] == []
