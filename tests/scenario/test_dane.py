# SPDX-License-Identifier: Apache-2.0
"""DANE (RFC 7672): TLSA records of a zone that is signed for real (ldns), served by nsd, validated by resolver(8), and what smtp(8)
makes of them."""
import hashlib
import os
import re
import shutil
import ssl
import subprocess

import pytest

from harness import send
from harness.instance import free_port

TIMES = {"minimal_backoff_time": "1h", "maximal_backoff_time": "1h", "smtp_connect_timeout": "2s"}


def run(*argv, **more):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **more).stdout


def make_certificates(folder):
    """ca.pem, and leaf.pem with its chain behind it: for mxta.sec.test."""
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("openssl", "req", "-x509", *ec, "-days", "30", "-subj", "/CN=Test CA", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem")
    run("openssl", "req", *ec, "-subj", "/CN=mxta.sec.test", "-addext", "subjectAltName=DNS:mxta.sec.test",
        "-keyout", f"{folder}/leaf.key", "-out", f"{folder}/leaf.csr")
    run("openssl", "x509", "-req", "-days", "30", "-in", f"{folder}/leaf.csr", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key",
        "-CAcreateserial", "-copy_extensions", "copy", "-out", f"{folder}/leaf.crt")
    with open(f"{folder}/leaf.pem", "w") as f:
        f.write(open(f"{folder}/leaf.crt").read() + open(f"{folder}/ca.pem").read())


def key_digest(certificate, kind="sha256"):
    public = run("openssl", "x509", "-in", certificate, "-noout", "-pubkey")
    return hashlib.new(kind, ssl.PEM_cert_to_DER_cert(public.replace("PUBLIC KEY", "CERTIFICATE"))).hexdigest()


class Zones:
    """sec.test is signed, plain.test is not. Hosts: mx... at 127.0.0.2 (certificate that names no host), mxta at 127.0.0.3."""

    def __init__(self, folder, port):
        self.folder, self.port = str(folder), free_port()
        leaf, ca = key_digest(f"{folder}/leaf.crt"), key_digest(f"{folder}/ca.pem", "sha512")
        tlsa = {"mx": f"3 1 1 {leaf}", "mxta": f"2 1 2 {ca}", "mxname": f"2 1 2 {ca}", "mxbad": f"3 1 1 {'00' * 32}",
                "mxodd": f"1 1 1 {leaf}", "mxbogus": f"3 1 1 {'11' * 32}", "mxhalf": f"3 1 1 {'00' * 32}"}
        zone = "$ORIGIN sec.test.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
        for host in (*tlsa, "mxnone", "mxalias"):
            zone += f"{host[2:] or 'good'} MX 10 {host}\n"
            zone += "mxalias CNAME mx\n" if host == "mxalias" else f"{host} A {'127.0.0.3' if host == 'mxta' else '127.0.0.2'}\n"
        zone += "lost MX 10 mxlost\nlost A 127.0.0.2\nmxlost A 127.0.0.2\n"
        zone += "mxhalf AAAA 2001:db8::11\n"
        zone += "".join(f"_{port}._tcp.{host} TLSA {record}\n" for host, record in tlsa.items())
        self.write("sec.test.zone", zone)
        self.write("plain.test.zone", "$ORIGIN plain.test.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
                   f"@ MX 10 mx.sec.test.\n@ MX 20 mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA 3 1 1 {'00' * 32}\nown MX 10 mx\n")
        key = run("ldns-keygen", "-k", "-a", "ECDSAP256SHA256", "sec.test", cwd=folder).strip()
        run("ldns-signzone", "sec.test.zone", key, cwd=folder)
        signed = open(f"{folder}/sec.test.zone.signed").read()
        self.write("sec.test.zone.signed", signed.replace("11" * 32, "22" * 32).replace("2001:db8::11", "2001:db8::22").replace("10 mxlost.", "10 mxgone."))  # what was signed was another
        self.anchor = f"{folder}/{key}.ds"
        os.chmod(self.anchor, 0o644)
        self.write("nsd.conf", f"""server:
  ip-address: 127.0.0.1@{self.port}
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  zonelistfile: "{folder}/zone.list"
  database: ""
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  server-count: 1
  do-ip6: no
remote-control:
  control-enable: no
zone:
  name: sec.test
  zonefile: sec.test.zone.signed
zone:
  name: plain.test
  zonefile: plain.test.zone
""")
        with open(f"{folder}/nsd.log", "w") as log:
            self.process = subprocess.Popen([shutil.which("nsd") or "/usr/sbin/nsd", "-d", "-c", f"{folder}/nsd.conf"], stdout=log, stderr=log)

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as f:
            f.write(text)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dane")
    for path in (folder, *folder.parents):  # the mail system's user reads the trust anchor
        if str(path).startswith("/tmp/") and os.stat(path).st_uid == os.geteuid():
            os.chmod(path, 0o755)
    make_certificates(folder)
    port = free_port("127.0.0.2")
    zones = Zones(folder, port)
    yield zones, port, folder
    zones.process.terminate()
    zones.process.wait(10)


@pytest.fixture
def hosts(world, make_sink):
    """The two servers, which have the certificate."""
    _, port, folder = world
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/leaf.pem", f"{folder}/leaf.key")
    both = [make_sink(host=f"127.0.0.{n}", port=port) for n in (2, 3)]
    for sink in both:
        sink.starttls, sink.tls = True, context
    return both


@pytest.fixture
def post(world, hosts, make_mail):
    """post(domain, level, settings): the log line of what became of a message, and the instance."""
    zones, port, _ = world

    def posting(domain, level="dane", **settings):
        mail = make_mail(settings=TIMES | {
            "relayhost": "", "smtp_tcp_port": str(port), "smtp_tls_security_level": level, "smtp_dns_support_level": "dnssec",
            "resolver_nameservers": f"127.0.0.1@{zones.port}", "resolver_trust_anchor_file": zones.anchor, "smtp_tls_loglevel": "1"} | settings)
        answer = send("a@src.test", [f"x@{domain}"], b"Subject: x\r\n\r\nhi\r\n", port=mail.port)
        assert answer.code == 250, answer
        return mail.wait_log(rf": to=<x@{re.escape(domain)}>.*status=", 60)[0].text, mail
    return posting


@pytest.mark.parametrize("domain", ["good.sec.test", "alias.sec.test", "ta.sec.test"])
@pytest.mark.parametrize("level", ["dane", "dane-only"])
def test_certificate_that_a_record_names_is_verified(post, domain, level):
    text, mail = post(domain, level)
    assert "status=sent" in text
    assert mail.log("Verified TLS connection established to ")


@pytest.mark.parametrize("domain", ["bad.sec.test", "name.sec.test"], ids=["another key", "trust anchor, but another name"])
def test_certificate_that_no_record_names_gets_nothing(post, hosts, domain):
    text, _ = post(domain)
    assert "dsn=4.7.5, status=deferred (Server certificate not verified)" in text
    assert not hosts[0].messages


def test_host_with_records_and_without_starttls_gets_nothing(post, hosts):
    hosts[0].starttls = False
    text, _ = post("good.sec.test")
    assert "dsn=4.7.4, status=deferred (TLS is required, but was not offered" in text


def test_records_that_are_forged_are_no_absence(post, hosts):
    text, _ = post("bogus.sec.test")
    assert "dsn=4.7.5, status=deferred (TLSA lookup error for mxbogus.sec.test:" in text
    assert not hosts[0].sessions


def test_forged_addresses_hide_no_records(post, hosts):
    text, _ = post("half.sec.test", inet_protocols="all")  # who can answer for the AAAA records alone must not get mail in clear
    assert "dsn=4.7.5, status=deferred (Server certificate not verified)" in text and not hosts[0].messages


def test_host_without_records_is_as_at_level_may(post, hosts):
    hosts[0].starttls = False
    text, _ = post("none.sec.test")
    assert "status=sent" in text


def test_dane_only_wants_records(post, hosts):
    text, _ = post("none.sec.test", "dane-only")
    assert "dsn=4.7.5, status=deferred (no TLSA records found)" in text and not hosts[0].sessions


def test_records_that_cannot_be_used_ask_for_encryption(post, hosts):
    text, mail = post("odd.sec.test")
    assert "status=sent" in text and mail.log("Untrusted TLS connection established to ")
    assert hosts[0].messages[0].tls


def test_records_that_cannot_be_used_do_not_let_mail_go_in_clear(post, hosts):
    hosts[0].starttls = False
    text, _ = post("odd.sec.test")
    assert "dsn=4.7.4, status=deferred" in text


def test_dane_only_wants_usable_records(post):
    text, _ = post("odd.sec.test", "dane-only")
    assert "dsn=4.7.5, status=deferred (TLSA records unusable)" in text


def test_digests_that_are_switched_off_are_unusable(post):
    text, _ = post("good.sec.test", "dane-only", tls_dane_digests="sha512")
    assert "status=deferred (TLSA records unusable)" in text


def test_mx_records_that_are_not_signed_are_trusted_less(post):
    text, mail = post("plain.test")
    assert "status=sent" in text and mail.log("Trusted TLS connection established to mx.sec.test")


def test_mx_records_that_are_not_signed_and_dane_only(post, hosts):
    text, _ = post("plain.test", "dane-only")
    assert "dsn=4.7.5, status=deferred (non DNSSEC destination)" in text and not hosts[0].sessions


def test_mx_records_that_are_forged_are_no_absence(post, hosts):
    text, _ = post("lost.sec.test", "dane-only")
    assert "dsn=4.4.3, status=deferred" in text
    text, _ = post("lost.sec.test", "dane-only", ignore_mx_lookup_error="yes")
    assert "dsn=4.7.5, status=deferred (non DNSSEC destination)" in text and not hosts[0].sessions


def test_insecure_mx_policy_encrypt(post):
    text, mail = post("plain.test", smtp_tls_dane_insecure_mx_policy="encrypt")
    assert "status=sent" in text and mail.log("Untrusted TLS connection established to mx.sec.test")


def test_records_of_a_zone_that_is_not_signed_do_not_count(post):
    text, mail = post("own.plain.test")
    assert "status=sent" in text and mail.log("Untrusted TLS connection established to mx.plain.test")


def test_nor_where_they_are_looked_for(post):
    text, mail = post("own.plain.test", smtp_tls_force_insecure_host_tlsa_lookup="yes")
    assert "status=sent" in text and mail.log("Untrusted TLS connection established to mx.plain.test")


def test_level_dane_of_one_destination(post, hosts):
    text, _ = post("bad.sec.test", "may", smtp_tls_policy_maps="inline:{bad.sec.test=dane}")
    assert "status=deferred (Server certificate not verified)" in text
    hosts[0].messages.clear()
    text, _ = post("good.sec.test", "may", smtp_tls_policy_maps="inline:{bad.sec.test=dane}")
    assert "status=sent" in text


def test_without_dnssec_nothing_goes_by_a_level_that_needs_it(post, hosts):
    text, mail = post("good.sec.test", smtp_dns_support_level="enabled")
    assert "dsn=4.7.5, status=deferred (client TLS configuration problem)" in text and not hosts[0].sessions
    assert mail.log("smtp_tls_security_level = dane needs smtp_dns_support_level = dnssec")
