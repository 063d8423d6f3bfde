# SPDX-License-Identifier: Apache-2.0
"""postfix user, and what auth makes of its table: hashes only, root's alone, changes seen at once; tickets for mailboxes."""
import base64
import os
import pwd
import re
import socket

import pytest

from test_smtpd_auth import AUTH, auth_lines, b64, scram


def user(mail, *words, password=None):
    return mail.command("postfix", "user", *words, check=False, stdin=None if password is None else f"{password}\n".encode())


def test_users_come_change_and_go_while_auth_runs(make_mail, sink):
    mail = make_mail(relay=sink, settings={**AUTH, "auth_sources": "users"})
    login = "AUTH PLAIN " + b64("\0tom\0secret")
    assert auth_lines(mail, login).startswith("535 ")
    assert user(mail, "add", "Tom", password="secret").returncode == 0
    assert user(mail, "add", "tom", password="other").returncode != 0
    assert auth_lines(mail, login).startswith("235 ")
    assert scram(mail, "tom", "secret")[0] == 235
    assert user(mail, "list").stdout.split() == ["tom"]
    assert user(mail, "passwd", "tom", password="new").returncode == 0
    assert auth_lines(mail, login).startswith("535 ")
    assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0new")).startswith("235 ")
    path = f"{mail.etc}/users.lmdb"
    assert os.stat(path).st_mode & 0o077 == 0
    with open(path, "rb") as f:
        assert b"secret" not in f.read()
    assert user(mail, "del", "tom").returncode == 0
    assert user(mail, "del", "tom").returncode != 0
    assert auth_lines(mail, "AUTH PLAIN " + b64("\0tom\0new")).startswith("535 ")
    for bad in ("a b", "a:b", "", "x" * 300):
        assert user(mail, "add", bad, password="x").returncode != 0
    assert not mail.complaints()


@pytest.mark.skipif(os.geteuid() != 0, reason="the key is root's")
def test_mailboxes_get_tickets(make_mail, sink):
    nobody = pwd.getpwnam("nobody")
    mail = make_mail(relay=sink, settings={
        **AUTH, "auth_sources": "table:inline:{ nobody={PLAIN}x, v@box.test={PLAIN}x, w@box.test={PLAIN}x, root={PLAIN}x }",
        "virtual_mailbox_domains": "box.test", "virtual_mailbox_maps": "inline:{ v@box.test=box/v/ }", "virtual_mailbox_base": "/srv",
        "virtual_uid_maps": "static:5000", "virtual_gid_maps": "static:5000"})

    def ask(name, service="imap"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(f"{mail.spool}/public/auth")
            f = s.makefile("rwb")
            f.write(f"VERSION\t1\t1\nCPID\t1\nAUTH\t1\tPLAIN\tservice={service}\tresp={b64(chr(0) + name + chr(0) + 'x')}\n".encode())
            f.flush()
            while not (line := f.readline()).startswith((b"OK", b"FAIL")):
                assert line
            return line.decode()

    def fields(line):
        return base64.b64decode(re.search(r"\tticket=([^.]*)\.", line)[1]).split(b"\0")
    assert b" ".join(fields(ask("nobody"))[i] for i in (1, 2, 4, 5, 6)).decode() == \
        f"{nobody.pw_uid} {nobody.pw_gid} nobody imap {nobody.pw_dir}"
    assert b"maildir:/srv/box/v/" in fields(ask("v@box.test"))
    assert ask("w@box.test").startswith("FAIL") and ask("root").startswith("FAIL")
    assert ask("w@box.test", "smtp").startswith("OK") and "ticket" not in ask("v@box.test", "smtp")
    assert os.stat(f"{mail.data}/auth_key").st_mode & 0o077 == 0
