"""TLS of the HTTP API, and the certificates of its clients."""

import datetime
import ipaddress
import socket
import ssl

import pytest
from api_client import Api
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])


class Authority:
    """Signs certificates, and writes each with its key into a directory."""

    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key.public_key(), True)
        self.path = self.write(f"{name}.pem", self.certificate)

    def _sign(self, name, public_key, is_authority):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
            .public_key(public_key).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if not is_authority:
            builder = builder.add_extension(LOOPBACK, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def write(self, name, certificate):
        path = self.directory / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, name):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), False)
        path = self.directory / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ))
        return self.write(f"{name}.pem", certificate), path


@pytest.fixture(name="authority")
def own_authority(tmp_path):
    return Authority(tmp_path, "authority")


def table(certificate, key, client_ca=None):
    client_ca = "" if client_ca is None else f'client_ca = "{client_ca}"\n'
    return f'[api.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n{client_ca}'


def trusting(authority, *client):
    context = ssl.create_default_context(cafile=authority.path)
    if client:
        context.load_cert_chain(*client)
    return context


def test_the_api_speaks_tls(make_switch, authority):
    switch = make_switch(api=table(*authority.issue("switch"))).start()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(authority)
        context.maximum_version = version
        assert Api(switch, tls=context).done("GET", "/ping")["success"] is True
    old = trusting(authority)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        Api(switch, tls=old).get("/ping")
    # In clear nothing is answered, and the next one is served all the same.
    with socket.create_connection(("127.0.0.1", switch.api_port()), timeout=10) as peer:
        peer.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not peer.recv(4096).startswith(b"HTTP")
    assert Api(switch, tls=trusting(authority)).get("/apikeys").status == 200


def test_a_client_needs_a_certificate_where_the_configuration_says_so(
        make_switch, authority, tmp_path):
    (tmp_path / "others").mkdir()
    others = Authority(tmp_path / "others", "others")
    own = table(*authority.issue("switch"), client_ca=authority.path)
    switch = make_switch(api=own).start()
    client = trusting(authority, *authority.issue("client"))
    assert Api(switch, tls=client).get("/apikeys").status == 200
    for context in (trusting(authority), trusting(authority, *others.issue("stranger"))):
        # With TLS 1.3 the refusal comes with the first answer.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Api(switch, tls=context).get("/ping")
    assert Api(switch, tls=client, key=None).get("/apikeys").status == 401


def test_a_slow_handshake_keeps_no_place(make_switch, authority):
    limits = "api_connections_max = 1\napi_request_seconds_max = 1"
    switch = make_switch(api=table(*authority.issue("switch")), limits=limits).start()
    with socket.create_connection(("127.0.0.1", switch.api_port()), timeout=10) as peer:
        peer.settimeout(10)
        assert peer.recv(1) == b""
    assert Api(switch, tls=trusting(authority)).done("GET", "/ping")["success"] is True


def test_files_that_are_none_are_named(make_switch, authority, tmp_path):
    certificate, key = authority.issue("switch")
    _, other_key = authority.issue("other")
    nothing = tmp_path / "nothing.pem"
    open_key = tmp_path / "open.key"
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    for files, named in [
        ((nothing, key), nothing),
        ((key, key), key),
        ((certificate, nothing), nothing),
        ((certificate, certificate), certificate),
        ((certificate, other_key), certificate),
        ((certificate, open_key), open_key),
        ((certificate, key, nothing), nothing),
    ]:
        said = make_switch(api=table(*files)).refuses_to_start()
        assert str(named) in said and "PRIVATE" not in said


def test_without_tls_only_a_loopback_address_is_taken(own):
    text = own.config.read_text()
    own.config.write_text(text.replace('[api]\nlisten = "127.', '[api]\nlisten = "0.'))
    checked = own.command("check-config")
    assert checked.returncode == 1 and "expected [api.tls], or a loopback address" in checked.stderr
