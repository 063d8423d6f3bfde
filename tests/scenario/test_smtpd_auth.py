# SPDX-License-Identifier: Apache-2.0
"""Logging in to send: AUTH in smtpd, our auth daemon and Dovecot's, with Python's smtplib and swaks as clients."""
import base64
import hashlib
import hmac
import os
import pathlib
import re
import smtplib
import socket
import ssl
import subprocess

import pytest

from harness import Client
from harness.sink import certificate

CLIENT = r"(unknown|localhost)\[127\.0\.0\.1\]"
AUTH = {"smtpd_sasl_auth_enable": "yes", "auth_sources": "table:inline:{ tom={PLAIN}secret, eve@x.test={PLAIN}other }", "auth_failure_delay": "0s",
        "mynetworks": "[::1]/128", "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
        "smtpd_client_restrictions": "", "relay_domains": ""}


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def auth_lines(mail, *lines, ehlo="c.test"):
    """The last reply to these lines."""
    with Client(mail.port) as smtp:
        smtp.ehlo(ehlo)
        for line in lines:
            reply = smtp.cmd(line)
        return f"{reply.code} {reply.text}"


def test_plain_and_login_and_what_they_allow(make_mail, sink):
    mail = make_mail(relay=sink, settings={**AUTH, "smtpd_sasl_authenticated_header": "yes"})
    assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0secret")) == "235 2.7.0 Authentication successful"
    assert auth_lines(mail, "AUTH PLAIN", b64("\0tom\0secret")).startswith("235 ")
    assert auth_lines(mail, "AUTH LOGIN", b64("tom"), b64("secret")).startswith("235 ")
    assert auth_lines(mail, "AUTH LOGIN " + b64("tom"), b64("secret")).startswith("235 ")
    assert auth_lines(mail, "MAIL FROM:<a@src.test>", "RCPT TO:<b@far.test>").startswith("554 5.7.1 <b@far.test>: ")
    with smtplib.SMTP("127.0.0.1", mail.port) as smtp:
        smtp.login("tom", "secret")
        smtp.sendmail("a@src.test", ["b@far.test"], "Subject: x\r\n\r\nx\r\n")
    message = sink.wait_count(1)[0]
    assert b"\t(Authenticated sender: tom)\r\n" in message.content and b" with ESMTPA id " in message.content
    mail.wait_log(rf"[0-9A-F]+: client={CLIENT}, sasl_method=(PLAIN|LOGIN|CRAM-MD5), sasl_username=tom$")


def test_failures_are_answered_and_logged_as_programs_expect_them(make_mail, sink):
    mail = make_mail(relay=sink, settings=AUTH)
    assert auth_lines(mail, "AUTH LOGIN", b64("tom"), b64("wrong")).startswith("535 5.7.8 Error: authentication failed: ")
    mail.wait_log(rf"warning: {CLIENT}: SASL LOGIN authentication failed: \S.*, sasl_username=tom$")
    assert auth_lines(mail, "AUTH PLAIN " + b64("\0nobody\0wrong")).startswith("535 5.7.8 ")
    assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0")).startswith("535 ")
    assert auth_lines(mail, "AUTH PLAIN @@@@").startswith("535 ")
    assert auth_lines(mail, "AUTH PLAIN " + b64("eve\0tom\0secret")).startswith("535 ")
    assert auth_lines(mail, "AUTH PLAIN", "*") == "501 5.7.0 Authentication aborted"
    assert auth_lines(mail, "AUTH NTLM").startswith("535 5.7.8 Error: authentication failed: Invalid authentication mechanism")
    assert auth_lines(mail, "AUTH").startswith("501 5.5.4 Syntax: AUTH mechanism")
    assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0secret"), "AUTH PLAIN").startswith("503 5.5.1 Error: already authenticated")
    assert auth_lines(mail, "MAIL FROM:<a@b.test>", "AUTH PLAIN").startswith("503 5.5.1 ")
    assert auth_lines(mail, "AUTH PLAIN", "x" * 20000).startswith("500 5.5.6 ")
    assert not mail.complaints()


def cram(mail, user, password, tamper=lambda text: text):
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        reply = smtp.cmd("AUTH CRAM-MD5")
        if reply.code != 334:
            return reply.code, ""
        challenge = base64.b64decode(reply.text)
        return smtp.cmd(b64(tamper(f"{user} {hmac.new(password.encode(), challenge, 'md5').hexdigest()}"))).code, challenge.decode()


def test_cram_md5_is_there_for_those_who_ask_for_it(make_mail, sink):
    mail = make_mail(relay=sink, settings=AUTH)
    assert cram(mail, "tom", "secret")[0] == 535 and "CRAM-MD5" not in auth_lines(mail, "EHLO c.test")
    mail = make_mail(relay=sink, settings={**AUTH, "auth_mechanisms": "plain, cram-md5, scram-sha-256", "auth_sources": (
        "table:inline:{ tom={PLAIN}secret, eve@x.test={PLAIN}other, none={PLAIN}, hashed=$6$abc$UCVfbgyGcjUJLb3pDlZBaqyQlQwQMYsTtTlAYJMo1eo1LXEWbQ8Ugdd1Bf2LmwG8u0vXqbBvAgJAaqjgqDRrW1 }")})
    assert cram(mail, "tom", "secret")[0] == cram(mail, "EVE@x.test", "other")[0] == 235
    seen = [cram(mail, *who) for who in (("tom", "other"), ("nobody", "secret"), ("hashed", "x"), ("nobody", ""), ("", "secret"), ("none", ""))]
    assert [code for code, _ in seen] == [535] * 6 and len({challenge for _, challenge in seen}) == 6
    assert scram(mail, "none", "")[0] == 535 and auth_lines(mail, "AUTH PLAIN " + b64("\0none\0")).startswith("535 ")
    for tamper in (lambda t: t[:-1], lambda t: t + "0", lambda t: t.replace(" ", ""), lambda t: "", lambda t: " " * 33, lambda t: t.replace("tom", "tom\0")):
        assert cram(mail, "tom", "secret", tamper)[0] == 535
    done = subprocess.run(["swaks", "--server", f"127.0.0.1:{mail.port}", "--auth", "CRAM-MD5", "--auth-user", "tom", "--auth-password", "secret",
                           "--quit-after", "AUTH"], capture_output=True, text=True)
    assert done.returncode == 0 and "235 2.7.0" in done.stdout
    assert not mail.complaints()


def scram(mail, user, password, digest="SHA-256", header="n,,", tamper=False):
    name = {"SHA-1": "sha1", "SHA-256": "sha256"}[digest]
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        bare = f"n={user},r=clientnonce"
        reply = smtp.cmd(f"AUTH SCRAM-{digest} " + b64(header + bare))
        if reply.code != 334:
            return reply.code, None
        first = base64.b64decode(reply.text).decode()
        fields = dict(part.split("=", 1) for part in first.split(","))
        assert fields["r"].startswith("clientnonce") and len(fields["r"]) > 20
        salted = hashlib.pbkdf2_hmac(name, password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", name)
        final = f"c={b64(header)},r={fields['r']}"
        text = f"{bare},{first},{final}".encode()
        signature = hmac.digest(hashlib.new(name, key).digest(), text, name)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        reply = smtp.cmd(b64(f"{final},p={b64(proof)}"))
        if reply.code != 334:
            return reply.code, first
        server = hmac.digest(hmac.digest(salted, b"Server Key", name), text, name)
        assert base64.b64decode(reply.text).decode() == "v=" + b64(server)
        return smtp.cmd("").code, first


def test_scram_shows_both_sides_and_hides_who_exists(make_mail, sink):
    mail = make_mail(relay=sink, settings=AUTH)
    assert scram(mail, "tom", "secret")[0] == 235
    assert scram(mail, "tom", "secret", "SHA-1")[0] == 235
    assert scram(mail, "tom", "wrong")[0] == 535
    code, first = scram(mail, "nobody", "secret")
    assert code == 535 and ",i=10000" in first
    assert re.search(r",s=([^,]*)", scram(mail, "nobody", "x")[1])[1] == re.search(r",s=([^,]*)", first)[1]
    assert scram(mail, "tom", "secret", header="p=tls-exporter,,")[0] == 535  # not without -PLUS


def test_without_tls_nothing_is_offered_where_tls_is_a_must(make_mail, sink):
    files = certificate("mail.test")
    mail = make_mail(relay=sink, settings={**AUTH, "smtpd_tls_auth_only": "yes", "smtpd_tls_security_level": "may",
                                           "smtpd_tls_cert_file": files[0], "smtpd_tls_key_file": files[-1]})
    with smtplib.SMTP("127.0.0.1", mail.port) as smtp:
        smtp.ehlo()
        assert "auth" not in smtp.esmtp_features
        assert smtp.docmd("AUTH PLAIN " + b64("\0tom\0secret"))[0] == 538
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        smtp.starttls(context=context)
        smtp.ehlo()
        assert "SCRAM-SHA-256-PLUS" in smtp.esmtp_features["auth"] and "PLAIN" in smtp.esmtp_features["auth"]
        assert "EXTERNAL" not in smtp.esmtp_features["auth"]
        smtp.login("tom", "secret")
        smtp.sendmail("a@src.test", ["b@far.test"], "Subject: x\r\n\r\nx\r\n")
    assert b" with ESMTPSA id " in sink.wait_count(1)[0].content


def test_a_login_sends_only_as_its_owner(make_mail, sink):
    mail = make_mail(relay=sink, settings={**AUTH, "smtpd_sender_login_maps": "inline:{ t@x.test=tom, eve@x.test=eve@x.test }",
                                           "smtpd_sender_restrictions": "reject_sender_login_mismatch"})
    login = "AUTH PLAIN " + b64("\0tom\0secret")
    assert auth_lines(mail, login, "MAIL FROM:<t@x.test>", "RCPT TO:<b@far.test>") == "250 2.1.5 Ok"
    assert auth_lines(mail, login, "MAIL FROM:<eve@x.test>", "RCPT TO:<b@far.test>") == \
        "553 5.7.1 <eve@x.test>: Sender address rejected: not owned by user tom"
    assert auth_lines(mail, "MAIL FROM:<eve@x.test>", "RCPT TO:<b@far.test>") == "553 5.7.1 <eve@x.test>: Sender address rejected: not logged in"


def test_a_login_that_sends_too_much_is_held(make_mail, sink):
    mail = make_mail(relay=sink, settings={**AUTH, "smtpd_login_message_rate_limit": "2"})
    with smtplib.SMTP("127.0.0.1", mail.port) as smtp:
        smtp.login("tom", "secret")
        for _ in range(4):
            smtp.sendmail("a@src.test", ["b@far.test"], "Subject: x\r\n\r\nx\r\n")
    sink.wait_count(2)
    mail.wait(lambda: len(mail.queue_files("hold")["hold"]) == 2)
    mail.wait_log(r"warning: Login message rate limit exceeded: 3 from login tom, client ")
    assert sink.accepted == 2


def test_a_server_that_is_gone_is_not_taken_for_a_wrong_password(make_mail, sink):
    mail = make_mail(relay=sink, settings={**AUTH, "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": "private/nobody"})
    with Client(mail.port) as smtp:
        assert "AUTH" not in smtp.ehlo("c.test").text
    assert not mail.complaints()


@pytest.mark.skipif(not os.path.exists("/usr/sbin/dovecot"), reason="no Dovecot here")
@pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot wants root")
def test_dovecots_server_stands_in_for_ours(make_mail, sink):
    mail = make_mail(relay=sink, settings={**AUTH, "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": "private/dovecot"})
    tmp_path = pathlib.Path(mail.base)  # which Dovecot's processes can reach
    users = tmp_path / "users"
    users.write_text("tom:{PLAIN}secret::::::\n")
    conf = tmp_path / "dovecot.conf"
    conf.write_text(f"""
base_dir = {tmp_path}/run
state_dir = {tmp_path}/state
log_path = {tmp_path}/dovecot.log
protocols =
ssl = no
auth_mechanisms = plain login scram-sha-256
disable_plaintext_auth = no
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {users}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {mail.spool}/private/dovecot {{
    mode = 0666
  }}
}}
""")
    dovecot = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(conf)])
    try:
        mail.wait(lambda: os.path.exists(f"{mail.spool}/private/dovecot"))
        assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0secret")) == "235 2.7.0 Authentication successful"
        assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0wrong")).startswith("535 5.7.8 ")
        assert scram(mail, "tom", "secret")[0] == 235
        done = subprocess.run(["swaks", "--server", f"127.0.0.1:{mail.port}", "--from", "a@src.test", "--to", "b@far.test", "--auth", "LOGIN",
                               "--auth-user", "tom", "--auth-password", "secret"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        sink.wait_count(1)
    finally:
        dovecot.terminate()
        dovecot.wait()


def test_the_protocol_of_auth_survives_nonsense(make_mail, sink):
    mail = make_mail(relay=sink, settings=AUTH)
    for nonsense in (b"AUTH\n", b"AUTH\tx\tPLAIN\n", b"CONT\t1\n\n", b"\0" * 100 + b"\n", b"A" * 100000, b"AUTH\t1\tPLAIN\tresp=\n" * 300,
                     b"VERSION\t2\t0\n", b"CANCEL\t99\nUSER\t1\ttom\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(f"{mail.spool}/public/auth")
            try:
                s.sendall(b"VERSION\t1\t1\nCPID\t1\n" + nonsense)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            except OSError:
                pass
    assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0secret")).startswith("235 ")
    assert not mail.complaints()
