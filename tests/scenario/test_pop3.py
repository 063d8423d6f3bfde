# SPDX-License-Identifier: Apache-2.0
"""The POP3 server, spoken to by Python's poplib and by hand."""
import os
import poplib
import socket

import pytest
from reading import PASSWORD, Reading

MAIL = b"From: a@a.test\r\nSubject: one\r\n\r\nline 1\r\n.dot\r\n..\r\nline 4\r\n"


@pytest.fixture(scope="module")
def server():
    with Reading(users=4) as mail:
        yield mail


def test_messages_are_listed_and_retrieved_as_they_are(server):
    server.put(1, MAIL)
    server.put(1, b"Subject: two\r\n\r\nno end of line")
    p = server.pop3(1)
    assert p.stat() == (2, len(MAIL) + 30)
    assert p.list()[1] == [b"1 %d" % len(MAIL), b"2 30"]
    assert b"\r\n".join(p.retr(1)[1]) + b"\r\n" == MAIL
    assert p.retr(2)[1][-1] == b"no end of line"
    assert p.top(1, 1)[1] == MAIL.split(b"\r\n")[:4]
    with pytest.raises(poplib.error_proto):
        p.retr(3)
    p.quit()


def test_uidl_stays_and_dele_counts_at_quit_only(server):
    for i in range(3):
        server.put(2, b"Subject: %d\r\n\r\nx\r\n" % i)
    p = server.pop3(2)
    before = p.uidl()[1]
    assert len(set(before)) == 3 and before[0].startswith(b"1 00000001")
    p.dele(2)
    assert len(p.list()[1]) == 2
    p.close()
    p = server.pop3(2)
    assert p.uidl()[1] == before
    p.dele(2)
    p.rset()
    p.dele(1)
    p.quit()
    p = server.pop3(2)
    assert [u.split()[1] for u in p.uidl()[1]] == [u.split()[1] for u in before[1:]]
    p.quit()
    assert len(os.listdir(f"{server.maildir(2)}/cur")) == 2


def test_tls_and_pipelining(server):
    server.put(3, MAIL)
    p = server.pop3(3, tls=True)
    assert len(p.list()[1]) == 1
    p.quit()
    with socket.create_connection(("127.0.0.1", server.pop3_port), 30) as s:
        s.sendall(b"USER u3@read.test\r\nPASS %s\r\nSTAT\r\nNOOP\r\nQUIT\r\n" % PASSWORD.encode())
        answer = b""
        while more := s.recv(1000):
            answer += more
    lines = answer.split(b"\r\n")
    assert [line[:3] for line in lines[:6]] == [b"+OK"] * 6, lines


def test_wrong_passwords_end_the_connection(server):
    p = poplib.POP3("127.0.0.1", server.pop3_port, timeout=60)
    for _ in range(2):
        p.user("u4@read.test")
        with pytest.raises(poplib.error_proto, match="AUTH"):
            p.pass_("wrong")
    p.user("u4@read.test")
    with pytest.raises(poplib.error_proto):
        p.pass_("wrong")
    with pytest.raises((poplib.error_proto, OSError)):  # the end, or a reset
        p.user("u4@read.test")


@pytest.mark.parametrize("line", [b"", b"RETR", b"RETR x", b"RETR 99999999999", b"TOP 1", b"XYZ", b"LIST 0", b"DELE -1"])
def test_malformed_commands_are_refused(server, line):
    p = server.pop3(4)
    p.sock.sendall(line + b"\r\nNOOP\r\n")
    assert p.file.readline().startswith(b"-ERR")
    assert p.file.readline().startswith(b"+OK")
