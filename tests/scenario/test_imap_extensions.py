# SPDX-License-Identifier: Apache-2.0
"""The IMAP server's extensions, spoken by hand."""
import os
import re
import zlib

import pytest
from reading import PASSWORD, Reading

PLAIN = b"From: Ann <ann@a.test>\r\nTo: u1@read.test\r\nSubject: one\r\nMessage-ID: <1@a.test>\r\n\r\nHello\r\nWorld\r\n"


@pytest.fixture(scope="module")
def server():
    with Reading(users=30, settings={"imap_append_size_limit": "200000"}) as mail:
        yield mail


class Client:
    """Tagged commands, all lines of the answer; literals are kept within their line."""
    users = 0

    def __init__(self, server, tls=False, n=None):
        if n is None:
            Client.users += 1
            n = Client.users
        self.n, self.server, self.serial = n, server, 0
        import socket
        self.s = socket.create_connection(("127.0.0.1", server.imaps_port if tls else server.imap_port), 30)
        if tls:
            self.s = server.tls().wrap_socket(self.s, server_hostname="localhost")
        self.s.settimeout(60)
        self.buffer, self.packed = b"", None
        assert self.line().startswith(b"* OK")
        self.ok('LOGIN u%d@read.test "%s"' % (n, PASSWORD))

    def compress(self):
        self.packed, self.unpacked = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)

    def send(self, data):
        if self.packed:
            data = self.packed.compress(data) + self.packed.flush(zlib.Z_SYNC_FLUSH)
        self.s.sendall(data)

    def more(self):
        data = self.s.recv(65536)
        assert data, "the connection is closed"
        self.buffer += self.unpacked.decompress(data) if self.packed else data

    def take(self, n):
        while len(self.buffer) < n:
            self.more()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def line(self):
        whole = b""
        while True:
            while b"\r\n" not in self.buffer:
                self.more()
            whole += self.take(self.buffer.index(b"\r\n") + 2)
            literal = re.search(rb"\{(\d+)\}\r\n$", whole)
            if not literal:
                return whole[:-2]
            whole += self.take(int(literal.group(1)))

    def answer(self, tag):
        lines = []
        while True:
            lines.append(self.line())
            if lines[-1].startswith(tag + b" ") or lines[-1].startswith(b"+"):
                return lines

    def command(self, text, *literals):
        """A command whose literals ("{}") are sent when asked for."""
        self.serial += 1
        tag = b"t%d" % self.serial
        text = tag + b" " + (text.encode() if isinstance(text, str) else text) + b"\r\n"
        pieces = text.split(b"{}")
        assert len(pieces) == len(literals) + 1
        for piece, literal in zip(pieces, literals):
            self.send(piece + b"{%d+}\r\n" % len(literal) + literal)
        self.send(pieces[-1])
        return self.answer(tag)

    def ok(self, *args):
        lines = self.command(*args)
        assert b" OK" in lines[-1].split(b"[")[0] or lines[-1].split()[1] == b"OK", lines
        return lines

    def no(self, *args):
        lines = self.command(*args)
        assert lines[-1].split()[1] == b"NO", lines
        return lines[-1]

    def bad(self, *args):
        lines = self.command(*args)
        assert lines[-1].split()[1] == b"BAD", lines
        return lines[-1]

    def append(self, content=PLAIN, mailbox="INBOX", flags=""):
        return self.ok(f"APPEND {mailbox} {flags}{{}}", content)[-1]

    def has(self, capability):
        assert capability.encode() in self.ok("CAPABILITY")[0].split(), capability


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_compression_begins_and_all_goes_on(server, tls):
    c = Client(server, tls)
    c.has("COMPRESS=DEFLATE")
    assert b"CANNOT" in c.no("COMPRESS LZ4")
    c.ok("COMPRESS DEFLATE")
    c.compress()
    assert b"COMPRESSIONACTIVE" in c.no("COMPRESS DEFLATE")
    big = b"Subject: big\r\n\r\n" + b"".join(b"line %d of many, many lines\r\n" % i for i in range(6000))
    c.append(big)
    c.ok("SELECT INBOX")
    assert big in c.ok("FETCH 1 BODY.PEEK[]")[0]
    c.send(b"i IDLE\r\n")
    assert c.line().startswith(b"+")
    server.put(c.n, PLAIN)
    assert c.line() == b"* 2 EXISTS"
    c.send(b"DONE\r\n")
    c.answer(b"i")
    c.ok("LOGOUT")


def test_bytes_that_are_not_compressed_end_a_compressed_session(server):
    c = Client(server)
    c.ok("COMPRESS DEFLATE")
    c.s.sendall(b"\xff\xff\xff\xffa NOOP\r\n")
    while c.s.recv(1000):
        pass


def test_a_message_too_large_is_refused_with_toobig(server):
    c = Client(server)
    c.has("APPENDLIMIT=200000")
    assert c.ok("STATUS INBOX (APPENDLIMIT)")[0] == b"* STATUS INBOX (APPENDLIMIT 200000)"
    assert b"[TOOBIG]" in c.no("APPEND INBOX {}", b"x" * 200001)
    c.send(b"x APPEND INBOX {200001}\r\n")
    assert b"x NO [TOOBIG]" in c.answer(b"x")[-1]
    c.append(b"x" * 200000)


def uid_of(line):
    return int(re.search(rb"APPENDUID \d+ (\d+)", line).group(1))


def test_status_counts_what_is_deleted_and_its_size(server):
    c = Client(server)
    c.append(b"Subject: a\r\n\r\nx\r\n", flags="(\\Deleted) ")
    c.append(b"Subject: b\r\n\r\nxy\r\n")
    assert c.ok("STATUS INBOX (DELETED DELETED-STORAGE SIZE)")[0] == b"* STATUS INBOX (SIZE 34 DELETED 1 DELETED-STORAGE 15)".replace(
        b"34", b"%d" % (17 + 18)).replace(b"SIZE 35", b"SIZE %d" % (len(b"Subject: a\r\n\r\nx\r\n") + len(b"Subject: b\r\n\r\nxy\r\n"))).replace(
        b"STORAGE 15", b"STORAGE %d" % len(b"Subject: a\n\nx\n"))


def test_save_dates_are_when_the_message_came_into_its_mailbox(server):
    c = Client(server)
    c.has("SAVEDATE")
    server.put(c.n, PLAIN, name="1000000000.M1P1.test")
    server.put(c.n, PLAIN, name="odd-name")
    c.ok("CREATE Other")
    c.ok("SELECT INBOX")
    answers = c.ok("FETCH 1:2 SAVEDATE")
    assert any(b'SAVEDATE " 9-Sep-2001' in a for a in answers) and any(b"SAVEDATE NIL" in a for a in answers)
    n = [a.split()[1].decode() for a in answers if b"Sep-2001" in a][0]
    assert c.ok("SEARCH SAVEDBEFORE 1-Jan-2002")[0] == b"* SEARCH " + n.encode()
    assert c.ok("SEARCH SAVEDON 9-Sep-2001")[0] == b"* SEARCH " + n.encode()
    assert c.ok("SEARCH SAVEDSINCE 1-Jan-2002")[0] == b"* SEARCH"
    assert c.ok("SEARCH SAVEDATESUPPORTED")[0] == b"* SEARCH 1 2"
    c.ok(f"COPY {n} Other")
    c.ok("SELECT Other")
    assert b"2001" not in c.ok("FETCH 1 SAVEDATE")[0] and b"NIL" not in c.ok("FETCH 1 SAVEDATE")[0]


def test_identifiers_stay(server):
    c = Client(server)
    c.has("OBJECTID")
    made = re.search(rb"\[MAILBOXID \((\w+)\)\]", c.ok("CREATE One")[-1]).group(1)
    c.append(mailbox="One"), c.append(PLAIN + b"more\r\n", mailbox="One")
    c.ok("RENAME One Two")
    assert b"MAILBOXID (%s)" % made in c.ok("STATUS Two (MAILBOXID)")[0]
    assert any(b"[MAILBOXID (%s)]" % made in line for line in c.ok("SELECT Two"))
    ids = [re.search(rb"EMAILID \(([\w-]+)\)", line).group(1) for line in c.ok("FETCH 1:2 (EMAILID THREADID)")[:2]]
    assert ids[0] != ids[1]
    c.ok("COPY 1 INBOX")
    c.ok("SELECT INBOX")
    assert b"EMAILID (%s)" % ids[0] in c.ok("FETCH 1 (EMAILID)")[0]
    assert c.ok("SEARCH EMAILID " + ids[0].decode())[0] == b"* SEARCH 1"
    assert c.ok("SEARCH EMAILID " + ids[1].decode())[0] == b"* SEARCH"
    assert c.ok("SEARCH THREADID T1")[0] == b"* SEARCH"


def test_identifiers_come_from_the_index_once_they_were_made(server):
    c = Client(server)
    c.ok("CREATE Kept")
    c.append(mailbox="Kept")
    c.ok("SELECT Kept")
    one, = (line for line in c.ok("FETCH 1 (EMAILID THREADID)") if b"EMAILID" in line)
    cur = f"{server.maildir(c.n)}/.Kept/cur"
    name, = os.listdir(cur)
    stamp = os.stat(f"{cur}/{name}").st_mtime
    with open(f"{cur}/{name}", "r+b") as f:  # which no program does: it shows who reads the file
        f.write(b"X")
    os.utime(f"{cur}/{name}", (stamp, stamp))
    assert c.ok("FETCH 1 (EMAILID THREADID)")[0] == one
    c.ok("STORE 1 FLAGS (\\Deleted)"), c.ok("EXPUNGE")
    c.ok("SELECT INBOX")


def test_a_thread_has_one_identifier_in_all_mailboxes(server):
    c = Client(server)
    c.ok("CREATE Answers")
    def mail(n, references="", more=""):
        head = f"References: {references}\r\n" if references else ""
        return f"From: a@x\r\nSubject: s{n}\r\nMessage-ID: <t{n}@x>\r\n{head}{more}\r\nx\r\n".encode()
    c.append(mail(1), mailbox="Answers")
    c.append(mail(2, "<t1@x>"), mailbox="INBOX")
    c.append(mail(3, "<t1@x> <t2@x>"), mailbox="Answers")
    c.append(mail(4, more="In-Reply-To: <t1@x>\r\n"), mailbox="Answers")
    c.append(mail(5), mailbox="Answers")
    c.append(b"Subject: none\r\n\r\nx\r\n", mailbox="Answers"), c.append(b"Subject: none, too\r\n\r\nx\r\n", mailbox="Answers")
    c.ok("SELECT Answers")
    ids = [re.search(rb"THREADID \((T\w+)\)", line).group(1) for line in c.ok("FETCH 1:* THREADID") if b"THREADID" in line]
    assert ids[0] == ids[1] == ids[2] and len(set(ids)) == 4
    assert c.ok("SEARCH THREADID " + ids[0].decode())[0] == b"* SEARCH 1 2 3"
    c.ok("STORE 1 FLAGS (\\Deleted)"), c.ok("EXPUNGE")
    assert b"THREADID (%s)" % ids[0] in c.ok("FETCH 1 THREADID")[0]
    c.ok("SELECT INBOX")
    found = c.ok("SEARCH THREADID " + ids[0].decode())[0].split()
    assert len(found) == 3
    assert b"THREADID (%s)" % ids[0] in c.ok(f"FETCH {found[2].decode()} (UID THREADID ENVELOPE)")[0]


def test_a_preview_is_the_begin_of_the_text(server):
    c = Client(server)
    c.has("PREVIEW")
    c.append()
    c.append(b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<html><style>x{}</style><p>caf\xe9 &amp;\r\n<b>more</b> &#8364;</p>" + b"y" * 500)
    c.append(b"Content-Type: image/png\r\n\r\nxxxx")
    c.ok("SELECT INBOX")
    assert b'PREVIEW "Hello World"' in c.ok("FETCH 1 PREVIEW")[0]
    text = re.search(rb"\{\d+\}\r\n(.*)\)", c.ok("FETCH 2 (PREVIEW (LAZY))")[0], re.S).group(1).decode()
    assert text.startswith("café & more € y") and len(text) == 200
    assert b'PREVIEW ""' in c.ok("FETCH 3 (UID PREVIEW FLAGS)")[0]


def test_replace_puts_one_message_in_anothers_place(server):
    c = Client(server)
    c.has("REPLACE")
    c.append(), c.append(b"Subject: second\r\n\r\n2\r\n")
    c.ok("SELECT INBOX")
    lines = c.ok("REPLACE 1 INBOX (\\Draft) {}", b"Subject: new\r\n\r\nnew\r\n")
    assert any(b"[APPENDUID" in line for line in lines) and b"* 1 EXPUNGE" in lines
    assert c.ok("UID SEARCH ALL")[0] == b"* SEARCH 2 3"
    c.bad("REPLACE 3 INBOX {}", b"x")
    c.no("UID REPLACE 99 INBOX {}", b"x")
    assert b"TRYCREATE" in c.no("UID REPLACE 2 Nowhere {}", b"x")
    assert b"TOOBIG" in c.no("UID REPLACE 2 INBOX {}", b"x" * 200001)
    c.bad("UID REPLACE 2 INBOX {} {}", b"x", b"y")
    assert c.ok("UID SEARCH ALL")[0] == b"* SEARCH 2 3"
    c.ok("EXAMINE INBOX")
    c.no("UID REPLACE 2 INBOX {}", b"x")


def test_catenate_makes_a_message_of_pieces(server):
    c = Client(server)
    c.has("CATENATE")
    multi = (b"Subject: whole\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst\r\n--b\r\nX: y\r\n\r\nsecond\r\n--b--\r\n")
    uid = uid_of(c.append(multi))
    c.ok('CREATE "B&AOQ-r"')
    c.ok("SELECT INBOX")
    c.ok(f'APPEND "B&AOQ-r" (\\Seen) CATENATE (URL "/INBOX/;UID={uid}/;SECTION=HEADER" TEXT {{}} URL ";UID={uid}/;SECTION=2" '
         f'TEXT {{}} URL "/INBOX/;uid={uid}/;section=2.MIME" URL ";UID={uid}/;PARTIAL=9.5")', b"[", b"]")
    c.ok('APPEND INBOX CATENATE (URL "/B%C3%A4r/;UID=1")')
    c.ok("SELECT INBOX")
    made = c.ok("FETCH 2 BODY.PEEK[]")[0]
    assert multi.split(b"--b")[0] + b"[second]X: y\r\n\r\nwhole" in made, made
    for url in ("/INBOX/;UID=99", "imap://other/INBOX/;UID=1", "/Nowhere/;UID=1", "/../;UID=1", ";UID=1/;SECTION=9", "x", "/INBOX;UIDVALIDITY=1/;UID=1"):
        assert f'[BADURL "{url}"]'.encode() in c.no(f'APPEND INBOX CATENATE (TEXT {{}} URL "{url}")', b"x"), url
    c.bad('APPEND INBOX CATENATE ()')
    c.bad('APPEND INBOX CATENATE (FILE "/etc/passwd")')
    assert c.ok("STATUS INBOX (MESSAGES)")[0] == b"* STATUS INBOX (MESSAGES 2)"


def test_quota_is_told_and_kept(server):
    c = Client(server)
    c.has("QUOTA=RES-STORAGE")
    assert c.ok("GETQUOTAROOT INBOX")[0] == b"* QUOTAROOT INBOX"
    c.no('GETQUOTA ""')
    with open(f"{server.maildir(c.n)}/maildirsize", "w") as f:
        f.write("10240S,3C\n0 0\n")
    import os
    os.chmod(f"{server.maildir(c.n)}/maildirsize", 0o666)
    if not os.geteuid():
        os.chown(f"{server.maildir(c.n)}/maildirsize", 12000, 12000)
    c.append(b"Subject: a\r\n\r\n" + b"x" * 2000)
    assert c.ok("GETQUOTAROOT INBOX")[:2] == [b'* QUOTAROOT INBOX ""', b'* QUOTA "" (STORAGE 2 10 MESSAGE 1 3)']
    assert b"OVERQUOTA" in c.no("APPEND INBOX {}", b"x" * 9000)
    c.ok("CREATE Other"), c.ok("CREATE Trash")
    c.ok("SELECT INBOX")
    c.ok("COPY 1 Other"), c.ok("COPY 1 Trash"), c.ok("COPY 1 Other")
    assert b"OVERQUOTA" in c.no("COPY 1 Other")
    c.ok("STORE 1 +FLAGS (\\Deleted)")
    c.ok("EXPUNGE")
    assert c.ok('GETQUOTA ""')[0] == b'* QUOTA "" (STORAGE 4 10 MESSAGE 2 3)'
    c.ok("SELECT Other")
    c.ok("MOVE 1 Trash")
    assert b"MESSAGE 1 3" in c.ok('GETQUOTA ""')[0]
    c.bad('SETQUOTA "" (STORAGE 512)')


def test_annotations_are_kept(server):
    c = Client(server)
    c.has("METADATA")
    c.ok("CREATE Notes")
    c.ok('SETMETADATA Notes (/private/comment "my own" /shared/a {} /private/vendor/x/y "deep")', b"two\r\nlines")
    c.ok('SETMETADATA "" (/private/comment "server")')
    d = Client(server, n=c.n)
    assert d.ok("GETMETADATA Notes /private/comment")[0] == b'* METADATA Notes (/private/comment "my own")'
    assert d.ok('GETMETADATA "" (/private/comment /shared/none)')[0] == b'* METADATA "" (/private/comment "server" /shared/none NIL)'
    assert d.ok("GETMETADATA Notes /shared/a")[0] == b"* METADATA Notes (/shared/a {10}\r\ntwo\r\nlines)"
    assert b"/private/vendor/x/y" in d.ok("GETMETADATA (DEPTH infinity) Notes /private/vendor")[0]
    assert b"x/y" not in d.ok("GETMETADATA (DEPTH 1) Notes /private/vendor")[0]
    assert b"[METADATA LONGENTRIES 10]" in d.ok("GETMETADATA (MAXSIZE 7) Notes (/private/comment /shared/a)")[-1]
    c.ok("RENAME Notes Kept")
    c.ok("SETMETADATA Kept (/PRIVATE/Comment NIL)")
    assert d.ok("GETMETADATA Kept /private/comment")[0] == b"* METADATA Kept (/private/comment NIL)"
    assert b"MAXSIZE" in c.no("SETMETADATA Kept (/private/big {})", b"x" * 40000)
    c.no("GETMETADATA Nowhere /private/comment")
    c.bad("SETMETADATA Kept (/etc/passwd \"x\")")
    c.bad("SETMETADATA Kept (comment \"x\")")
    for i in range(98):
        c.ok(f"SETMETADATA Kept (/private/n{i} \"v\")")
    assert b"TOOMANY" in c.no("SETMETADATA Kept (/private/one \"v\" /private/two \"v\")")


def test_rights_are_the_owners_alone(server):
    c = Client(server)
    c.has("ACL")
    user = b"u%d@read.test" % c.n
    assert c.ok("MYRIGHTS INBOX")[0] == b"* MYRIGHTS INBOX lrswipkxtea"
    assert c.ok("GETACL INBOX")[0] == b"* ACL INBOX " + user + b" lrswipkxtea"
    assert c.ok("LISTRIGHTS INBOX " + user.decode())[0] == b"* LISTRIGHTS INBOX " + user + b" lrswipkxtea"
    assert c.ok("LISTRIGHTS INBOX anyone")[0] == b'* LISTRIGHTS INBOX anyone ""'
    c.no("SETACL INBOX anyone lr"), c.no("DELETEACL INBOX anyone"), c.no("MYRIGHTS Nowhere")
    assert c.ok('LIST "" "*" RETURN (MYRIGHTS)')[:2] == [b'* LIST (\\HasNoChildren) "." INBOX', b"* MYRIGHTS INBOX lrswipkxtea"]


def test_letters_are_alike_however_they_are_written(server):
    c = Client(server)
    c.has("I18NLEVEL=1")
    c.append("Content-Type: text/plain; charset=utf-8\r\n\r\nCafe\u0301 ﬁne Å\r\n".encode())
    c.ok("SELECT INBOX")
    for text in ("CAFÉ", "cafe\u0301", "FINE", "å", "A\u030a"):
        assert c.ok("SEARCH CHARSET UTF-8 BODY {}", text.encode())[0] == b"* SEARCH 1", text
    assert c.ok("SEARCH CHARSET UTF-8 BODY {}", "ä".encode())[0] == b"* SEARCH"


def test_parts_of_results(server):
    c = Client(server)
    c.has("PARTIAL")
    for i in range(6):
        c.append(b"Subject: %d\r\n\r\n%d\r\n" % (i % 3, i))
    c.ok("SELECT INBOX")
    for given, told, uids in (("1:2", "1:2", "1:2"), ("-1:-2", "-1:-2", "5:6"), ("5:9", "5:9", "5:6"), ("9:7", "7:9", "NIL"), ("-9:-5", "-5:-9", "1:2")):
        line = c.ok(f"UID SEARCH RETURN (PARTIAL {given}) ALL")[0]
        assert line.endswith(f"UID PARTIAL ({told} {uids})".encode()), line
    assert c.ok("UID SEARCH RETURN (COUNT PARTIAL 1:1) SUBJECT 1")[0].endswith(b"UID COUNT 2 PARTIAL (1:1 2)")
    assert c.ok("UID SORT RETURN (PARTIAL 1:3) (SUBJECT) UTF-8 ALL")[0].endswith(b"PARTIAL (1:3 1,4,2)")
    c.ok("UID SEARCH RETURN (SAVE PARTIAL 2:3) ALL")
    assert c.ok("UID SEARCH $")[0] == b"* SEARCH 2 3"
    lines = c.ok("UID FETCH 1:* (FLAGS) (PARTIAL -1:-2)")
    assert [line.split()[1] for line in lines[:-1]] == [b"5", b"6"]
    for wrong in ("UID SEARCH RETURN (PARTIAL 1:-2) ALL", "UID SEARCH RETURN (PARTIAL 0:2) ALL", "UID SEARCH RETURN (ALL PARTIAL 1:2) ALL",
                  "FETCH 1:* (FLAGS) (PARTIAL 1:2)", "UID FETCH 1:* FLAGS (PARTIAL 1:)", "UID FETCH 1:* FLAGS (X)"):
        c.bad(wrong)


def test_messages_have_no_numbers_with_uidonly(server):
    c = Client(server)
    c.has("UIDONLY")
    for i in range(3):
        c.append()
    d = Client(server, n=c.n)
    d.ok("SELECT INBOX")
    assert c.ok("ENABLE UIDONLY")[0] == b"* ENABLED UIDONLY"
    assert not any(b"UNSEEN" in line for line in c.ok("SELECT INBOX"))
    for command in ("FETCH 1 FLAGS", "STORE 1 +FLAGS (\\Seen)", "SEARCH ALL", "COPY 1 INBOX", "MOVE 1 INBOX", "SORT (DATE) UTF-8 ALL", "UID SEARCH 1"):
        assert b"BAD [UIDREQUIRED]" in c.bad(command), command
    assert c.ok("UID FETCH 2 (UID FLAGS)")[0] == b"* 2 UIDFETCH (FLAGS ())"
    assert c.ok("UID STORE 2 +FLAGS (\\Seen)")[0] == b"* 2 UIDFETCH (FLAGS (\\Seen))"
    assert c.ok("UID SEARCH UID 2:3")[0] == b"* SEARCH 2 3"
    d.ok("STORE 1,3 +FLAGS (\\Deleted)")
    d.ok("EXPUNGE")
    assert b"* VANISHED 1,3" in c.ok("NOOP")
    assert b"* 2 UIDFETCH (FLAGS (\\Seen))" in c.ok("UID FETCH 2 FLAGS")


def test_a_long_search_tells_how_far_it_is():
    with Reading(users=1, settings={"imap_search_index": "no", "imap_progress_time": "1s", "imap_command_size_limit": "1000000"}) as mail:
        c = Client(mail, n=1)
        c.has("INPROGRESS")
        for i in range(130):
            mail.put(1, b"Subject: x\r\n\r\n" + (b"nothing to be found here %d\r\n" % i) * 2000)
        c.ok("SELECT INBOX")
        lines = c.ok("SEARCH " + " ".join("NOT BODY qqq%d" % i for i in range(900)))
        assert lines[-2].startswith(b"* SEARCH 1 2 3")
        told = [line for line in lines if b"INPROGRESS" in line]
        assert told and re.match(rb'\* OK \[INPROGRESS \("t\d+" (64|128) 130\)\]', told[0]), lines[:-2]
