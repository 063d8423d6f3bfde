# SPDX-License-Identifier: Apache-2.0
"""mboxes read by POP3 and IMAP, while other programs deliver into them and change them."""
import fcntl
import imaplib
import os
import poplib
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
import time

import pytest
from harness import send
from reading import PASSWORD, Reading

ROOT = os.geteuid() == 0
UID = 12000 if ROOT else os.geteuid()
DOVECOT = "/usr/lib/dovecot/imap"


class Mboxes(Reading):
    def __init__(self, users=7, **more):
        boxes = " ".join(f"{{u{n}@read.test = m{n}}}" for n in range(1, users + 1))
        super().__init__(users=users, settings={"virtual_mailbox_maps": f"inline:{{{boxes}}}"}, **more)

    def box(self, n):
        return f"{self.mail_base}/m{n}"

    def text(self, n):
        with open(self.box(n)) as f:
            return f.read()

    def add(self, n, subject, body="body\n"):
        """Another program's delivery."""
        with open(self.box(n), "a") as f:
            f.write(f"From other@a.test  Tue Mar  3 10:11:12 2026\nSubject: {subject}\nMessage-ID: <{subject}@a.test>\n\n{body}\n")
        if ROOT:
            os.chown(self.box(n), UID, UID)

    def dovecot(self, n):
        """Dovecot's IMAP server on the same mailboxes."""
        conf = f"{self.base}/dovecot{n}.conf"
        with open(conf, "w") as f:
            f.write(f"base_dir = {self.base}/dovecot-run\nssl = no\nlog_path = /dev/stderr\n"
                    f"mail_location = mbox:{self.box(n)}.d:INBOX={self.box(n)}:INDEX=MEMORY\n")
        os.chmod(conf, 0o644)
        command = f"{DOVECOT} -c {conf}"
        if ROOT:
            command = f"/usr/bin/setpriv --reuid={UID} --regid={UID} --clear-groups /usr/bin/env USER=u{n} HOME={self.mail_base} {command}"
        return imaplib.IMAP4_stream(command)


class Local(Reading):
    def __init__(self, user, spool):
        self.reader = user
        super().__init__(users=1, settings={
            "mydestination": "local.test", "myorigin": "local.test", "mail_spool_directory": spool, "alias_maps": "inline:{none=none}",
            "local_recipient_maps": "", "biff": "no", "forward_path": ""})

    def _make(self):
        super()._make()
        with open(f"{self.etc}/passwords", "a") as f:
            f.write(f"{self.reader} {{PLAIN}}{PASSWORD}\n")


@pytest.fixture(scope="module")
def server():
    with Mboxes() as mail:
        yield mail


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def state(c):
    """What a client sees: UIDVALIDITY, and of each UID the subject, flags and keywords."""
    ok(c.select())
    validity = c.response("UIDVALIDITY")[1][0]
    seen = {}
    for item in ok(c.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")):
        if isinstance(item, tuple):
            uid = int(re.search(rb"UID (\d+)", item[0]).group(1))
            flags = set(re.search(rb"FLAGS \(([^)]*)\)", item[0]).group(1).split()) - {b"\\Recent"}
            seen[uid] = (item[1].strip(), frozenset(flags))
    return validity, seen


def test_a_missing_mbox_is_an_empty_inbox(server):
    c = server.imap(1)
    assert ok(c.select()) == [b"0"]
    assert ok(c.append("INBOX", "(\\Flagged)", None, b"Subject: first\r\n\r\nFrom me\r\n")) and os.path.exists(server.box(1))
    c.noop()
    assert ok(c.fetch("1", "BODY[]"))[0][1] == b"Subject: first\r\n\r\n>From me\r\n"
    c.logout()


def test_pop3_reads_and_deletes(server):
    for i in range(3):
        server.add(2, f"m{i}", "text\n.dot\nFrom here\n")
    c = server.pop3(2)
    assert c.stat()[0] == 3
    uids = c.uidl()[1]
    assert b"\r\n".join(c.retr(2)[1]) == b"Subject: m1\r\nMessage-ID: <m1@a.test>\r\n\r\ntext\r\n.dot\r\nFrom here"
    c.dele(1)
    server.add(2, "late")
    c.quit()
    c = server.pop3(2)
    assert [u.split()[1] for u in c.uidl()[1][:2]] == [u.split()[1] for u in uids[1:]]
    assert c.stat()[0] == 3 and b"Subject: late" in c.retr(3)[1]
    c.quit()
    assert "Subject: m0" not in server.text(2) and "Status: RO" in server.text(2)


def test_mail_arrives_and_goes_while_it_is_open(server):
    server.add(3, "one")
    a, b = server.imap(3), server.imap(3)
    assert ok(a.select()) == [b"1"] and ok(b.select()) == [b"1"]
    server.add(3, "two")
    a.noop()
    assert a.response("EXISTS")[1][-1] == b"2"
    ok(a.store("1", "+FLAGS", "(\\Deleted Work)"))
    b.noop()
    assert any(t and b"\\Deleted" in t and b"Work" in t for t in b.response("FETCH")[1])
    ok(a.expunge())
    b.noop()
    assert b.response("EXPUNGE")[1] == [b"1"]
    with open(server.box(3)) as f: # a mail reader writes the mailbox anew
        left = f.read().replace("X-UID: 2\n", "X-UID: 2\nStatus: RO\n")
    with open(server.box(3), "w") as f:
        f.write(left)
    time.sleep(0.05)
    b.noop()
    assert b"\\Seen" in ok(b.fetch("1", "FLAGS"))[0]
    a.logout(), b.logout()


def test_other_mailboxes(server):
    server.add(4, "one"), server.add(4, "two")
    c = server.imap(4)
    ok(c.create("Sent")), ok(c.create("Lists.a"))
    names = [re.search(rb'([^" ]+)"?$', line).group(1) for line in ok(c.list())]
    assert names == [b"INBOX", b"Lists.a", b"Sent"], names
    ok(c.select())
    ok(c.copy("1:2", "Sent"))
    assert ok(c._simple_command("MOVE", "2", "Lists.a")) and c.noop()
    assert len(ok(c.search(None, "ALL"))[0].split()) == 1
    assert ok(c.select("Sent")) == [b"2"] and b"two" in ok(c.fetch("2", "BODY[HEADER]"))[0][1]
    ok(c.rename("Lists.a", "Lists.b"))
    assert ok(c.select('"Lists.b"')) == [b"1"]
    ok(c.create("New.b")), ok(c.create("Lists.c"))
    assert c.rename("Lists", "New")[0] == "NO" and c.rename("Sent", "New.b")[0] == "NO", "New.b would be lost"
    with open(f"{server.box(4)}.d/notes", "w") as f:
        f.write("no mailbox\n")
    assert c.rename("Lists.c", "notes")[0] == "NO"
    with open(f"{server.box(4)}.d/notes") as f:
        assert f.read() == "no mailbox\n"
    ok(c.subscribe("Sent"))
    assert b"Sent" in ok(c.lsub())[0]
    ok(c.select("INBOX")), ok(c.delete("Sent"))
    assert os.listdir(f"{server.box(4)}.d") and not os.path.exists(f"{server.box(4)}.d/Sent")
    c.logout()


@pytest.mark.skipif(not os.path.exists(DOVECOT), reason="no Dovecot here")
def test_dovecot_and_we_take_turns(server):
    for i in range(4):
        server.add(5, f"m{i}")
    c = server.imap(5)
    want = state(c)
    assert sorted(want[1]) == [1, 2, 3, 4]
    ok(c.uid("STORE", "2", "+FLAGS", "(\\Answered \\Flagged Junk)"))
    c.logout()

    d = server.dovecot(5)
    validity, seen = state(d)
    assert validity == want[0] and sorted(seen) == [1, 2, 3, 4]
    assert seen[2] == (b"Subject: m1", {b"\\Answered", b"\\Flagged", b"Junk"}), seen
    ok(d.uid("STORE", "3", "+FLAGS", "(\\Seen $Forwarded)"))
    ok(d.uid("STORE", "1", "+FLAGS", "\\Deleted")), ok(d.expunge())
    ok(d.append("INBOX", "(\\Draft)", None, b"Subject: by-dovecot\r\n\r\nx\r\n"))
    d.logout()

    time.sleep(1.1)
    c = server.imap(5)
    validity, seen = state(c)
    assert validity == want[0]
    assert seen == {2: (b"Subject: m1", {b"\\Answered", b"\\Flagged", b"Junk"}), 3: (b"Subject: m2", {b"\\Seen", b"$Forwarded"}),
                    4: (b"Subject: m3", frozenset()), 5: (b"Subject: by-dovecot", {b"\\Draft"})}, seen
    ok(c.uid("STORE", "2", "+FLAGS", "\\Deleted")), ok(c.expunge())
    ok(c.append("INBOX", "(Later)", None, b"Subject: by-us\r\n\r\nx\r\n"))
    server.add(5, "delivered")
    c.noop()
    c.logout()

    d = server.dovecot(5)
    validity, seen = state(d)
    assert validity == want[0]
    assert seen == {3: (b"Subject: m2", {b"\\Seen", b"$Forwarded"}), 4: (b"Subject: m3", frozenset()),
                    5: (b"Subject: by-dovecot", {b"\\Draft"}), 6: (b"Subject: by-us", {b"Later"}),
                    7: (b"Subject: delivered", frozenset())}, seen
    for uid in (3, 4, 5, 6, 7):
        assert ok(d.uid("FETCH", str(uid), "BODY.PEEK[TEXT]"))[0][1] in (b"body\r\n", b"x\r\n")
    d.logout()


@pytest.mark.skipif(not os.path.exists("/usr/bin/mutt"), reason="no mutt here")
def test_mutt_reads_and_deletes_in_between(server):
    for i in range(3):
        server.add(6, f"m{i}")
    c = server.imap(6)
    before = state(c)
    ok(c.uid("STORE", "3", "+FLAGS", "(\\Flagged Junk)"))
    # deletes the first message, marks the second as read
    keys = "<first-entry><delete-message><first-entry><next-entry><set-flag>r<quit>"
    os.makedirs(f"{server.base}/Mail", exist_ok=True)
    mutt = f"mutt -n -F /dev/null -f {server.box(6)} -e \"set delete=yes quit=yes mark_old=no wait_key=no move=no; push '{keys}'\""
    subprocess.run(["/usr/bin/script", "-qec", mutt, "/dev/null"], env={**os.environ, "TERM": "vt100", "HOME": server.base},
                   stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert "Subject: m0" not in server.text(6)
    if ROOT:
        os.chown(server.box(6), UID, UID)
    after = state(c)
    assert after[0] == before[0] and sorted(after[1]) == [2, 3] and after[1][3][1] == {b"\\Flagged", b"Junk"}, after
    c.logout()


def test_deliveries_and_changes_at_once(server):
    """A program that delivers under the lock, while flags are set and messages expunged: each message is there once, or expunged."""
    expunged, count = set(), 60
    server.add(7, "start")

    def deliver():
        for i in range(count):
            with open(server.box(7), "r+") as f:
                fcntl.lockf(f, fcntl.LOCK_EX)
                f.seek(0, os.SEEK_END)
                f.write(f"From other@a.test  Tue Mar  3 10:11:12 2026\nSubject: d{i}\n\nbody {i}\n\n")
            time.sleep(0.005)

    thread = threading.Thread(target=deliver)
    thread.start()
    c = server.imap(7)
    ok(c.select())
    while thread.is_alive():
        _, seen = state(c)
        for uid in list(seen)[::3]:
            ok(c.uid("STORE", str(uid), "+FLAGS", "\\Seen"))
        for uid in [u for u in seen if u % 4 == 0]:
            ok(c.uid("STORE", str(uid), "+FLAGS", "\\Deleted"))
            expunged.add(seen[uid][0])
        ok(c.expunge())
    thread.join()
    _, seen = state(c)
    left = [subject for subject, _ in seen.values()]
    assert sorted(left + list(expunged)) == sorted([b"Subject: start"] + [b"Subject: d%d" % i for i in range(count)])
    for uid, (subject, _) in seen.items():
        body = ok(c.uid("FETCH", str(uid), "BODY.PEEK[TEXT]"))[0][1]
        assert subject == b"Subject: start" or body == b"body " + subject[10:] + b"\r\n"
    c.logout()


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_local_user_reads_what_local_delivers():
    """INBOX is mail_spool_directory/USER, in which the user may make no lock file; the home directory can't be written."""
    user = next(p for p in pwd.getpwall() if p.pw_name in ("games", "daemon", "bin"))
    spool = tempfile.mkdtemp(prefix="spool-", dir="/tmp")
    os.chmod(spool, 0o755)
    with open(f"{spool}/{user.pw_name}", "w") as f:
        os.fchmod(f.fileno(), 0o600)
        os.fchown(f.fileno(), user.pw_uid, user.pw_gid)
    try:
        with Local(user.pw_name, spool) as mail:
            assert send("a@src.test", [f"{user.pw_name}@local.test"], b"Subject: x\r\n\r\nFrom me\r\n", port=mail.port).code == 250
            mail.wait_log(r"status=sent \(delivered to mailbox\)")
            c = imaplib.IMAP4("127.0.0.1", mail.imap_port)
            c.login(user.pw_name, PASSWORD)
            assert ok(c.select()) == [b"1"] and ok(c.list())
            assert ok(c.fetch("1", "BODY[TEXT]"))[0][1] == b">From me\r\n"
            send("a@src.test", [f"{user.pw_name}@local.test"], b"Subject: y\r\n\r\ntwo\r\n", port=mail.port)
            mail.wait(lambda: c.noop() and ok(c.search(None, "ALL"))[0] == b"1 2", 30, "the second message", 0.1)
            ok(c.store("1", "+FLAGS", "\\Deleted")), ok(c.expunge())
            assert ok(c.fetch("1", "BODY[TEXT]"))[0][1] == b"two\r\n"
            c.logout()
            p = poplib.POP3("127.0.0.1", mail.pop3_port, timeout=60)
            p.user(user.pw_name), p.pass_(PASSWORD)
            assert p.stat()[0] == 1
            p.quit()
    finally:
        shutil.rmtree(spool)
