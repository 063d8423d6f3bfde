# SPDX-License-Identifier: Apache-2.0
"""smtp logs in to a relay host, and gives each destination the TLS that its policy wants."""
import subprocess

import pytest

from harness import send
from harness.sink import certificate
from test_smtpd_auth import AUTH

MESSAGE = b"Subject: x\r\n\r\nx\r\n"


def fingerprint(cert, of_key=False):
    if not of_key:
        out = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256"], check=True, capture_output=True, text=True).stdout
        return out.strip().split("=", 1)[1]
    key = subprocess.run(f"openssl x509 -in {cert} -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -c",
                         shell=True, check=True, capture_output=True, text=True).stdout
    return key.strip().split("= ", 1)[1].upper()


@pytest.fixture
def hub(make_mail, sink):
    """A host that relays for those who log in, with TLS."""
    cert, key = certificate("localhost")
    return make_mail(relay=sink, settings={**AUTH, "myhostname": "hub.test", "smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert,
                                           "smtpd_tls_key_file": key, "smtpd_sasl_authenticated_header": "yes"})


def client(make_mail, hub, **settings):
    return make_mail(relay=f"127.0.0.1:{hub.port}", settings={"smtp_tls_loglevel": "1", **settings})


def submit(mail, sender="a@src.test"):
    assert send(sender, ["b@far.test"], MESSAGE, port=mail.port).code == 250


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"])
def test_each_mechanism(make_mail, hub, sink, mechanism):
    mail = client(make_mail, hub, smtp_sasl_auth_enable="yes", smtp_sasl_password_maps=f"inline:{{ [127.0.0.1]:{hub.port}=tom:secret }}",
                  smtp_sasl_mechanism_filter=mechanism, smtp_sasl_security_options="noanonymous")
    submit(mail)
    assert b"(Authenticated sender: tom)" in sink.wait_count(1)[0].content
    hub.wait_log(rf"sasl_method={mechanism}, sasl_username=tom$")


def test_no_plain_password_without_tls_and_no_wrong_one_at_all(make_mail, hub, sink):
    mail = client(make_mail, hub, smtp_sasl_auth_enable="yes", smtp_sasl_password_maps="static:tom:secret", smtp_sasl_mechanism_filter="plain, login, PLAIN, LOGIN")
    submit(mail)
    mail.wait_log(r"status=deferred \(SASL authentication failed; server .* offered no compatible authentication mechanisms")
    other = client(make_mail, hub, smtp_sasl_auth_enable="yes", smtp_sasl_password_maps="static:tom:wrong")
    submit(other)
    other.wait_log(r"dsn=4\.7\.8, status=deferred \(SASL authentication failed; server \S+ said: 535 5\.7\.8 ")
    assert sink.accepted == 0


def test_a_password_for_each_sender(make_mail, hub, sink):
    mail = client(make_mail, hub, smtp_sasl_auth_enable="yes", smtp_sender_dependent_authentication="yes",
                  smtp_sasl_password_maps="inline:{ e@src.test=eve@x.test:other, 127.0.0.1=tom:secret }")
    submit(mail, "e@src.test")
    submit(mail, "a@src.test")
    contents = b"".join(m.content for m in sink.wait_count(2))
    assert b"(Authenticated sender: eve@x.test)" in contents and b"(Authenticated sender: tom)" in contents


LOGIN = {"smtp_sasl_auth_enable": "yes", "smtp_sasl_password_maps": "static:tom:secret"}


@pytest.mark.parametrize("policy, works, line", [
    ("encrypt", True, "Untrusted TLS connection established to "),
    ("none", True, None),
    ("fingerprint match=KEY", True, "Verified TLS connection established to "),
    ("fingerprint match=CERT", True, "Verified TLS connection established to "),
    ("fingerprint match=00:11", False, "server certificate verification failed"),
    ("secure match=localhost", True, "Verified TLS connection established to "),
    ("secure match=other.test", False, "SSL_connect error"),
    ("verify", False, "SSL_connect error"),
    ("nonsense", False, "this level is not known"),
    ("encrypt protocols=TLSv1.2", True, "TLSv1.2 with cipher"),
])
def test_policies(make_mail, hub, sink, policy, works, line):
    cert, _ = certificate("localhost")
    text = policy.replace("KEY", fingerprint(cert, True)).replace("CERT", fingerprint(cert))
    settings = dict(LOGIN, smtp_tls_fingerprint_digest="sha256", smtp_tls_policy_maps=f"inline:{{ {{ [127.0.0.1]:{hub.port} = {text} }} }}")
    if policy.startswith(("secure", "verify")):
        settings["smtp_tls_CAfile"] = cert
    mail = client(make_mail, hub, **settings)
    submit(mail)
    if works:
        content = sink.wait_count(1)[0].content
        assert (b"with ESMTPSA" in content) == (policy != "none")
    else:
        mail.wait_log("status=deferred")
        assert sink.accepted == 0
    if line:
        mail.wait_log(line)
