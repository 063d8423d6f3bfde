# SPDX-License-Identifier: Apache-2.0
"""A process that can't reach files any more is replaced when one of its tables changes: whole, and with no session lost."""
import os
import subprocess
import time

import pytest
from harness import Client
from harness.instance import build_dir


def postmap(mail, table):
    subprocess.run([f"{build_dir()}/tools/postmap", "-c", mail.etc, table], check=True, timeout=60)


def write(mail, kind, text):
    with open(f"{mail.etc}/access", "w") as f:
        f.write(text)
    if kind in ("lmdb", "cdb", "hash"):
        postmap(mail, f"{kind}:{mail.etc}/access")


def rcpt(smtp, recipient="a@b.test"):
    return smtp.cmd(f"RCPT TO:<{recipient}>").code


def connected(mail, recipient="a@b.test"):
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        smtp.cmd("MAIL FROM:<a@src.test>")
        return rcpt(smtp, recipient)


def pids(mail):
    return {getattr(p, "pid", p) for p in mail.processes("smtpd")}


@pytest.mark.parametrize("kind", ["hash", "cdb", "texthash", "cidr", "pcre"])
def test_a_chrooted_process_is_replaced_when_its_table_changes(make_mail, sink, kind):
    mail = make_mail(relay=sink, start=False)
    mail.services.append(f"127.0.0.1:{mail.port} inet n - y - - smtpd")
    key = {"cidr": "127.0.0.0/8", "pcre": "/^a@b/"}.get(kind, "a@b.test")
    what = "client" if kind == "cidr" else "recipient"
    mail.settings["smtpd_recipient_restrictions"] = f"check_{what}_access {kind}:{mail.etc}/access"
    mail.write_config()
    write(mail, kind, f"{key} 550 first\n")
    mail.start()
    assert connected(mail) == 550
    old = pids(mail)
    assert old
    if os.geteuid() == 0:
        assert {os.readlink(f"/proc/{pid}/root") for pid in old} == {mail.spool}
    # a session in the middle of a transaction when the table changes
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        smtp.cmd("MAIL FROM:<a@src.test>")
        write(mail, kind, f"{key} 551 second\n")
        mail.wait(lambda: connected(mail) == 551, 60, "the change to be seen")
        assert rcpt(smtp) in (550, 551), "the session goes on, with the process that it has"
        assert smtp.cmd("RSET").code == 250
    mail.wait(lambda: not old & pids(mail), 30, "the old processes to end")
    assert mail.wait_log("table has changed -- restarting")
    if os.geteuid() == 0:
        assert {os.readlink(f"/proc/{pid}/root") for pid in pids(mail)} == {mail.spool}
    assert not mail.complaints()


def test_a_table_that_comes_to_be_after_the_start(make_mail, sink):
    mail = make_mail(relay=sink, start=False)
    mail.services.append(f"127.0.0.1:{mail.port} inet n - y - - smtpd")
    mail.settings["smtpd_recipient_restrictions"] = f"check_recipient_access hash:{mail.etc}/access"
    mail.write_config()
    mail.start()
    assert connected(mail) == 451, "no table is no answer"
    write(mail, "hash", "a@b.test 550 there\n")
    mail.reload()
    mail.wait(lambda: connected(mail) == 550, 30, "the table to be opened")
    assert connected(mail, "x@b.test") == 250


def test_mail_goes_on_while_tables_change(make_mail, sink):
    """Each change replaces processes that route and rewrite; each message arrives once, by the old table or the new."""
    mail = make_mail(relay=sink, start=False)
    mail.settings.update({"virtual_alias_domains": "v.test", "virtual_alias_maps": f"hash:{mail.etc}/access", "max_idle": "2s"})
    mail.write_config()
    write(mail, "hash", "a@v.test n0@far.test\n")
    mail.start()
    sent = 0
    for n in range(1, 6):
        write(mail, "hash", f"a@v.test n{n}@far.test\n")
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            with Client(mail.port) as smtp:
                smtp.ehlo("c.test")
                assert smtp.cmd("MAIL FROM:<s@src.test>").code == 250
                assert rcpt(smtp, "a@v.test") == 250
                assert smtp.cmd("DATA").code == 354
                assert smtp.cmd(f"Subject: {sent}\r\n\r\nx\r\n.").code == 250
            sent += 1
            time.sleep(0.1)
    sink.wait_count(sent)
    assert len(sink.messages) == sent
    assert not mail.complaints()
