"""Tenants by host name: what a client sees at ``acme.registry.test`` is what there is below ``acme/``, without that."""

from __future__ import annotations

import json
from typing import Final

import httpx
import pytest

from distsql.api.application import Application
from distsql.api.hosts import TenantHosts
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.errors import NameInvalidError
from tests.api.contents import digest_of, push_image

DOMAIN: Final = "registry.test"


@pytest.fixture
def application(registry: Registry) -> Application:
    return Application(registry, limits=Limits(), access_log=None, tenant_domain=DOMAIN)


@pytest.fixture
def client(application: Application) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url=f"http://acme.{DOMAIN}:5000")


def plain(application: Application) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url=f"http://{DOMAIN}")


async def test_names_are_the_tenants(application: Application, client: httpx.AsyncClient) -> None:
    """A push at acme's host is found below acme/ at the registry's, and nowhere else; so is a name of one component."""
    payload = await push_image(client, "web/api", b"layer", tags=["v1"])
    await push_image(client, "one", b"layer", tags=["v1"])
    elsewhere = plain(application)
    assert (await elsewhere.get("/v2/acme/web/api/manifests/v1")).content == payload
    assert (await elsewhere.get("/v2/acme/one/manifests/v1")).status_code == 200
    for name in ("web/api", "one", "library/one", "acme/acme/one"):
        assert (await elsewhere.get(f"/v2/{name}/manifests/v1")).status_code == 404, name
    assert (await client.get("/v2/acme/one/manifests/v1")).status_code == 404


async def test_library_s_host(application: Application) -> None:
    """The tenant that needs no naming has a host like others."""
    await push_image(plain(application), "one", b"layer", tags=["v1"])
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://library.{DOMAIN}") as client:
        assert (await client.get("/v2/one/tags/list")).json() == {"name": "one", "tags": ["v1"]}


async def test_a_client_is_sent_to_names_as_it_writes_them(client: httpx.AsyncClient) -> None:
    """Location of sessions, blobs and manifests, ``Link``, the list's name, a mount's source."""
    payload = await push_image(client, "web", b"layer", tags=["v1", "v2"])
    begun = await client.post("/v2/web/blobs/uploads/")
    assert begun.headers["location"].startswith("/v2/web/blobs/uploads/")
    assert (await client.get(begun.headers["location"])).status_code == 204
    whole = await client.post("/v2/web/blobs/uploads/", params={"digest": digest_of(b"x")}, content=b"x")
    assert whole.headers["location"] == f"/v2/web/blobs/{digest_of(b'x')}"
    put = await client.put("/v2/web/manifests/v3", content=payload, headers={"content-type": kind(payload)})
    assert put.headers["location"] == "/v2/web/manifests/v3"
    page = await client.get("/v2/web/tags/list", params={"n": 1})
    assert page.json() == {"name": "web", "tags": ["v1"]}
    assert page.headers["link"].startswith("</v2/web/tags/list?")
    mounted = await client.post("/v2/copy/blobs/uploads/", params={"mount": digest_of(b"layer"), "from": "web"})
    assert (mounted.status_code, mounted.headers["location"]) == (201, f"/v2/copy/blobs/{digest_of(b'layer')}")
    extended = await client.put(f"/v2/other/_distsql/blobs/{digest_of(b'x')}", params={"from": "web"})
    assert extended.status_code == 201


async def test_errors_name_what_the_client_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v2/no/where/tags/list")
    assert answer.status_code == 404
    assert "acme" not in answer.text
    assert answer.json()["errors"][0]["detail"] == {"name": "no/where"}


async def test_lists_show_the_tenants_names(application: Application, client: httpx.AsyncClient) -> None:
    """In pages, without their tenant and without others': before, behind, and such as begin alike."""
    elsewhere = plain(application)
    names = ["aaa/web", "acme-x/web", "acme/a", "acme/b/c", "acme/d", "acme0/web", "zeta/web"]
    for name in names:
        await push_image(elsewhere, name, b"layer")
    for path, given in (("/v2/_catalog", names), (f"/v2/_distsql/holders/{digest_of(b'layer')}", names)):
        assert (await elsewhere.get(path)).json()["repositories"] == given
        seen, url = [], f"{path}?n=2"
        while url:
            page = await client.get(url)
            seen.append(page.json()["repositories"])
            url = page.links["next"]["url"] if "next" in page.links else ""
        assert seen == [["a", "b/c"], ["d"]], path
        assert (await client.get(path, params={"last": "a"})).json()["repositories"] == ["b/c", "d"]
        assert (await client.get(path, params={"n": 0})).json()["repositories"] == []


async def test_a_name_is_as_long_as_its_full_one(client: httpx.AsyncClient) -> None:
    """What can't be asked for at the registry's host can't be here."""
    assert (await client.post(f"/v2/{'a' * 250}/blobs/uploads/")).status_code == 202
    assert (await client.post(f"/v2/{'a' * 251}/blobs/uploads/")).json()["errors"][0]["code"] == "NAME_INVALID"


@pytest.mark.parametrize("host", ["evil.test", "acme.registry.test.evil.test", "registry.test", "127.0.0.1:5000", ""])
async def test_any_other_host_is_the_registrys(application: Application, client: httpx.AsyncClient, host: str) -> None:
    await push_image(client, "web", b"layer", tags=["v1"])
    found = await plain(application).get("/v2/acme/web/manifests/v1", headers={"host": host})
    assert found.status_code == 200


async def test_what_proxies_say_is_not_trusted(application: Application, client: httpx.AsyncClient) -> None:
    """Whoever sends it may be anybody."""
    await push_image(client, "web", b"layer", tags=["v1"])
    forged = {"x-forwarded-host": f"acme.{DOMAIN}", "forwarded": f"host=acme.{DOMAIN}", "x-host": f"acme.{DOMAIN}"}
    assert (await plain(application).get("/v2/web/manifests/v1", headers=forged)).status_code == 404
    assert (await client.get("/v2/web/manifests/v1", headers={"x-forwarded-host": "other.test"})).status_code == 200


@pytest.mark.parametrize(
    "host", ["-x.registry.test", "a..b.registry.test", ".registry.test", "a/b.registry.test", "acme.registry.test:1:2"]
)
async def test_hosts_that_name_nobody(application: Application, host: str) -> None:
    """Of the domain, but no tenant's: refused, and not taken for the registry's."""
    for path in ("/v2/", "/v2/acme/web/tags/list", "/v2/_catalog"):
        answer = await plain(application).get(path, headers={"host": host})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "NAME_INVALID"), path


def test_how_a_host_is_read() -> None:
    hosts = TenantHosts(DOMAIN)
    for text in ("acme.registry.test", "ACME.Registry.Test", "acme.registry.test:443", "acme.registry.test."):
        assert hosts.tenant_of([(b"host", text.encode())]) == "acme", text
    assert hosts.tenant_of([(b"host", b"a-b.c_d.registry.test")]) == "a-b.c_d"
    assert hosts.tenant_of([]) == ""
    assert TenantHosts("").tenant_of([(b"host", b"acme.registry.test")]) == ""
    with pytest.raises(NameInvalidError, match="several hosts"):
        hosts.tenant_of([(b"host", b"acme.registry.test"), (b"host", b"other.registry.test")])


def kind(payload: bytes) -> str:
    return str(json.loads(payload)["mediaType"])
