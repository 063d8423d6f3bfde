# SPDX-License-Identifier: Apache-2.0
"""The IMAP server, spoken to by Python's imaplib and by hand."""
import imaplib
import os
import re
import socket
import subprocess
import time

import pytest
from reading import PASSWORD, Reading

PLAIN = b"From: Ann <ann@a.test>\r\nTo: u1@read.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: Tue, 3 Mar 2026 10:11:12 +0100\r\nMessage-ID: <1@a.test>\r\n\r\nHello\r\n.dot\r\nWorld\r\n"
MULTI = (b"From: b@b.test\r\nTo: u1@read.test, C <c@c.test>\r\nSubject: two parts\r\nMIME-Version: 1.0\r\nReferences: <1@a.test>\r\n"
         b"Message-ID: <2@a.test>\r\nDate: Wed, 4 Mar 2026 10:11:12 +0100\r\n"
         b"Content-Type: multipart/mixed; boundary=\"xx\"\r\n\r\npreamble\r\n--xx\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
         b"Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9 here\r\n--xx\r\nContent-Type: message/rfc822\r\n\r\n"
         b"From: inner@a.test\r\nSubject: inside\r\n\r\ninner body\r\n--xx--\r\n")


@pytest.fixture(scope="module")
def server():
    with Reading(users=10) as mail:
        yield mail


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


class Raw:
    """A connection by hand: lines as they are."""
    def __init__(self, port):
        self.s = socket.create_connection(("127.0.0.1", port), 30)
        self.f = self.s.makefile("rb")
        self.greeting = self.f.readline()

    def send(self, data):
        self.s.sendall(data)

    def until(self, tag):
        lines = []
        while True:
            line = self.f.readline()
            assert line, lines
            lines.append(line)
            if line.startswith(tag + b" "):
                return lines

    def login(self, n):
        self.send(b'l LOGIN u%d@read.test "%s"\r\n' % (n, PASSWORD.encode()))
        return self.until(b"l")


def test_login_with_a_wrong_password_fails(server):
    c = server.imap(login=False)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        c.login("u1@read.test", "wrong")
    c.login("u1@read.test", PASSWORD)
    assert ok(c.select()) == [b"0"]
    c.logout()
    server.wait_log(r"unknown\[127.0.0.1\]: SASL LOGIN authentication failed")


def test_header_fields_are_read_once(server):
    """What lists show and searches look for comes from the index the second time: the file may not even be readable."""
    folded = PLAIN.replace(b"To: u1@read.test\r\n", b"To: u1@read.test,\r\n\tSecond <two@read.test>\r\nX-Own: kept nowhere\r\n")
    name = server.put(10, folded, folder=".Once", flags="")
    c = server.imap(10)
    ok(c.select("Once"))
    fields = "(UID BODY.PEEK[HEADER.FIELDS (to Subject CC DATE)])"
    first = ok(c.uid("FETCH", "1", fields))
    assert b"To: u1@read.test,\r\n\tSecond <two@read.test>\r\n" in first[0][1] and b"Date: Tue" in first[0][1] and first[0][0].count(b"UID 1") == 1
    searches = [("SUBJECT", "gr\u00fc\u00dfe"), ("TO", "SECOND"), ("HEADER", "message-id", "1@a"), ("SENTON", "3-Mar-2026"), ("NOT", "FROM", "nobody")]
    ask = [["CHARSET", "UTF-8"] + [f'"{w}"'.encode() if "\u00fc" in w else w for w in search] for search in searches]
    for words in ask:
        assert ok(c.uid("SEARCH", *words)) == [b"1"], words
    assert ok(c.uid("SEARCH", "TO", "third")) == [b""]
    os.chmod(f"{server.maildir(10)}/.Once/cur/{name}:2,", 0)
    assert ok(c.uid("FETCH", "1", fields)) == first
    for words in ask:
        assert ok(c.uid("SEARCH", *words)) == [b"1"], words
    assert ok(c.uid("SEARCH", "TO", "third")) == [b""]
    assert c.uid("FETCH", "1", "BODY.PEEK[HEADER.FIELDS (X-Own)]")[0] == "NO"
    c.logout()


def test_messages_are_fetched_as_they_are(server):
    server.put(2, PLAIN)
    c = server.imap(2)
    assert ok(c.select()) == [b"1"]
    answer = ok(c.fetch("1", "(UID RFC822.SIZE FLAGS INTERNALDATE ENVELOPE BODY.PEEK[])"))
    head, body = answer[0]
    assert body == PLAIN and b"RFC822.SIZE %d" % len(PLAIN) in head
    assert b'ENVELOPE ("Tue, 3 Mar 2026 10:11:12 +0100" "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" (("Ann" NIL "ann" "a.test"))' in head
    assert b"\\Recent" in head and b"\\Seen" not in head
    assert ok(c.fetch("1", "BODY[HEADER.FIELDS (Subject)]"))[0][1] == b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n"
    assert b"\\Seen" in ok(c.fetch("1", "FLAGS"))[0]
    assert ok(c.fetch("1", "BODY[TEXT]<2.4>"))[0][1] == b"llo\r"
    c.logout()


def test_structure_and_parts(server):
    server.put(2, MULTI)
    c = server.imap(2)
    ok(c.select())
    n = ok(c.search(None, "SUBJECT", "parts"))[0].decode()
    structure = ok(c.fetch(n, "BODYSTRUCTURE"))[0]
    assert re.search(rb'BODYSTRUCTURE \(\("text" "plain" \("charset" "iso-8859-1"\) NIL NIL "quoted-printable" 11 0 NIL NIL NIL NIL\)'
                     rb'\("message" "rfc822" NIL NIL NIL "7bit" \d+ \(NIL "inside" \(\(NIL NIL "inner" "a.test"\)\)', structure), structure
    assert ok(c.fetch(n, "BODY.PEEK[1]"))[0][1] == b"caf=E9 here"
    assert ok(c.fetch(n, "BODY.PEEK[1.MIME]"))[0][1].startswith(b"Content-Type: text/plain")
    assert ok(c.fetch(n, "BODY.PEEK[2.HEADER]"))[0][1] == b"From: inner@a.test\r\nSubject: inside\r\n\r\n"
    assert ok(c.fetch(n, "BODY.PEEK[2.1]"))[0][1] == b"inner body"
    assert ok(c.fetch(n, "BINARY.PEEK[1]"))[0][1] == b"caf\xe9 here"
    assert b"NIL" in ok(c.fetch(n, "BODY.PEEK[3]"))[0]
    c.logout()


def test_search_in_headers_and_bodies(server):
    c = server.imap(2)
    ok(c.select())
    def search(*keys):
        return ok(c.search(None, *keys))[0].split()
    assert len(search("ALL")) == 2
    assert len(search("BODY", "world")) == 1 and len(search("BODY", "nothing")) == 0
    assert len(search("FROM", "ann")) == 1 and len(search("OR", "FROM", "ann", "TEXT", "inner")) == 2
    assert len(search("SENTSINCE", "4-Mar-2026")) == 1 and len(search("NOT", "SENTON", "3-Mar-2026")) == 1
    c.literal = "café".encode()
    assert len(ok(c.uid("SEARCH", "CHARSET", "UTF-8", "BODY"))[0].split()) == 1
    c.literal = "GRÜSSE".encode()
    assert len(ok(c.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT"))[0].split()) == 1
    assert ok(c.sort("(REVERSE DATE)", "UTF-8", "ALL"))[0] == b"2 1"
    assert ok(c.thread("REFERENCES", "UTF-8", "ALL"))[0] == b"(1 2)"
    c.logout()


def test_flags_and_keywords_survive_and_are_told_to_others(server):
    for i in range(3):
        server.put(3, b"Subject: %d\r\n\r\nx\r\n" % i)
    a, b = server.imap(3), server.imap(3)
    ok(a.select()), ok(b.select())
    ok(a.store("2", "+FLAGS", "(\\Flagged Junk)"))
    b.noop()
    told = b.response("FETCH")[1]
    assert any(t and b"2 (UID" in t and b"\\Flagged" in t and b"Junk" in t for t in told), told
    ok(a.store("1", "+FLAGS.SILENT", "\\Deleted"))
    ok(a.expunge())
    b.noop()
    assert b.response("EXPUNGE")[1] == [b"1"]
    a.logout(), b.logout()
    names = os.listdir(f"{server.maildir(3)}/cur")
    assert len(names) == 2 and any(n.endswith(":2,Fa") for n in names), names
    with open(f"{server.maildir(3)}/dovecot-keywords") as f:
        assert f.read() == "0 Junk\n"


def test_uids_stay(server):
    names = [server.put(4, b"Subject: %d\r\n\r\nx\r\n" % i) for i in range(5)]
    c = server.imap(4)
    ok(c.select())
    validity = c.response("UIDVALIDITY")[1]
    uids = ok(c.uid("SEARCH", "ALL"))[0]
    assert uids == b"1 2 3 4 5"
    c.logout()
    for path, _, files in os.walk(server.maildir(4)):
        for f in files:
            if f.startswith(names[1]):
                os.unlink(f"{path}/{f}")
    server.put(4, b"Subject: new\r\n\r\nx\r\n")
    c = server.imap(4)
    ok(c.select())
    assert c.response("UIDVALIDITY")[1] == validity
    assert ok(c.uid("SEARCH", "ALL"))[0] == b"1 3 4 5 6"
    c.logout()


def test_a_lock_that_a_killed_process_left_holds_nobody_up(server):
    server.put(3, b"Subject: x\r\n\r\nx\r\n")
    dead = subprocess.Popen(["true"])
    dead.wait()
    lock = f"{server.maildir(3)}/dovecot-uidlist.lock"
    with open(lock, "w") as f:
        f.write(f"{dead.pid}:{socket.gethostname()}\n")
    c = server.imap(3)
    assert int(ok(c.select())[0]) >= 1  # else: held by another program, after ten seconds
    c.logout()
    assert not os.path.exists(lock)


@pytest.mark.parametrize("how", ["written", "removed"])
def test_a_mailbox_numbered_anew_ends_the_session_that_knows_the_old_numbers(server, how):
    n = 9 if how == "written" else 10
    names = [server.put(n, b"Subject: %d\r\n\r\nx\r\n" % i) for i in range(3)]
    c = server.imap(n)
    ok(c.select())
    validity = int(c.response("UIDVALIDITY")[1][0])
    assert ok(c.uid("SEARCH", "ALL"))[0] == b"1 2 3"
    place = f"{server.maildir(n)}/dovecot-uidlist"
    time.sleep(1.1)  # a new list's UIDVALIDITY is the time in seconds
    if how == "written":  # the messages in another order, under other numbers
        with open(place, "w") as f:
            f.write(f"3 V{validity + 7} N10 G{'ab' * 16}\n" + "".join(f"{5 + i} :{name}\n" for i, name in enumerate(reversed(names))))
    else:
        os.unlink(place)
    server.put(n, b"Subject: new\r\n\r\nx\r\n")
    with pytest.raises(imaplib.IMAP4.abort):  # BYE: number 1 is not what it was
        c.noop()
        c.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
    c = server.imap(n)
    ok(c.select())
    now = int(c.response("UIDVALIDITY")[1][0])
    assert now == validity + 7 if how == "written" else now > validity
    assert ok(c.uid("SEARCH", "ALL"))[0] == (b"5 6 7 10" if how == "written" else b"1 2 3 4")
    assert ok(c.uid("SEARCH", "DELETED"))[0] == b""
    if how == "written":
        assert b"Subject: 2" in ok(c.uid("FETCH", "5", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"))[0][1]
    c.logout()


def test_append_copy_move_with_uids(server):
    c = server.imap(5)
    ok(c.create("Work"))
    assert b"[APPENDUID" in ok(c.append("Work", "(\\Seen)", '"01-Jan-2024 10:00:00 +0000"', PLAIN))[0]
    ok(c.select("Work"))
    assert ok(c.fetch("1", "(FLAGS INTERNALDATE BODY.PEEK[])"))[0][1] == PLAIN
    assert b"01-Jan-2024" in ok(c.fetch("1", "INTERNALDATE"))[0].replace(b" 1-Jan", b"01-Jan")
    assert b"[COPYUID" in ok(c.copy("1", "INBOX"))[0]
    status, _ = c.copy("1", "Nowhere")
    assert status == "NO"
    ok(c._simple_command("MOVE", "1", "INBOX"))
    ok(c.noop())
    assert ok(c.status("Work", "(MESSAGES)"))[0] == b"Work (MESSAGES 0)"
    assert ok(c.status("INBOX", "(MESSAGES UIDNEXT)"))[0] == b"INBOX (MESSAGES 2 UIDNEXT 3)"
    c.logout()


def test_what_is_refused_is_not_there(server):
    """The list of UIDs can't be written: APPEND, several at once, and COPY say NO, and leave nothing. After a MOVE each message is in one place."""
    c = server.imap(5)
    ok(c.create("From"))
    ok(c.append("From", None, None, PLAIN))
    ok(c.append("From", None, None, MULTI))
    ok(c.create("To"))
    ok(c.append("To", None, None, PLAIN))
    ok(c.select("From"))
    obstacle = f"{server.maildir(5)}/.To/dovecot-uidlist.tmp"
    os.mkdir(obstacle)
    assert c.append("To", "(\\Seen)", None, MULTI)[0] == "NO"
    assert c.copy("1:2", "To")[0] == "NO"
    r = Raw(server.imap_port)
    r.login(5)
    r.send(b"a APPEND To {%d+}\r\n%s {%d+}\r\n%s\r\n" % (len(PLAIN), PLAIN, len(MULTI), MULTI))
    assert r.until(b"a")[-1].startswith(b"a NO")
    assert len(os.listdir(f"{server.maildir(5)}/.To/cur")) == 1
    assert len(os.listdir(f"{server.maildir(5)}/.From/cur")) == 2
    assert c._simple_command("MOVE", "1", "To")[0] == "NO"
    os.rmdir(obstacle)
    assert sum(int(re.search(rb"MESSAGES (\d+)", ok(c.status(box, "(MESSAGES)"))[0])[1]) for box in ("From", "To")) == 3
    assert b"[APPENDUID" in ok(c.append("To", None, None, MULTI))[0]
    c.logout()


def test_mailboxes_are_made_listed_renamed_and_removed(server):
    c = server.imap(6)
    for name in ("A", "A.B", "Sent"):
        ok(c.create(name))
    assert c.create("A")[0] == "NO" and c.create("../x")[0] == "NO" and c.create("a/b")[0] == "NO"
    ok(c.subscribe("A.B"))
    listed = ok(c.list())
    assert any(b'"." A.B' in line for line in listed) and any(b"\\Sent" in line for line in listed)
    assert [line.split()[-1] for line in ok(c.lsub())] == [b"A.B"]
    ok(c.rename("A", "C"))
    assert sorted(line.split()[-1] for line in ok(c.list())) == [b"C", b"C.B", b"INBOX", b"Sent"]
    ok(c.delete("C.B"))
    assert not os.path.exists(f"{server.maildir(6)}/.C.B")
    assert c.delete("INBOX")[0] == "NO"
    c.logout()


def test_idle_tells_of_new_mail_and_of_flags(server):
    r = Raw(server.imap_port)
    r.login(7)
    r.send(b"s SELECT INBOX\r\n")
    r.until(b"s")
    r.send(b"i IDLE\r\n")
    assert r.f.readline().startswith(b"+")
    server.put(7, PLAIN)
    assert r.f.readline() == b"* 1 EXISTS\r\n"
    r.send(b"DONE\r\n")
    assert r.until(b"i")[-1].startswith(b"i OK")


def test_commands_in_one_packet_with_the_login(server):
    r = Raw(server.imap_port)
    r.send(b'a LOGIN u8@read.test {%d+}\r\n%s\r\nb SELECT INBOX\r\nc NOOP\r\n' % (len(PASSWORD), PASSWORD.encode()))
    assert r.until(b"a")[-1].startswith(b"a OK")
    assert r.until(b"b")[-1].startswith(b"b OK [READ-WRITE]")
    assert r.until(b"c")[-1].startswith(b"c OK")


def test_tls_sessions_are_relayed(server):
    c = server.imap(8, tls=True)
    big = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" + b"".join(b"line %d of many\r\n" % i for i in range(60000))
    ok(c.append("INBOX", None, None, big))
    ok(c.select())
    assert ok(c.fetch("1", "BODY.PEEK[]"))[0][1] == big
    c.logout()
    c = server.imap(8, login=False)
    c.starttls(server.tls())
    c.login("u8@read.test", PASSWORD)
    ok(c.select())
    c.logout()


def test_commands_before_starttls_do_not_count_after_it(server):
    """RELIABILITY T03."""
    r = Raw(server.imap_port)
    r.send(b"a STARTTLS\r\nb NOOP\r\n")
    assert r.until(b"a")[-1].startswith(b"a OK")
    s = server.tls().wrap_socket(r.s, server_hostname="localhost")
    s.sendall(b"c NOOP\r\n")
    assert s.recv(100).startswith(b"c OK")


@pytest.mark.parametrize("line", [b"", b"\x00", b"a", b"a b c", b"a FETCH 1 BODY[", b"a SEARCH " + b"(" * 10000, b"a FETCH 1:*,,2 FLAGS",
                                  b"a LOGIN {99999999999999999999}", b"a SELECT {4294967296}", b"x" * 100000, b"a UID", b"a UID FETCH",
                                  b"a STORE 1 FLAGS (\\", b"a APPEND INBOX {0}", b"a FETCH 4294967296 FLAGS", b"a LIST \"\" \"" , b"a ID (\"x\"",
                                  b"a THREAD X UTF-8 ALL", b"a SORT (X) UTF-8 ALL", b"a FETCH 1 BODY[1.1.1.HEADER.FIELDS ()]"],
                         ids=lambda line: line[:12].decode("latin-1").replace("\0", "NUL"))
def test_malformed_commands_are_refused_and_nothing_else_happens(server, line):
    r = Raw(server.imap_port)
    r.login(1)
    r.send(b"s SELECT INBOX\r\n")
    r.until(b"s")
    r.send(line + b"\r\n")
    answer = r.f.readline()
    if answer.startswith(b"+"):
        answer = r.f.readline()
    assert re.match(rb"(\*|a|x+) (BAD|NO)", answer), answer
    r.send(b"z NOOP\r\n")
    assert r.until(b"z")[-1].startswith(b"z OK")


def test_stop_ends_sessions(server):
    with Reading(users=1) as mail:
        c = mail.imap(1)
        ok(c.select())
        started = time.monotonic()
        mail.stop()
        assert time.monotonic() - started < 25
