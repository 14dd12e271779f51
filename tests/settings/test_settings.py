from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from pathlib import Path

import pytest

from distsql.errors import SettingsError
from distsql.settings import Settings, load, pooler, port, positive, size, switch
from distsql.values import duration


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "distsql.toml"


def read(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, **more: Path) -> Settings:
    return load(flags or {}, environ=environ or {}, **more)


# -- where values come from -------------------------------------------------------------------------------------------


def test_without_anything_there_are_defaults() -> None:
    assert read() == Settings()


def test_flags_win_over_the_environment_which_wins_over_the_file(config: Path) -> None:
    config.write_text('host = "file"\nport = 1\npool_size = 1\n')
    environ = {"DISTSQL_HOST": "environment", "DISTSQL_PORT": "2"}
    found = read({"host": "flag"}, environ, config=config)
    assert (found.host, found.port, found.pool_size) == ("flag", 2, 1)


def test_a_flag_that_was_not_given_is_none_and_an_empty_variable_is_not_set(config: Path) -> None:
    config.write_text('host = "file"\n')
    assert read({"host": None}, {"DISTSQL_HOST": ""}, config=config).host == "file"


def test_a_flag_may_switch_off_what_the_environment_switches_on() -> None:
    assert read({"insecure": False}, {"DISTSQL_INSECURE": "on"}).insecure is False


def test_the_environment_names_the_file(config: Path) -> None:
    config.write_text("workers = 7\n")
    assert read(environ={"DISTSQL_CONFIG": str(config)}).workers == 7


def test_a_file_given_by_flag_wins_over_the_environment_s(config: Path, tmp_path: Path) -> None:
    config.write_text("workers = 7\n")
    assert read(environ={"DISTSQL_CONFIG": str(tmp_path / "absent")}, config=config).workers == 7


def test_keys_of_the_file_are_written_with_either_dash(config: Path) -> None:
    config.write_text('upload-expiry = "2h"\nlock_timeout = "250ms"\nredirect = false\nmanifest-limit = 4096\n')
    found = read(config=config)
    assert found.upload_expiry == timedelta(hours=2)
    assert found.lock_timeout == timedelta(milliseconds=250)
    assert found.redirect is False
    assert found.manifest_limit == 4096


def test_clients_are_sent_to_the_store_unless_told_otherwise() -> None:
    assert read().redirect is True
    assert Settings().redirect is True


@pytest.mark.parametrize("name", [each.name for each in fields(Settings)])
def test_every_setting_has_its_variable(name: str) -> None:
    texts = {"timedelta": "17s", "int": "17", "bool": "on", "str": "text", "Path": "folder", "tuple[str, ...]": "a b"}
    values = {
        "timedelta": timedelta(seconds=17),
        "int": 17,
        "bool": True,
        "str": "text",
        "Path": Path("folder"),
        "tuple[str, ...]": ("a", "b"),
    }
    kind = str(Settings.__annotations__[name])
    special = {
        "auth": "token",
        "public_url": "https://registry.example",
        "pooler": "none",
        "workers": "17",
    }  # texts that not everything is one of
    found = read(environ={f"DISTSQL_{name.upper()}": special.get(name) or texts[kind]})
    assert str(getattr(found, name)) == special[name] if name in special else getattr(found, name) == values[kind]


def test_as_many_workers_as_there_are_cores() -> None:
    assert read().workers is None
    assert read(environ={"DISTSQL_WORKERS": "auto"}).workers is None
    assert read({"workers": "auto"}, {"DISTSQL_WORKERS": "3"}).workers is None


def test_periods_that_people_were_promised() -> None:
    """What is collected, restored and kept without anybody saying so."""
    found = read()
    assert found.gc is True
    assert found.retention is True
    assert (found.gc_interval, found.gc_grace) == (timedelta(minutes=1), timedelta(hours=1))
    assert (found.restore_period, found.recovery_window) == (timedelta(days=7), timedelta(0))
    assert (found.upload_expiry, found.retention_interval) == (timedelta(hours=24), timedelta(hours=1))
    assert (found.audit_seal_interval, found.pull_flush_interval) == (timedelta(minutes=1), timedelta(seconds=5))
    assert found.manifest_limit == 8 * 1024**2


def test_settings_never_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


# -- how values are written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("36h", 129_600), ("7d", 604_800), ("250ms", 0.25), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1.5h", "30 s", "30S", "1h30m", "٣s", "30s\n", "9999999999s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="30s, 15m"):
        duration(text)


@pytest.mark.parametrize("text", ["999999999d", "1000000000h"])
def test_a_duration_beyond_all_bounds_is_an_error_with_a_way_out(text: str) -> None:
    with pytest.raises(SettingsError, match="DISTSQL_GC_GRACE"):
        read(environ={"DISTSQL_GC_GRACE": text})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("10kB", 10_000),
        ("10KB", 10_000),
        ("500MB", 500_000_000),
        ("2GB", 2 * 10**9),
        ("1TB", 10**12),
        ("4KiB", 4096),
        ("8MiB", 8 * 2**20),
        ("10GiB", 10 * 2**30),
        ("1TiB", 2**40),
    ],
)
def test_sizes(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize("text", ["", "-1", "1.5MB", "10 MB", "10mb", "10M", "10kiB", "MB", "٣MB", "1e6", "10MB\n"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="500MB, 10GiB"):
        size(text)


@pytest.mark.parametrize("text", ["on", "ON", "true", "yes", "1"])
def test_on(text: str) -> None:
    assert switch(text) is True


@pytest.mark.parametrize("text", ["off", "Off", "false", "no", "0", ""])
def test_off(text: str) -> None:
    assert switch(text) is False


@pytest.mark.parametrize("text", ["maybe", "2", "onn", " on"])
def test_neither_on_nor_off(text: str) -> None:
    with pytest.raises(ValueError, match="on or off"):
        switch(text)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "+1", "1.5", "x", "²", "٣", "2147483648", "1000000000000000000000", " 1"]
)
def test_no_whole_numbers_above_zero(text: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        positive(text)


def test_whole_numbers_above_zero() -> None:
    assert [positive(text) for text in ("1", "007", "2147483647")] == [1, 7, 2**31 - 1]


# -- what is wrong, where, and the way out ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "environ", "source"),
    [
        ({"lock_timeout": "soon"}, {}, "--lock-timeout is 'soon'"),
        ({}, {"DISTSQL_LOCK_TIMEOUT": "soon"}, "DISTSQL_LOCK_TIMEOUT is 'soon'"),
    ],
)
def test_an_error_names_its_source_and_how_to_write_it(
    flags: dict[str, object], environ: dict[str, str], source: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        read(flags, environ)
    assert source in raised.value.message
    assert "write a duration as 30s" in raised.value.message


def test_an_error_in_the_file_names_the_file(config: Path) -> None:
    config.write_text('lock-timeout = "soon"\n')
    with pytest.raises(SettingsError) as raised:
        read(config=config)
    assert f"lock_timeout in {config} is 'soon'" in raised.value.message


def test_what_another_source_overrides_is_not_read(config: Path) -> None:
    config.write_text('port = "nonsense"\n')
    assert read({"port": "1"}, config=config).port == 1


def test_unknown_keys_are_refused_with_those_that_are_known(config: Path) -> None:
    config.write_text("prot = 1\n[section]\nhost = 'x'\n")
    with pytest.raises(SettingsError) as raised:
        read(config=config)
    assert "unknown keys: prot, section" in raised.value.message
    assert "port" in raised.value.message


def test_unknown_variables_are_left_alone() -> None:
    """Others share the prefix: DISTSQL_TEST_DATABASE_URL, for one."""
    assert read(environ={"DISTSQL_NONSENSE": "1"}) == Settings()


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"port = 1\nport = 2\n"])
def test_a_file_that_is_no_toml(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    with pytest.raises(SettingsError, match="is no TOML"):
        read(config=config)


def test_a_file_that_is_not_there(config: Path) -> None:
    with pytest.raises(SettingsError, match=r"can't be read: No such file"):
        read(config=config)


@pytest.mark.parametrize("line", ["port = [1]", "host = {a = 1}", "lock-timeout = 30", "database-url = ['x']"])
def test_values_of_the_wrong_kind(config: Path, line: str) -> None:
    config.write_text(line + "\n")
    with pytest.raises(SettingsError, match=str(config)):
        read(config=config)


def test_the_password_in_the_database_url_is_not_shown() -> None:
    assert "secret" not in repr(Settings(database_url="postgresql://user:secret@host/name"))


# -- exposure ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_loopback_needs_no_permission(host: str) -> None:
    Settings(host=host).check_exposure()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org", "", "127.0.0.1.example.org"])
def test_beyond_loopback_only_when_it_is_meant(host: str) -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        Settings(host=host).check_exposure()
    Settings(host=host, insecure=True).check_exposure()
    Settings(host=host, auth="token").check_exposure()


# -- what follows from settings ---------------------------------------------------------------------------------------


def test_bytes_are_kept_below_the_data_folder_unless_told_otherwise() -> None:
    assert Settings(data=Path("/srv/x")).storage_url == "file:///srv/x/bytes"
    assert Settings(data=Path("rel")).storage_url == (Path.cwd() / "rel" / "bytes").as_uri()
    assert Settings(storage="file:///elsewhere").storage_url == "file:///elsewhere"


def test_the_url_of_an_ipv6_address_has_brackets() -> None:
    assert Settings(host="::1", port=5001).url == "http://[::1]:5001"
    assert Settings().url == "http://127.0.0.1:5000"


@pytest.mark.parametrize("text", ["0", "65536", "99999", "-1", "http", "\u0665000", ""])
def test_a_port_is_one_that_tcp_has(text: str) -> None:
    with pytest.raises(ValueError, match="between 1 and 65535"):
        port(text)
    assert port("65535") == 65535


# -- who logs in, and where -------------------------------------------------------------------------------------------


def test_nobody_has_to_log_in_unless_told() -> None:
    assert read().auth == "none"
    assert read(environ={"DISTSQL_AUTH": "token"}).auth == "token"
    with pytest.raises(SettingsError, match="none or token"):
        read({"auth": "ldap"})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://registry.example.org", "https://registry.example.org"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("https://example.org/registry/", "https://example.org/registry"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_public_urls(text: str, url: str) -> None:
    assert read({"public_url": text}).public_url == url


@pytest.mark.parametrize(
    "text",
    [
        "registry.example.org",
        "ftp://example.org",
        "https://",
        "https://name:secret@example.org",
        "https://example.org/?x=1",
        "https://example.org/#x",
        'https://example.org/",scope="x',
        "https://example.org/ x",
        "https://example.org/\n",
    ],
)
def test_what_is_no_public_url(text: str) -> None:
    """It goes into a header between quotes: nothing that would end them."""
    with pytest.raises(SettingsError, match="URL"):
        read({"public_url": text})


def test_what_is_between_here_and_postgresql_is_one_of_a_few() -> None:
    assert [pooler(each) for each in ("auto", "none", "transaction", "prepared")][1:3] == ["none", "transaction"]
    with pytest.raises(SettingsError, match="DISTSQL_POOLER"):
        read(environ={"DISTSQL_POOLER": "session"})


def test_several_replicas(config: Path) -> None:
    config.write_text('replica-url = ["postgresql://one", "postgresql://two"]\n')
    both = ("postgresql://one", "postgresql://two")
    assert read(config=config).replica_url == both
    assert read({"replica_url": ()}, config=config).replica_url == both
    assert read({"replica_url": ("postgresql://three",)}, config=config).replica_url == ("postgresql://three",)
