# SPDX-License-Identifier: Apache-2.0
"""The server's TLS: chains, names, client certificates, renewed certificates."""
import base64
import shutil
import socket
import ssl
import subprocess

from harness import Client
from harness.sink import certificate


def tls_client(port, name=None, cert=None, **settings):
    """An SSL socket behind STARTTLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for key, value in settings.items():
        setattr(context, key, value)
    if cert:
        context.load_cert_chain(*cert)
    s = socket.create_connection(("127.0.0.1", port), timeout=10)
    f = s.makefile("rb")
    for command in (b"EHLO c.test\r\n", b"STARTTLS\r\n"):
        while f.readline()[3:4] == b"-":
            pass
        s.sendall(command)
    while f.readline()[3:4] == b"-":
        pass
    return context.wrap_socket(s, server_hostname=name)


def common_name(tls):
    text = subprocess.run(["openssl", "x509", "-noout", "-subject", "-inform", "DER"], input=tls.getpeercert(True), capture_output=True, check=True).stdout
    return text.decode().strip().split("CN = ")[-1]


def with_tls(**settings):
    cert, key = certificate("mail.test")
    return {"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key, "smtpd_tls_loglevel": "1", **settings}


def test_a_name_gets_its_certificate(make_mail, sink, tmp_path):
    first, second = certificate("one.test"), certificate("two.test")
    pem = {n: base64.b64encode(b"".join(open(f, "rb").read() for f in reversed(pair))).decode() for n, pair in (("one.test", first), ("two.test", second))}
    mail = make_mail(relay=sink, settings={}, start=False)
    with open(f"{mail.etc}/sni", "w") as f:
        f.writelines(f"{name} {text}\n" for name, text in pem.items())
        f.write(".sub.test " + pem["two.test"] + "\nbad.test nonsense\n")
    mail.settings.update(with_tls(tls_server_sni_maps=f"texthash:{mail.etc}/sni"))
    mail.write_config()
    mail.start()
    assert [common_name(tls_client(mail.port, n)) for n in ("one.test", "two.test", "x.sub.test", "else.test", None)] == \
        ["one.test", "two.test", "two.test", "mail.test", "mail.test"]
    try:
        tls_client(mail.port, "bad.test")
        raise AssertionError("a certificate that can't be read was used")
    except (ssl.SSLError, OSError):
        pass
    assert not mail.complaints()


def test_chain_files_and_client_certificates(make_mail, sink):
    server, mine = certificate("mail.test"), certificate("client.test")
    mail = make_mail(relay=sink, settings={}, start=False)
    with open(f"{mail.base}/chain.pem", "w") as f:
        f.write(open(server[1]).read() + open(server[0]).read())
    print_ = subprocess.run(["openssl", "x509", "-in", mine[0], "-noout", "-fingerprint", "-sha256"], check=True, capture_output=True,
                            text=True).stdout.strip().split("=", 1)[1]
    mail.settings.update({"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": f"{mail.base}/chain.pem", "smtpd_tls_ask_ccert": "yes",
                          "smtpd_tls_CAfile": mine[0], "smtpd_tls_loglevel": "1", "smtpd_tls_received_header": "yes", "mynetworks": "[::1]/128",
                          "relay_clientcerts": f"inline:{{ {{ {print_} = client }} }}", "smtpd_tls_fingerprint_digest": "sha256",
                          "smtpd_relay_restrictions": "permit_tls_clientcerts, reject"})
    mail.write_config()
    mail.start()
    for cert, code in ((mine, b"250"), (None, b"554")):
        tls = tls_client(mail.port, cert=cert)
        f = tls.makefile("rwb")
        for line in (b"EHLO c.test", b"MAIL FROM:<a@src.test>", b"RCPT TO:<b@far.test>"):
            f.write(line + b"\r\n")
            f.flush()
            while (answer := f.readline())[3:4] == b"-":
                pass
        assert answer[:3] == code, answer
        if cert:
            f.write(b"DATA\r\n")
            f.flush()
            f.readline()
            f.write(b"Subject: x\r\n\r\nx\r\n.\r\n")
            f.flush()
            assert f.readline()[:3] == b"250"
    mail.wait_log(r"Trusted TLS connection established from ")
    mail.wait_log(r"Anonymous TLS connection established from ")
    assert b'(Client CN "client.test", Issuer "client.test" (verified OK))' in sink.wait_count(1)[0].content


def test_a_renewed_certificate_is_used_without_a_restart(make_mail, sink):
    mail = make_mail(relay=sink, settings={}, start=False)
    files = [f"{mail.base}/live.{kind}" for kind in ("pem", "key")]
    for source, target in zip(certificate("old.test"), files):
        shutil.copy(source, target)
    mail.settings.update(with_tls(smtpd_tls_cert_file=files[0], smtpd_tls_key_file=files[1]))
    mail.write_config()
    mail.start()
    assert common_name(tls_client(mail.port)) == "old.test"
    for source, target in zip(certificate("new.test"), files):
        shutil.copy(source, target + ".tmp")
        shutil.move(target + ".tmp", target)
    mail.wait(lambda: common_name(tls_client(mail.port)) == "new.test", step=0.5)
    assert not mail.complaints()


def test_submissions_is_tls_from_the_first_byte(make_mail, sink):
    from harness.instance import free_port
    port = free_port()
    mail = make_mail(relay=sink, settings=with_tls(), services=[f"127.0.0.1:{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"])
    context = ssl._create_unverified_context()
    tls = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10))
    assert tls.recv(100).startswith(b"220 mail.test")
    with Client(mail.port) as smtp:
        assert "STARTTLS" in smtp.ehlo("c.test").text
