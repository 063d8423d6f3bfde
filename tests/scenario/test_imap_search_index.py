# SPDX-License-Identifier: Apache-2.0
"""The full-text index of IMAP: what it finds is what reading every message finds, whatever happens to it."""
import glob
import imaplib
import os
import random
import re
import signal
import time

import pytest

from reading import Reading

WORDS = ["alpha", "Beta", "Straße", "STRASSE", "naïve", "naive", "Ångström", "a\u030angstro\u0308m", "日本語", "Привет", "ﬁnance", "İstanbul", "x\"y", "e.g.",
         "end", "deployment", "re:", "a", "to be", "%d", "AND", "ΣΊΣΥΦΟΣ", "²", "--"]
CHARSETS = {"utf-8": WORDS, "iso-8859-1": ["alpha", "Straße", "naïve", "Ångström", "end"], "koi8-r": ["Привет", "end"], "iso-2022-jp": ["日本語", "end"]}


def encoded(rng, text, charset):
    """(Content-Transfer-Encoding, bytes)"""
    import base64
    import quopri
    raw = text.encode(charset)
    how = rng.choice(["8bit", "base64", "quoted-printable"])
    if how == "base64":
        return how, base64.encodebytes(raw).replace(b"\n", b"\r\n")
    return how, quopri.encodestring(raw).replace(b"\n", b"\r\n") if how == "quoted-printable" else raw


def part(rng, depth=0):
    kind = rng.random()
    if kind < 0.2 and depth < 3:
        parts = [part(rng, depth + 1) for _ in range(rng.randint(1, 3))]
        mark = b"b%d%d" % (depth, rng.randint(0, 9999))
        return b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n" % mark + b"".join(b"--%s\r\n%s\r\n" % (mark, p) for p in parts) + b"--%s--\r\n" % mark
    if kind < 0.3 and depth < 3:
        return b"Content-Type: message/rfc822\r\n\r\n" + b"Subject: inner %s\r\n" % rng.choice(WORDS).encode() + part(rng, depth + 1)
    if kind < 0.4:
        return b"Content-Type: application/octet-stream\r\n\r\n" + rng.choice(WORDS).encode() + b"\x00\x01\r\n"
    charset = rng.choice(list(CHARSETS))
    words = CHARSETS[charset]
    text = "".join(rng.choice(words) + rng.choice([" ", " ", "\r\n", ", "]) for _ in range(rng.randint(1, 12)))
    how, raw = encoded(rng, text, charset)
    return b"Content-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n" % (charset.encode(), how.encode()) + raw


def message(rng):
    extra = b"X-Note: " + rng.choice(WORDS).encode() + b" =?utf-8?Q?caf=C3=A9?=\r\n" if rng.random() < 0.5 else b""
    return b"From: " + rng.choice([b"a@x", b"Beta <b@y>"]) + b"\r\nSubject: " + rng.choice(WORDS).encode() + b"\r\n" + extra + part(rng)


def key(rng):
    word = rng.choice(WORDS)
    a = rng.randint(0, len(word) - 1)
    text = rng.choice([word, word.upper(), word.lower(), word[a:a + rng.randint(1, 4)], f"{word} {rng.choice(WORDS)}", "subject: " + word, "nowhere"])
    kind = rng.choice(["BODY", "TEXT", "HEADER X-Note", "HEADER Subject", "SUBJECT", "HEADER Content-Type"])
    raw = text.encode()
    return f"{kind} ".encode() + b"{%d+}\r\n%s" % (len(raw), raw)


def query(rng):
    form = rng.random()
    if form < 0.5:
        return key(rng)
    if form < 0.7:
        return b"OR " + key(rng) + b" " + key(rng)
    return b"NOT " + key(rng) if form < 0.9 else b"NOT (" + key(rng) + b" " + key(rng) + b")"


def command(c, line):
    tag = c._new_tag()
    c.send(tag + b" " + line + b"\r\n")
    found = None
    while True:
        got = c.readline()
        m = re.match(rb"\* SEARCH([ \d]*)\r", got)
        if m:
            found = [int(n) for n in m.group(1).split()]
        if got.startswith(tag):
            assert b" OK " in got, got
            return found


def search(c, what):
    return command(c, b"SEARCH CHARSET UTF-8 " + what)


class Both:
    """One mailbox, read by a user with the index and (links to the same files) by one whose searches read everything."""

    def __init__(self, mail):
        self.mail, self.rng, self.count = mail, random.Random(5), 0

    def fill(self, n):
        for _ in range(n):
            self.count += 1
            content = message(self.rng)
            for user in (1, 2):
                self.mail.put(user, content, name=f"{1700000000 + self.count}.M{self.count}P1.t")


@pytest.fixture
def mail():
    with Reading(users=2) as m:
        yield m


def index_file(mail, n=1):
    return f"{mail.maildir(n)}/postern.index/fulltext.db"


def without_index(mail, n=2):
    """A user whose index can't be made: a directory stands where its file would."""
    os.makedirs(f"{mail.maildir(n)}/postern.index/fulltext.db", exist_ok=True)
    if not os.geteuid():
        for path in (mail.maildir(n), f"{mail.maildir(n)}/postern.index", f"{mail.maildir(n)}/postern.index/fulltext.db"):
            os.chown(path, 12000, 12000)


def session_pids(mail, n=1):
    return [p.pid for p in mail.processes("imap-session") if b"u%d@read.test" % n in open_quietly(f"/proc/{p.pid}/cmdline")]


def logged_in(mail):
    """A login that a kill has cut off is tried again."""
    def once():
        try:
            return mail.imap(1)
        except (OSError, imaplib.IMAP4.error):
            return None
    return mail.wait(once, 60, "a login after a kill", 0.1)


def open_quietly(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def test_searches_find_what_reading_every_message_finds(mail):
    both = Both(mail)
    without_index(mail)
    both.fill(60)
    a, b = mail.imap(1), mail.imap(2)
    a.select(), b.select()
    rng = random.Random(11)
    hits = 0
    for i in range(150):
        if i % 40 == 39:
            both.fill(5)
            a.noop(), b.noop()
        if i == 100:
            for c in (a, b):
                c.store("3:9", "+FLAGS", r"\Deleted")
                c.expunge()
        what = query(rng)
        one, two = search(a, what), search(b, what)
        assert one == two, what
        hits += len(one)
    assert hits > 500
    assert os.path.isfile(index_file(mail))
    assert not os.path.isfile(index_file(mail, 2))


def test_the_index_answers_without_reading(mail):
    """Files that the index rules out are not opened: they can't even be read."""
    for i in range(40):
        mail.put(1, b"Subject: x\r\n\r\nnumber%d end\r\n" % i, name=f"{1700000000 + i}.M{i}P1.t:2,", flags="")
    c = mail.imap(1)
    c.select()
    assert search(c, b"BODY number7") == [8]
    files = sorted(glob.glob(f"{mail.maildir(1)}/cur/*") + glob.glob(f"{mail.maildir(1)}/new/*"))
    assert len(files) == 40
    before = {f: os.stat(f).st_ino for f in files}
    for f in files:
        if "M7P1" not in f:
            with open(f, "r+b") as h:  # the same file with other bytes: nobody would see them who does not read it
                h.write(b"Subject: x\n\nnumber7 end\n")
    assert {f: os.stat(f).st_ino for f in files} == before
    assert search(c, b"BODY number7") == [8]


def test_the_switch_reads_everything():
    with Reading(users=1, settings={"imap_search_index": "no"}) as mail:
        for i in range(5):
            mail.put(1, b"Subject: x\r\n\r\nnumber%d end\r\n" % i)
        c = mail.imap(1)
        c.select()
        assert len(search(c, b"BODY number")) == 5
        assert not os.path.exists(index_file(mail))


def test_a_deleted_mailbox_leaves_the_index(mail):
    c = mail.imap(1)
    c.create("Other")
    c.append("Other", None, None, b"Subject: x\r\n\r\nqwertyuiop\r\n")
    c.select("Other")
    assert search(c, b"BODY wertyui") == [1]
    c.select("INBOX")
    c.delete("Other")
    c.create("Other")
    c.append("Other", None, None, b"Subject: x\r\n\r\nasdfghjkl\r\n")
    c.select("Other")
    assert search(c, b"BODY wertyui") == []
    assert search(c, b"BODY sdfghj") == [1]


def test_kills_while_a_search_indexes(mail):
    rng = random.Random(3)
    for i in range(300):
        mail.put(1, b"Subject: %d\r\n\r\n%s word%d\r\n" % (i, bytes(rng.choice(b"abcdefghij klmnop") for _ in range(6000)), i % 10), name=f"{1700000000 + i}.M{i}P1.t")
    for round_ in range(5):
        c = logged_in(mail)
        c.select()
        tag = c._new_tag()
        c.send(tag + b" SEARCH BODY word3\r\n")
        time.sleep(rng.random() * 0.25)
        for pid in session_pids(mail):
            os.kill(pid, signal.SIGKILL)
        try:
            c.shutdown()
        except OSError:
            pass
    c = logged_in(mail)
    c.select()
    assert search(c, b"BODY word3") == list(range(4, 301, 10))
    assert search(c, b"BODY word3") == list(range(4, 301, 10))


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "empty", "garbage"])
def test_a_damaged_index_is_not_believed(mail, damage):
    for i in range(80):
        mail.put(1, b"Subject: %d\r\n\r\nsome word%d here\r\n" % (i, i % 10), name=f"{1700000000 + i}.M{i}P1.t")
    c = mail.imap(1)
    c.select()
    want = search(c, b"BODY word3")
    assert len(want) == 8
    c.logout()
    for pid in session_pids(mail):
        os.kill(pid, signal.SIGTERM)
    mail.wait(lambda: not session_pids(mail), 30, "the user's process ends", 0.1)
    path = index_file(mail)
    size, times = os.path.getsize(path), os.stat(path)
    if damage == "gone":
        os.unlink(path)
    else:
        with open(path, "r+b") as f:
            if damage == "flip":
                for at in range(100, size, 997):
                    f.seek(at)
                    byte = f.read(1)
                    f.seek(at)
                    f.write(bytes([byte[0] ^ 16]))
            elif damage == "cut":
                f.truncate(size // 2)
            elif damage == "empty":
                f.truncate(0)
            else:
                f.write(os.urandom(size))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    c = mail.imap(1)
    c.select()
    for _ in range(3):
        assert search(c, b"BODY word3") == want
        assert search(c, b"TEXT word3") == want
