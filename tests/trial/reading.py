# SPDX-License-Identifier: Apache-2.0
"""Users: made with `postfix user`; one submits a message to another over TLS, who reads it by POP3 and by IMAP."""
import base64
import os
import ssl
import subprocess

from harness.instance import free_port

from .dialogue import Dialogue
from .local import USERS
from .screen import HOME, TOP, fail, say, show, title

PASSWORD = {"ann": "correct horse", "bob": "battery staple"}
PORTS = {}
CERTIFICATE = f"{HOME}/etc/try.crt"


def entry(name):
    """An entry that the shipped master.cf has as a comment, with a port of our own in place of its name."""
    PORTS[name] = free_port()
    lines = []
    with open(f"{TOP}/conf/master.cf") as f:
        for line in f:
            if line.startswith(f"#{name} "):
                lines = [line[1:].split(None, 1)[1]]
            elif lines and line.startswith("#  "):
                lines.append(line[1:])
            elif lines:
                break
    return f"127.0.0.1:{PORTS[name]} " + " ".join(" ".join(lines).split())


def services():
    return [entry(name) for name in ("submission", "submissions", "imap", "imaps", "pop3", "pop3s")]


def settings():
    """With a certificate that this machine made itself; a real one comes from a certificate authority."""
    key = f"{HOME}/etc/try.key"
    os.makedirs(f"{HOME}/etc", exist_ok=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out",
                    CERTIFICATE], check=True, capture_output=True)
    return {"smtpd_tls_cert_file": CERTIFICATE, "smtpd_tls_key_file": key, "smtpd_tls_security_level": "may"}


def add_users(mail):
    title("Two users")
    for user in USERS:
        say(f"    $ postfix user add {user}@here.test      (password: {PASSWORD[user]})")
        mail.command("postfix", "user", "add", f"{user}@here.test", stdin=f"{PASSWORD[user]}\n".encode())
    say("    $ postfix user list")
    show(mail.command("postfix", "user", "list").stdout)


def submit(context, name, subject):
    login = base64.b64encode(f"\0ann@here.test\0{PASSWORD['ann']}".encode()).decode()
    with Dialogue(PORTS[name], context, tls=name == "submissions") as d:
        d.smtp()
        d.smtp("EHLO laptop.test")
        if name == "submission":
            d.smtp("STARTTLS")
            d.start_tls()
            d.smtp("EHLO laptop.test")
        d.smtp(f"AUTH PLAIN {login}", "AUTH PLAIN ... (name and password)")
        d.smtp("MAIL FROM:<ann@here.test>")
        d.smtp("RCPT TO:<bob@here.test>")
        d.smtp("DATA", code="354")
        d.smtp(f"From: Ann <ann@here.test>\nTo: Bob <bob@here.test>\nSubject: {subject}\n\nSent with {name}.\n.")
        d.smtp("QUIT")


def read_by_pop3(context, name):
    with Dialogue(PORTS[name], context, tls=name == "pop3s") as d:
        d.pop3()
        d.pop3("USER bob@here.test")
        d.pop3(f"PASS {PASSWORD['bob']}", "PASS ...")
        d.pop3("LIST", more=True)
        d.pop3("UIDL", more=True)
        if name == "pop3":
            d.pop3("RETR 1", more=True)
        d.pop3("QUIT")


def read_by_imap(context, name):
    with Dialogue(PORTS[name], context, tls=name == "imaps") as d:
        d.imap()
        d.imap(f"LOGIN bob@here.test \"{PASSWORD['bob']}\"", "LOGIN bob@here.test ...")
        d.imap("LIST \"\" *")
        d.imap("SELECT INBOX")
        found = d.imap("SEARCH SUBJECT dinner")[0].split()[2:]
        if len(found) != 2:
            fail(f"IMAP finds {found}, not the two messages that Ann submitted")
        d.imap(f"FETCH {','.join(found)} (UID FLAGS BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])")
        if name == "imap":
            d.imap(f"FETCH {found[0]} BODY[TEXT]")
        else:
            d.imap(f"STORE {found[1]} +FLAGS (\\Flagged)")
        d.imap("LOGOUT")


def run(mail):
    context = ssl.create_default_context(cafile=CERTIFICATE)
    add_users(mail)
    title("Ann submits a message to Bob: submission (STARTTLS)")
    submit(context, "submission", "dinner")
    title("Another one: submissions (TLS from the first byte)")
    submit(context, "submissions", "dinner, too")
    mail.wait_log(r"to=<bob@here\.test>.*relay=virtual.*status=sent", seconds=60, count=3)
    title("Bob reads by POP3, in clear text (from this host alone: see login_plaintext_networks)")
    read_by_pop3(context, "pop3")
    title("Bob reads by POP3 over TLS")
    read_by_pop3(context, "pop3s")
    title("Bob reads by IMAP, in clear text")
    read_by_imap(context, "imap")
    title("Bob reads by IMAP over TLS")
    read_by_imap(context, "imaps")


def print_settings():
    title("Type this into Thunderbird (Account Settings, Add Mail Account, Configure manually)")
    say(f"    Email address      bob@here.test (or ann@here.test); password: {PASSWORD['bob']} ({PASSWORD['ann']})")
    for what, name, security in (("Incoming, IMAP", "imaps", "SSL/TLS"), ("or, with STARTTLS", "imap", "STARTTLS"), ("or POP3", "pop3s", "SSL/TLS"),
                                 ("Outgoing, SMTP", "submissions", "SSL/TLS"), ("or, with STARTTLS", "submission", "STARTTLS")):
        say(f"    {what:18} host localhost, port {PORTS[name]}, security {security}, Normal password, user name bob@here.test")
    say("    The certificate is this machine's own: confirm the security exception that Thunderbird offers.")
