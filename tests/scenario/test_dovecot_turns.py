# SPDX-License-Identifier: Apache-2.0
"""Dovecot and Postern in turns on one Maildir, both changing it: UIDs, flags, keywords, folders and subscriptions are what the
other left, and mbsync loads no message twice."""
import glob
import imaplib
import os
import random
import re
import shutil
import signal
import subprocess

import pytest
from harness.instance import free_port
from reading import PASSWORD, Reading, greets

TURNS = int(os.environ.get("DOVECOT_TURNS", "8"))
FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "Work", "$Label1", "junk"]


class Dovecot:
    """The packaged server on the mailboxes of a Reading instance."""

    def __init__(self, mail, folder):
        self.port = free_port()
        config = f"{folder}/dovecot.conf"
        with open(config, "w") as f:
            f.write(f"""protocols = imap
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:{mail.mail_base}/%n
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=12000 gid=12000 home={folder}/home
}}
service imap-login {{
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
""")
        os.mkdir(f"{folder}/home", 0o700)
        os.chown(f"{folder}/home", 12000, 12000)
        self.log = f"{folder}/dovecot.log"
        self.process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        mail.wait(lambda: greets(self.port), 60, "Dovecot greets", 0.1)

    def imap(self):
        c = imaplib.IMAP4("127.0.0.1", self.port)
        c.sock.settimeout(60)
        c.login("u1@read.test", PASSWORD)
        return c

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()


@pytest.fixture
def servers(target, tmp_path):
    if os.geteuid() or not os.path.exists("/usr/lib/dovecot/imap"):
        pytest.skip("needs root and dovecot-imapd")
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        os.chmod(path, 0o755)
    with Reading(users=1) as mail:
        dovecot = Dovecot(mail, tmp_path)
        try:
            yield mail, dovecot
        finally:
            dovecot.stop()


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def state(c):
    """{folder: (UIDVALIDITY, {message: (UID, flags)})} and what is subscribed."""
    found = {}
    for line in ok(c.list()):
        if b"\\Noselect" in line:
            continue
        name = re.search(rb'"?([\w.]+)"?$', line)[1].decode()
        ok(c.select(name, readonly=True))
        validity = c.response("UIDVALIDITY")[1][0]
        messages = {}
        for part in ok(c.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")):
            if isinstance(part, tuple):
                flags = frozenset(f.decode() for f in imaplib.ParseFlags(part[0])) - {"\\Recent"}
                messages[re.search(rb"<(\d+)@", part[1])[1].decode()] = (int(re.search(rb"UID (\d+)", part[0])[1]), flags)
        found[name] = (validity, messages)
        ok(c.close())
    subscribed = sorted(re.search(rb'"?([\w.]+)"?$', line)[1].decode() for line in ok(c.lsub()) if line)
    return found, subscribed


class Turn:
    """Some changes by one server; `known` is told of each by what the server says afterwards."""
    serial = 0

    def __init__(self, c, dice):
        self.c, self.dice = c, dice

    def folder(self):
        return self.dice.choice(sorted(state(self.c)[0]))

    def append(self):
        Turn.serial += 1
        text = f"Message-ID: <{Turn.serial}@t.test>\r\nSubject: {Turn.serial}\r\n\r\n{'x' * self.dice.choice([1, 5000])}\r\n"
        ok(self.c.append(self.folder(), f"({' '.join(self.dice.sample(FLAGS, 2))})", None, text.encode()))

    def change(self):
        folder = self.folder()
        uids = [str(uid) for uid, _ in state(self.c)[0][folder][1].values()]
        if not uids:
            return
        ok(self.c.select(folder))
        ok(self.c.uid("STORE", self.dice.choice(uids), self.dice.choice(["+FLAGS", "-FLAGS", "FLAGS"]), f"({' '.join(self.dice.sample(FLAGS, 2))})"))
        if len(uids) > 3:
            ok(self.c.uid("STORE", uids[0], "+FLAGS", "\\Deleted"))
            ok(self.c.expunge())
        ok(self.c.uid("COPY", uids[-1], self.folder_other(folder)))
        ok(self.c.unselect())

    def folder_other(self, folder):
        names = [re.search(rb'"?([\w.]+)"?$', line)[1].decode() for line in ok(self.c.list())]
        return self.dice.choice([n for n in names if n != folder] or [folder])

    def create(self, n):
        ok(self.c.create(f"F{n}"))
        ok(self.c.subscribe(f"F{n}"))

    def run(self, n):
        if n < 4:
            self.create(n)
        for _ in range(3):
            self.append()
        for _ in range(3):
            self.change()


def check_against(before, after, what):
    """Of what was there, whoever looks finds the same; a message that stands in two places counts by its place."""
    differ = {(folder, message): (before[0][folder][1].get(message), after[0].get(folder, (0, {}))[1].get(message))
              for folder in before[0] for message in before[0][folder][1]
              if before[0][folder][1].get(message) != after[0].get(folder, (0, {}))[1].get(message)}
    assert not differ and after == before, (what, differ)


def test_the_other_server_finds_what_one_left(servers, tmp_path):
    mail, dovecot = servers
    mail.put(1, b"Message-ID: <0@t.test>\r\nSubject: 0\r\n\r\nx\r\n")
    dice = random.Random(5)
    uids = {}  # (folder, UIDVALIDITY, UID): the message, for ever
    for n in range(TURNS):
        ours, theirs = (lambda: mail.imap(1)), dovecot.imap
        first, second = (ours, theirs) if n % 2 else (theirs, ours)
        c = first()
        Turn(c, dice).run(n)
        left = state(c)
        c.logout()
        c = second()
        check_against(left, state(c), f"turn {n}, {'Dovecot' if n % 2 else 'Postern'} looks")
        c.logout()
        for folder, (validity, messages) in left[0].items():
            for message, (uid, _) in messages.items():
                assert uids.setdefault((folder, validity, uid), message) == message
    assert len({(folder, validity) for folder, validity, _ in uids}) == len({folder for folder, _, _ in uids}), "a UIDVALIDITY changed"
    assert not mail.complaints()


def test_mbsync_loads_nothing_twice(servers, tmp_path):
    if not shutil.which("mbsync"):
        pytest.skip("no mbsync")
    mail, dovecot = servers
    for i in range(1, 6):
        mail.put(1, b"Message-ID: <%d@t.test>\r\nSubject: %d\r\n\r\nx\r\n" % (i, i))
    os.mkdir(f"{tmp_path}/m")
    total = 5
    for n in range(4):
        port = mail.imap_port if n % 2 else dovecot.port
        with open(f"{tmp_path}/rc", "w") as f:
            f.write(f"IMAPAccount a\nHost 127.0.0.1\nPort {port}\nUser u1@read.test\nPass \"{PASSWORD}\"\nSSLType None\nAuthMechs LOGIN\n\nIMAPStore far\nAccount a\n\n"
                    f"MaildirStore near\nPath {tmp_path}/m/\nInbox {tmp_path}/m/INBOX\n\nChannel c\nFar :far:\nNear :near:\nCreate Near\nSync All\n")
        done = subprocess.run(["mbsync", "-c", f"{tmp_path}/rc", "-V", "c"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        assert done.returncode == 0, done.stdout
        assert len(glob.glob(f"{tmp_path}/m/INBOX/[cn]*/*.*")) == total, done.stdout
        c = mail.imap(1) if n % 2 else dovecot.imap()
        ok(c.append("INBOX", None, None, b"Message-ID: <1%d@t.test>\r\nSubject: y\r\n\r\ny\r\n" % n))
        ok(c.select())
        ok(c.store("1", "+FLAGS", f"key{n}"))
        c.logout()
        total += 1


def conversation(dice, count):
    """Messages that answer others, some of which are not there, in any order."""
    parents = [dice.choice([None, *range(n)]) for n in range(count)]
    contents = []
    for n in range(count):
        above, at = [], parents[n]
        while at is not None:
            above.insert(0, f"<c{at}@x>")
            at = parents[at]
        above = above[-dice.randint(1, 4):]  # some programs cut the list
        field = "In-Reply-To" if len(above) == 1 else "References"
        head = f"{field}: {' '.join(above)}\r\n" if above else ""
        contents.append((f"Message-ID: <c{n}@x>\r\nDate: {dice.randint(1, 28)} Jan 2025 10:00:{n % 60:02} +0000\r\n{head}"
                         f"Subject: {dice.choice(['a', 'b', 'Re: a', 'Re: b', 'c', 'd'])}\r\n\r\nx\r\n").encode())
    return dice.sample(contents, count * 3 // 4)


def test_threads_are_those_of_dovecot(servers):
    mail, dovecot = servers
    ours, theirs = mail.imap(1), dovecot.imap()
    for seed in range(5):
        dice = random.Random(seed)
        ok(ours.create(f"talk{seed}"))
        for content in conversation(dice, 40):
            ok(ours.append(f"talk{seed}", "", imaplib.Time2Internaldate(dice.randint(1735700000, 1735800000)), content))
        for c in (ours, theirs):
            ok(c.select(f"talk{seed}"))
        for algorithm in ("REFS", "REFERENCES"):
            told = [ok(c.uid("THREAD", algorithm, "UTF-8", "ALL"))[0] for c in (ours, theirs)]
            assert told[0] == told[1], algorithm
    ours.logout(), theirs.logout()
