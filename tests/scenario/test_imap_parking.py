# SPDX-License-Identifier: Apache-2.0
"""IMAP sessions that idle give up their process, and go on as if nothing had been."""
import os
import re
import shutil
import signal
import socket

import pytest
from reading import PASSWORD, Reading


@pytest.fixture(scope="module")
def server():
    with Reading(users=12, settings={"imap_park_time": "1s", "mailbox_session_limit": "3"}) as mail:
        yield mail


def of_instance(server, pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(server.base)
    except OSError:
        return False


def processes(server, n):
    """Of user n, for IMAP."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if words[0] == b"imap-session: u%d@read.test" % n and of_instance(server, pid):
            found.append(int(pid))
    return found


def sockets(pid):
    """Connections of clients that a process holds."""
    tcp = {"socket:[" + line.split()[9] + "]" for line in open("/proc/net/tcp").readlines()[1:]}
    return sum(os.readlink(f"/proc/{pid}/fd/{fd}") in tcp for fd in os.listdir(f"/proc/{pid}/fd"))


class Idle:
    """A session by hand, with INBOX selected."""
    def __init__(self, server, n, tls=False):
        s = socket.create_connection(("127.0.0.1", server.imaps_port if tls else server.imap_port), 60)
        self.s = server.tls().wrap_socket(s, server_hostname="localhost") if tls else s
        self.f = self.s.makefile("rb")
        self.f.readline()
        self.command(b'l LOGIN u%d@read.test "%s"' % (n, PASSWORD.encode()))
        self.selected = self.command(b"s SELECT INBOX")

    def command(self, line):
        self.s.sendall(line + b"\r\n")
        lines = self.until(line.split()[0] + b" ")
        assert lines[-1].split()[1] == b"OK", lines
        return lines

    def until(self, start):
        lines = []
        while not lines or not lines[-1].startswith(start):
            lines.append(self.f.readline())
            assert lines[-1], lines
        return [line.strip() for line in lines]

    def idle(self):
        self.s.sendall(b"i IDLE\r\n")
        return self.until(b"+ ")

    def done(self):
        self.s.sendall(b"DONE\r\n")
        return self.until(b"i ")


def park(server, n):
    server.wait(lambda: not processes(server, n), 60, f"the process of u{n} ends", 0.1)


@pytest.mark.parametrize("tls", [False, True])
def test_new_mail_and_done_reach_a_parked_session(server, tls):
    n = 2 if tls else 1
    server.put(n, b"Subject: first\r\n\r\nx\r\n")
    c = Idle(server, n, tls)
    c.idle()
    assert processes(server, n)
    for i in range(3):
        park(server, n)
        server.put(n, b"Subject: more\r\n\r\nx\r\n")
        assert c.until(b"* %d EXISTS" % (2 + i))
    park(server, n)
    assert c.done()[-1] == b"i OK Idle completed."
    assert b"4" in c.command(b"f FETCH 4 (UID FLAGS)")[0]
    assert any(b"SEARCH 1 2 3 4" in line for line in c.command(b"g SEARCH ALL"))
    c.idle()
    park(server, n)
    assert c.done()[-1] == b"i OK Idle completed."
    c.command(b"o LOGOUT")


def test_what_others_changed_meanwhile_is_told(server):
    names = [server.put(3, b"Subject: %d\r\n\r\nx\r\n" % i) for i in range(6)]
    c = Idle(server, 3)
    c.command(b"t STORE 1:6 FLAGS (\\Seen)")
    c.idle()
    park(server, 3)
    other = server.imap(3)
    other.select()
    other.store("2", "+FLAGS", "(\\Deleted)")
    other.store("5", "+FLAGS", "(\\Flagged Junk)")
    other.expunge()
    server.put(3, b"Subject: new\r\n\r\nx\r\n")
    got = c.until(b"* 6 EXISTS")
    other.logout()
    assert b"* 2 EXPUNGE" in got
    got += c.done()
    text = b"\n".join(got)
    assert re.search(rb"FETCH \(UID 5 FLAGS \(.*Flagged.*Junk", text) or re.search(rb"FETCH \(UID 5 FLAGS \(.*Junk.*Flagged", text), text
    assert len(names) == 6
    uids = [int(re.search(rb"UID (\d+)", line)[1]) for line in c.command(b"u FETCH 1:* UID")[:-1]]
    assert uids == [1, 3, 4, 5, 6, 7]
    c.command(b"o LOGOUT")


def test_files_removed_and_renamed_by_other_programs_are_told(server):
    for i in range(3):
        server.put(4, b"Subject: %d\r\n\r\nx\r\n" % i)
    c = Idle(server, 4)
    c.idle()
    park(server, 4)
    cur = f"{server.maildir(4)}/cur"
    files = sorted(os.listdir(cur))
    os.rename(f"{cur}/{files[2]}", f"{cur}/{files[2].split(':')[0]}:2,F")
    assert b"Flagged" in c.until(b"* 3 FETCH")[-1]
    park(server, 4)
    os.unlink(f"{cur}/{files[0]}")
    c.until(b"* 1 EXPUNGE")
    c.done()
    c.command(b"o LOGOUT")


def test_several_sessions_of_a_user_wake_together_and_count(server):
    sessions = [Idle(server, 5), Idle(server, 5, tls=True), Idle(server, 5)]
    for c in sessions:
        c.idle()
    park(server, 5)
    server.put(5, b"Subject: for all\r\n\r\nx\r\n")
    for c in sessions:
        c.until(b"* 1 EXISTS")
    park(server, 5)
    with socket.create_connection(("127.0.0.1", server.imap_port), 60) as s:
        f = s.makefile("rb")
        f.readline()
        s.sendall(b'l LOGIN u5@read.test "%s"\r\n' % PASSWORD.encode())
        assert b"NO [LIMIT]" in f.readline()
    for c in sessions:
        c.done()
        c.command(b"o LOGOUT")


def test_a_client_that_goes_away_leaves_nothing(server):
    c = Idle(server, 6)
    c.idle()
    park(server, 6)
    c.f.close()
    c.s.close()
    server.wait_log(r"logout user=u6@read.test.*connection closed")
    park(server, 6)


def test_input_that_is_not_done_is_refused_and_the_session_goes_on(server):
    c = Idle(server, 7)
    c.idle()
    park(server, 7)
    c.s.sendall(b"x NOOP\r\n")
    assert c.until(b"i ")[-1].startswith(b"i BAD")
    c.command(b"y NOOP")
    c.idle()
    park(server, 7)
    c.s.sendall(b"DONE\r\nz NOOP\r\n")
    assert c.until(b"i ")[-1] == b"i OK Idle completed."
    c.until(b"z OK")


def is_removed(path):
    """What a session that looks at the folder meanwhile puts into it is removed by another try."""
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.exists(path)


def test_a_mailbox_that_was_removed_ends_the_session(server):
    c = Idle(server, 8)
    c.command(b"c CREATE other")
    c.command(b"s SELECT other")
    c.idle()
    park(server, 8)
    server.wait(lambda: is_removed(f"{server.maildir(8)}/.other"), 30, "the folder is removed", 0.01)
    assert c.until(b"* BYE")
    c = Idle(server, 8)
    c.command(b"c CREATE another")
    c.command(b"s SELECT another")
    c.idle()
    park(server, 8)
    os.rename(f"{server.maildir(8)}/.another", f"{server.maildir(8)}/.renamed")
    c.s.sendall(b"DONE\r\n")
    assert c.until(b"* BYE")


def test_utf8_and_a_saved_search_survive(server):
    for i in range(3):
        server.put(9, b"Subject: %d\r\n\r\nx\r\n" % i)
    c = Idle(server, 9)
    c.command(b"e ENABLE IMAP4rev2")
    c.command(b"s SEARCH RETURN (SAVE) 2:3")
    c.idle()
    park(server, 9)
    c.done()
    assert [line.split()[1] for line in c.command(b"f FETCH $ UID")[:-1]] == [b"2", b"3"]
    assert b"ESEARCH" in c.command(b"g SEARCH ALL")[0]


def test_a_killed_process_ends_its_sessions_and_no_parked_ones(server):
    a, b = Idle(server, 10), Idle(server, 10)
    pid, = processes(server, 10)
    assert sockets(pid) == 2
    a.idle()
    server.wait(lambda: sockets(pid) == 1, 60, "one is parked, the other keeps the process", 0.1)
    os.kill(pid, signal.SIGKILL)
    assert b.f.readline() == b""
    server.wait(lambda: not os.path.exists(f"/proc/{pid}"), 60, "it is gone: what it takes while it dies ends with it", 0.02)
    server.put(10, b"Subject: x\r\n\r\nx\r\n")
    a.until(b"* 1 EXISTS")
    a.done()


def test_parked_sessions_survive_a_reload_and_are_told_of_a_stop():
    with Reading(users=1, settings={"imap_park_time": "1s"}) as mail:
        c = Idle(mail, 1)
        c.idle()
        park(mail, 1)
        mail.reload()
        mail.put(1, b"Subject: x\r\n\r\nx\r\n")
        c.until(b"* 1 EXISTS")
        park(mail, 1)
        mail.stop()
        assert c.until(b"* BYE")
        assert c.f.readline() == b""
