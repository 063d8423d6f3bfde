# SPDX-License-Identifier: Apache-2.0
"""What an IMAP client may try: sizes, depths and names that are no good faith. The session refuses and goes on, or ends; nothing else happens."""
import imaplib
import os
import poplib
import socket

import pytest
from reading import Reading
from test_imap_extensions import PLAIN, Client


@pytest.fixture(scope="module")
def server():
    with Reading(users=17) as mail:
        yield mail


def holds(pid, path):
    """Has the process something open below path?"""
    return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith(path) for fd in os.listdir(f"/proc/{pid}/fd"))


def memory(server):
    """Most memory that any session process had, in KiB."""
    most = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as f, open(f"/proc/{pid}/status") as status:
                if "imap-session" in f.read() and (server.base in os.readlink(f"/proc/{pid}/cwd") or holds(pid, server.mail_base)):
                    most = max(most, *[int(line.split()[1]) for line in status if line.startswith("VmHWM")])
        except OSError:
            pass
    return most


def test_a_literal_of_4_gib_is_not_waited_for(server):
    c = Client(server)
    for command in ("APPEND INBOX {4294967296}", "APPEND INBOX {18446744073709551615}", "SELECT {4294967296}", "SEARCH BODY {4294967297}"):
        c.send(b"x " + command.encode() + b"\r\n")
        assert c.answer(b"x")[-1].split()[1] in (b"NO", b"BAD"), command
    c.ok("NOOP")


def test_a_set_of_a_million_elements(server):
    c = Client(server)
    c.append()
    c.ok("SELECT INBOX")
    c.ok("UID FETCH " + ",".join(str(i) for i in range(1, 12000)) + " FLAGS")
    c.send(b"x UID FETCH " + b",".join(b"%d" % i for i in range(1, 100000)) + b" FLAGS\r\n")
    assert c.line().startswith(b"* BAD")
    c.ok("NOOP")
    try:  # a command of 7 MB ends the session
        c.send(b"x UID FETCH " + b",".join(b"%d" % i for i in range(1, 1000001)) + b" FLAGS\r\n")
        assert c.line().startswith(b"* BAD")
    except (ConnectionError, AssertionError):
        pass
    Client(server, n=c.n).ok("NOOP")


def test_parentheses_nested_10000_deep(server):
    c = Client(server)
    c.ok("SELECT INBOX")
    for command in ("SEARCH " + "(" * 10000 + "ALL" + ")" * 10000, "SEARCH " + "NOT " * 10000 + "ALL", "LIST " + "(" * 10000, "FETCH 1 " + "(" * 10000,
                    "ID " + "(" * 10000, "SETMETADATA INBOX " + "(" * 10000, "APPEND INBOX CATENATE " + "(" * 10000, "FETCH 1 BODY[" + "1." * 10000 + "1]"):
        c.bad(command)
    c.ok("NOOP")


def test_mime_parts_nested_10000_deep(server):
    c = Client(server)
    head = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(10000))
    c.append(head + b"\r\ndeep needle\r\n")
    c.append(b"Content-Type: message/rfc822\r\n\r\n" * 10000 + b"Subject: deep\r\n\r\nx\r\n")
    c.ok("SELECT INBOX")
    lines = c.ok("FETCH 1:2 (BODYSTRUCTURE ENVELOPE PREVIEW RFC822.SIZE)")
    assert len(lines) == 3
    c.ok("SEARCH TEXT needle")
    c.ok("FETCH 1:2 BODY.PEEK[" + "1." * 49 + "1]")


def test_a_header_of_100_mib_costs_bounded_memory(server):
    c = Client(server)
    size = 100 << 20
    c.ok("SELECT INBOX")
    name = server.put(c.n, b"Subject: " + b"x" * (1 << 20) + b"\n\nbody\n")
    path = f"{server.maildir(c.n)}/new/{name}"
    with open(path, "r+b") as f:
        f.seek(size)
        f.write(b"\n\nbody\n")
    c.ok("NOOP")
    lines = c.ok("FETCH 1 (RFC822.SIZE FLAGS)")
    assert b"RFC822.SIZE 1048" in lines[0], lines[0][:100]
    c.ok("SEARCH BODY body")
    c.ok("NOOP")
    assert 0 < memory(server) < 4 * (size >> 10)


@pytest.mark.parametrize("name", ["../x", "..", "a/../b", "/etc", "a//b", "a/b", ".a", "a..b", "a.", "x" * 300, ".".join("x" * 30), "&AAA-", "a&-&AC8-b", "*"])
def test_names_of_mailboxes_lead_nowhere_else(server, name):
    c = Client(server, n=9)
    before = sorted(os.listdir(server.mail_base))
    answer = c.command(f'CREATE "{name}"')[-1].split()[1]
    assert answer in (b"NO", b"BAD") or name in ("a.", "*"), (name, answer)
    for command in ("SELECT", "STATUS", "APPEND", "GETMETADATA", "MYRIGHTS"):
        if answer == b"OK":
            break
        rest = {"STATUS": " (MESSAGES)", "APPEND": " {2+}\r\nxx", "GETMETADATA": " /private/a"}.get(command, "")
        assert c.command(f'{command} "{name}"{rest}')[-1].split()[1] in (b"NO", b"BAD")
    assert sorted(os.listdir(server.mail_base)) == before and not os.path.exists(f"{server.base}/x")


def test_a_nul_in_a_name_is_refused(server):
    c = Client(server)
    c.bad("CREATE {}", b"a\0b")
    c.send(b'x CREATE "a\0b"\r\n')
    assert c.line().split()[1] in (b"BAD", b"NO")
    c.ok("NOOP")


def test_links_to_other_places_are_not_followed_for_messages(server):
    c = Client(server)
    c.append()
    secret = f"{server.base}/secret"
    with open(secret, "w") as f:
        f.write("Subject: secret\n\nnot yours\n")
    os.symlink(secret, f"{server.maildir(c.n)}/cur/1700000000.M1P1.link:2,")
    c.ok("SELECT INBOX")
    for line in c.ok("UID FETCH 1:* (FLAGS BODY.PEEK[])") if c.command("UID FETCH 1:* (FLAGS BODY.PEEK[])")[-1].split()[1] == b"OK" else []:
        assert b"not yours" not in line
    assert c.ok("SEARCH BODY yours")[0] == b"* SEARCH" if c.command("SEARCH BODY yours")[-1].split()[1] == b"OK" else True


@pytest.mark.parametrize("kind", ["fifo", "link", "loop", "socket", "directory"])
def test_what_stands_in_the_place_of_the_list_of_uids_ends_no_login(server, kind):
    """T12, T33: a user's own programs may put anything there. It hangs nobody, is not followed, and INBOX is there again where a file can take its place."""
    n = {"fifo": 13, "link": 14, "loop": 15, "socket": 16, "directory": 17}[kind]
    place, outside = f"{server.mail_base}/u{n}", f"{server.base}/outside-{kind}"
    Client(server, n=n).append()
    server.wait(lambda: os.path.exists(f"{place}/dovecot-uidlist"), 10, "INBOX is there")
    server.kill("imap-session")  # nothing is kept of it

    def serves():
        try:
            return server.imap(1).logout()
        except (OSError, imaplib.IMAP4.error):
            return None
    server.wait(serves, 30, "the starter is there again", step=0.2)
    with open(outside, "w") as f:
        f.write("3 V1 N99 G" + "0" * 32 + "\n")
    os.unlink(f"{place}/dovecot-uidlist")
    if kind == "fifo":
        os.mkfifo(f"{place}/dovecot-uidlist", 0o600)
    elif kind == "link":
        os.symlink(outside, f"{place}/dovecot-uidlist")
    elif kind == "loop":
        os.symlink("dovecot-uidlist", f"{place}/dovecot-uidlist")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(f"{place}/dovecot-uidlist")
    else:
        os.mkdir(f"{place}/dovecot-uidlist")
    if not os.geteuid():
        os.chown(f"{place}/dovecot-uidlist", 12000, 12000, follow_symlinks=False)
    for _ in range(2):
        c = Client(server, n=n)
        c.ok("LIST \"\" *")
        c.send(b"x SELECT INBOX\r\n")
        answer = c.answer(b"x")
        assert answer[-1].split()[1] == (b"NO" if kind == "directory" else b"OK"), answer
        if kind != "directory":
            assert b"* 1 EXISTS" in b"\n".join(answer) and b"[UIDNEXT 99]" not in b"\n".join(answer), answer
        c.ok("NOOP")
    with open(outside) as f:
        assert f.read().startswith("3 V1 N99 ")
    try:
        assert server.pop3(n).stat()[0] == 1 and kind != "directory"
    except poplib.error_proto:
        assert kind == "directory"
    assert os.path.isfile(f"{place}/dovecot-uidlist") != (kind == "directory") and not os.path.islink(f"{place}/dovecot-uidlist")
