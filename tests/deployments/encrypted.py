"""A real PostgreSQL that talks TLS only, and the authority that vouches for it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from distsql.embedded.accounts import server_account
from distsql.embedded.binaries import DEBIAN_FOLDER, Binaries, all_binaries
from tests.server.processes import free_port, wait_until

HOST = "127.0.0.1"


class Authority:
    """Signs certificates; clients are given its own (``file``) to know them by."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {secrets.token_hex(4)}")])
        certificate = (
            self._certificate(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, host: str) -> tuple[Path, Path]:
        """The files of a certificate for this host, an address or a name, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.DNSName(host) if host[0].isalpha() else x509.IPAddress(ip_address(host))
        certificate = (
            self._certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), key)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = self._folder / f"{host}.pem", self._folder / f"{host}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        files[1].chmod(0o600)
        return files

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(days=1),
        )


class EncryptedPostgres:
    """On a port of this machine. ``use`` changes the certificate, as an operator does: by a reload."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path]) -> None:
        self._cluster, self._binaries = folder / "cluster", binaries_with_tls()
        account = server_account(self._cluster)
        self._as = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
        self._owner = (account.uid, account.gid) if self._as else (-1, -1)
        self._cluster.mkdir(mode=0o700)
        os.chown(self._cluster, *self._owner)
        password, self.port = secrets.token_hex(16), free_port()
        file = folder / "password"
        file.write_text(password)
        self._run("initdb", "-D", self._cluster, "-U", "distsql", "-E", "UTF8", "--locale=C", "--no-sync",
                  "--auth=scram-sha-256", f"--pwfile={file}")  # fmt: skip
        (self._cluster / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        self._place(certificate)
        options = {
            "listen_addresses": HOST, "port": self.port, "unix_socket_directories": "", "fsync": "off", "ssl": "on",
            "ssl_cert_file": "server.pem", "ssl_key_file": "server.key",
        }  # fmt: skip
        self.url = make_conninfo(host=HOST, port=self.port, user="distsql", password=password, dbname="postgres")
        self._process = subprocess.Popen(
            [self._binaries.program("postgres"), "-D", self._cluster,
             *(part for name, value in options.items() for part in ("-c", f"{name}={value}"))],
            cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._as,  # type: ignore[call-overload]
        )  # fmt: skip
        wait_until(self._answers, what="the start of PostgreSQL with TLS")

    def _run(self, program: str, *arguments: object) -> None:
        command = [self._binaries.program(program), *map(str, arguments)]
        subprocess.run(command, check=True, cwd="/", capture_output=True, timeout=60, **self._as)  # type: ignore[call-overload]

    def _place(self, certificate: tuple[Path, Path]) -> None:
        for source, name in zip(certificate, ("server.pem", "server.key"), strict=True):
            target = self._cluster / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            os.chown(target, *self._owner)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "PostgreSQL with TLS ended"
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, sslmode="require", connect_timeout=2):
            return True
        return False

    def use(self, certificate: tuple[Path, Path]) -> None:
        self._place(certificate)
        with psycopg.connect(self.url, sslmode="require", autocommit=True) as connection:
            connection.execute("select pg_reload_conf()")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # doesn't wait for clients
        self._process.wait(20)


def binaries_with_tls() -> Binaries:
    """Debian's: the packaged server is built without. A machine without them skips the test, CI fails."""
    found = next((each for each in all_binaries() if each.folder.is_relative_to(DEBIAN_FOLDER)), None)
    if found is None:
        reason = "no PostgreSQL of Debian's: ./run.sh clients"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def encrypted_postgres(folder: Path, certificate: tuple[Path, Path]) -> Iterator[EncryptedPostgres]:
    server = EncryptedPostgres(folder, certificate)
    try:
        yield server
    finally:
        server.stop()
