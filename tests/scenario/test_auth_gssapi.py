# SPDX-License-Identifier: Apache-2.0
"""Logins with Kerberos tickets (RFC 4752): a KDC of MIT Kerberos in a directory of its own, Python's gssapi as the client."""
import base64
import contextlib
import os
import shutil
import subprocess
import time

import pytest

from harness import Client
from harness.instance import free_port
from test_smtpd_auth import AUTH, auth_lines, b64

REALM = "HERE.TEST"


def tool(name):
    return shutil.which(name) or f"/usr/sbin/{name}"


class Realm:
    def __init__(self, folder):
        self.folder, self.port = str(folder), free_port()
        self.environment = {**os.environ, "KRB5_CONFIG": f"{folder}/krb5.conf", "KRB5_KDC_PROFILE": f"{folder}/kdc.conf"}
        with open(f"{folder}/krb5.conf", "w") as f:
            f.write(f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_canonicalize_hostname = false\n rdns = false\n"
                    f" udp_preference_limit = 1\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{self.port}\n }}\n"
                    " FAR.TEST = {\n  kdc = 127.0.0.1:1\n }\n")
        with open(f"{folder}/kdc.conf", "w") as f:
            f.write(f"[kdcdefaults]\n kdc_listen = \"\"\n kdc_tcp_listen = 127.0.0.1:{self.port}\n[realms]\n {REALM} = {{\n"
                    f"  database_name = {folder}/principal\n  key_stash_file = {folder}/stash\n  acl_file = {folder}/acl\n }}\n"
                    f"[logging]\n kdc = FILE:{folder}/kdc.log\n")
        self.run("kdb5_util", "create", "-r", REALM, "-s", "-P", "master")
        for name in ("tom", "eve"):
            self.admin(f"addprinc -pw {name}-secret {name}")
        for name in ("smtp/localhost", "smtp/other"):
            self.admin(f"addprinc -randkey {name}")
        self.admin(f"ktadd -k {folder}/keytab smtp/localhost")
        self.process = subprocess.Popen([tool("krb5kdc"), "-n"], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, name, *words):
        subprocess.run([tool(name), *words], env=self.environment, check=True, capture_output=True)

    def admin(self, query):
        self.run("kadmin.local", "-r", REALM, "-q", query)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("krb5")
    for path in (folder, *folder.parents):  # the mail system's user reads krb5.conf
        if str(path).startswith("/tmp/") and os.stat(path).st_uid == os.geteuid():
            os.chmod(path, 0o755)
    made = Realm(folder)
    os.environ["KRB5_CONFIG"] = made.environment["KRB5_CONFIG"]  # before the library is loaded
    yield made
    del os.environ["KRB5_CONFIG"]
    made.stop()


def ticket(realm, user, password):
    from gssapi import Credentials, Name, NameType, raw
    name, deadline = Name(f"{user}@{REALM}", NameType.kerberos_principal), time.time() + 20
    while True:
        try:
            return Credentials(base=raw.acquire_cred_with_password(name, password.encode(), usage="initiate").creds)
        except raw.GSSError:
            if time.time() > deadline:
                raise
            time.sleep(.2)


def log_in(mail, credentials, service="smtp@localhost", authorize=b"", layer=1, tamper=lambda token: token):
    """The code and text of the last reply."""
    from gssapi import Name, NameType, SecurityContext
    context = SecurityContext(name=Name(service, NameType.hostbased_service), creds=credentials, usage="initiate")
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        reply = smtp.cmd("AUTH GSSAPI " + base64.b64encode(tamper(context.step())).decode())
        while reply.code == 334 and not context.complete:
            token = context.step(base64.b64decode(reply.text))
            reply = smtp.cmd(base64.b64encode(token or b"").decode())
        if reply.code == 334:
            assert context.unwrap(base64.b64decode(reply.text)).message[:1] == b"\1"
            answer = context.wrap(bytes([layer, 0, 0, 0]) + authorize, False).message
            reply = smtp.cmd(base64.b64encode(answer).decode())
        return reply.code


@pytest.fixture
def mail(make_mail, sink, realm):
    own = {"auth_mechanisms": "plain, gssapi", "auth_keytab": f"FILE:{realm.folder}/keytab",
           "import_environment": f"MAIL_CONFIG LANG=C KRB5_CONFIG={realm.environment['KRB5_CONFIG']}"}
    return make_mail(relay=sink, settings=AUTH | own)


def test_ticket_is_a_login(mail, realm):
    tom = ticket(realm, "tom", "tom-secret")
    assert log_in(mail, tom) == 235
    for himself in (b"tom", b"tom@HERE.TEST"):
        assert log_in(mail, tom, authorize=himself) == 235
    assert not mail.complaints()


def test_ticket_serves_nobody_else_and_nothing_else(mail, realm):
    from gssapi.raw import GSSError
    tom = ticket(realm, "tom", "tom-secret")
    assert log_in(mail, tom, authorize=b"eve") == 535
    assert log_in(mail, tom, authorize=b"tom\0") == 535
    assert log_in(mail, tom, service="smtp@other") == 535  # a key that we do not have
    assert log_in(mail, tom, layer=4) == 535  # a layer that was not offered
    for tamper in (lambda t: t[:-1] + bytes([t[-1] ^ 1]), lambda t: b"", lambda t: b"x" * 600, lambda t: t[:40]):
        with contextlib.suppress(GSSError):  # the answer may be an error of Kerberos, which the client knows
            assert log_in(mail, tom, tamper=tamper) == 535
    assert log_in(mail, tom) == 235
    assert not mail.complaints()


def test_principals_without_a_name_here_are_nobody(make_mail, sink, realm):
    with open(f"{realm.folder}/other.conf", "w") as f:
        f.write(open(f"{realm.folder}/krb5.conf").read().replace(f"default_realm = {REALM}", "default_realm = FAR.TEST"))
    mail = make_mail(relay=sink, settings=AUTH | {
        "auth_mechanisms": "gssapi", "auth_keytab": f"{realm.folder}/keytab",
        "import_environment": f"MAIL_CONFIG LANG=C KRB5_CONFIG={realm.folder}/other.conf"})
    assert log_in(mail, ticket(realm, "tom", "tom-secret")) == 535
    mail.wait_log("smtp login failed: user=<>, method=GSSAPI")


def test_without_keys_other_logins_go_on(make_mail, sink, realm):
    mail = make_mail(relay=sink, settings=AUTH | {"auth_mechanisms": "plain, gssapi", "auth_keytab": f"FILE:{realm.folder}/none"})
    assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0secret")).startswith("235 ")
    assert "GSSAPI" not in auth_lines(mail, "EHLO c.test")
    mail.wait_log(r"warning: GSSAPI: FILE:.*none: .*not found: it is not offered")
