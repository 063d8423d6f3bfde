# SPDX-License-Identifier: Apache-2.0
"""A private mail system whose virtual users read their mail by POP3 and IMAP: what the tests of both share.

    with Reading(users=2) as mail:
        imap = mail.imap(1)               # logged in as u1@read.test
        mail.put(1, b"Subject: x\\r\\n\\r\\nhi\\r\\n")
"""
import imaplib
import os
import poplib
import pwd
import socket
import ssl
import subprocess
import time

from harness.instance import Instance, free_port, owner

PASSWORD = "secret word"


def make_certificate(directory):
    """(certificate, key) for localhost."""
    cert, key = f"{directory}/reading.crt", f"{directory}/reading.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key


def greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            return s.recv(1)
    except OSError:
        return b""


class Reading(Instance):
    def __init__(self, users=2, settings=None, services=(), **more):
        self.imap_port, self.imaps_port, self.pop3_port, self.pop3s_port = (free_port() for _ in range(4))
        self.users = users
        own = [f"127.0.0.1:{self.imap_port} inet n - n - - imapd",
               f"127.0.0.1:{self.imaps_port} inet n - n - - imapd -o login_tls_wrappermode=yes",
               f"127.0.0.1:{self.pop3_port} inet n - n - - pop3d",
               f"127.0.0.1:{self.pop3s_port} inet n - n - - pop3d -o login_tls_wrappermode=yes",
               "imap-session unix - n n - 0 imap-session", "pop3-session unix - n n - 0 pop3-session",
               "auth unix n n n - 0 auth"]
        super().__init__(settings=settings, services=own + list(services), **more)

    def _make(self):
        super()._make()
        cert, key = make_certificate(self.etc)
        self.mail_base = f"{self.base}/mail"
        os.makedirs(self.mail_base, exist_ok=True)
        uid, gid = (os.geteuid(), os.getegid()) if os.geteuid() else (12000, 12000)
        if not os.geteuid():
            os.chown(self.mail_base, uid, gid)
        with open(f"{self.etc}/passwords", "w") as f:
            f.writelines(f"u{n}@read.test {{PLAIN}}{PASSWORD}\n" for n in range(1, self.users + 1))
        os.chmod(f"{self.etc}/passwords", 0o600)
        if not os.geteuid():
            os.chown(f"{self.etc}/passwords", pwd.getpwnam(owner()[0]).pw_uid, -1)
        boxes = " ".join(f"{{u{n}@read.test = u{n}/}}" for n in range(1, self.users + 1))
        own = {"virtual_mailbox_domains": "read.test", "virtual_mailbox_maps": f"inline:{{{boxes}}}",
               "virtual_mailbox_base": self.mail_base, "virtual_uid_maps": f"static:{uid}", "virtual_gid_maps": f"static:{gid}",
               "virtual_minimum_uid": "1", "auth_sources": f"table:texthash:{self.etc}/passwords", "auth_failure_delay": "0s",
               "smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key}
        self.settings = own | self.settings
        self.write_config()

    def start(self, *args, **more):
        super().start(*args, **more)
        for port in (self.imap_port, self.pop3_port):
            self.wait(lambda p=port: greets(p), 60, f"port {port} greets", 0.1)
        return self

    def tls(self):
        return ssl.create_default_context(cafile=f"{self.etc}/reading.crt")

    def imap(self, n=1, tls=False, login=True):
        c = imaplib.IMAP4_SSL("localhost", self.imaps_port, ssl_context=self.tls()) if tls else imaplib.IMAP4("127.0.0.1", self.imap_port)
        c.sock.settimeout(60)
        if login:
            c.login(f"u{n}@read.test", PASSWORD)
        return c

    def pop3(self, n=1, tls=False):
        c = poplib.POP3_SSL("localhost", self.pop3s_port, context=self.tls(), timeout=60) if tls else poplib.POP3("127.0.0.1", self.pop3_port, timeout=60)
        c.user(f"u{n}@read.test")
        c.pass_(PASSWORD)
        return c

    def maildir(self, n=1):
        return f"{self.mail_base}/u{n}"

    def put(self, n, content, name=None, folder="", flags=None):
        """Delivers as another program would: a file in new/ (or cur/, with flags)."""
        place = f"{self.maildir(n)}/{folder}"
        for sub in ("tmp", "new", "cur"):
            os.makedirs(f"{place}/{sub}", exist_ok=True)
        if not os.geteuid():
            for path, directories, _ in os.walk(self.maildir(n)):
                for d in [path] + [f"{path}/{x}" for x in directories]:
                    os.chown(d, 12000, 12000)
        self.serial = getattr(self, "serial", 0) + 1
        name = name or f"{int(time.time())}.M{self.serial:06d}P1.test"
        where = f"{place}/tmp/{name}"
        with open(where, "wb") as f:
            f.write(content.replace(b"\r\n", b"\n"))
        if not os.geteuid():
            os.chown(where, 12000, 12000)
        os.rename(where, f"{place}/new/{name}" if flags is None else f"{place}/cur/{name}:2,{flags}")
        return name
