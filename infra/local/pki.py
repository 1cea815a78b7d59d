"""The local cloud's certificates: one authority per cloud, and a kubeconfig for each who asks the API server.

Keys never leave the state folder; every file is readable by its owner only.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.local import addresses

_LIFE = datetime.timedelta(days=30)
_BOTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


class Authority:
    """The certificate authority in `folder`; made on first use, read again by every later process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.crt"
        if not self.certificate.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = ec.generate_private_key(ec.SECP256R1())
            _write(folder / "ca.key", _pem(key))
            _write(self.certificate, _sign(key, "tidepool local cloud", "", key, _name("tidepool local cloud"), ()))
        loaded = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)  # noqa: S101 - we wrote it
        self._key = loaded
        self._name = x509.load_pem_x509_certificate(self.certificate.read_bytes()).subject

    def issue(self, file: str, user: str, group: str = "", hosts: tuple[str, ...] = ()) -> tuple[Path, Path]:
        """Certificate and key `<file>.crt` and `<file>.key` for `user` (CN) in `group` (O), valid for `hosts`."""
        certificate, key_file = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        if not certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            _write(key_file, _pem(key))
            _write(certificate, _sign(key, user, group, self._key, self._name, hosts))
        return certificate, key_file

    def kubeconfig(self, path: Path, user: str, group: str = "", server: str = addresses.API_SERVER) -> Path:
        """A kubeconfig at `path` for a client certificate of `user` in `group`."""
        certificate, key = self.issue(path.stem, user, group)
        credentials = {
            "client-certificate-data": _base64(certificate.read_bytes()),
            "client-key-data": _base64(key.read_bytes()),
        }
        write_kubeconfig(path, server, self.certificate.read_bytes(), credentials)
        return path


def service_account_keys(folder: Path) -> tuple[Path, Path]:
    """The public and the private key that service account tokens are signed with."""
    public, private = folder / "sa.pub", folder / "sa.key"
    if not public.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write(private, _pem(key))
        encoding, kind = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        _write(public, key.public_key().public_bytes(encoding, kind))
    return public, private


def write_kubeconfig(path: Path, server: str, authority: bytes, credentials: dict[str, str]) -> None:
    """Write a kubeconfig; `credentials` is the user's entry (client certificate or token)."""
    cluster = {"server": server, "certificate-authority-data": _base64(authority)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "user", "user": credentials}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
        "current-context": "local",
    }
    _write(path, yaml.safe_dump(document).encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _name(user: str, group: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _sign(
    key: ec.EllipticCurvePrivateKey,
    user: str,
    group: str,
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Name,
    hosts: tuple[str, ...],
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    root = key is authority_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(user, group))
        .issuer_name(authority)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
    )
    if not root:
        builder = builder.add_extension(_BOTH, critical=False)
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
