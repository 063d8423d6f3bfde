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


@pytest.fixture(scope="module")
def told():
    with Reading(users=7, settings={"imap_park_time": "1s"}) as mail:
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


def new_files(server, n):
    return sorted(name for name in os.listdir(f"{server.maildir(n)}/new"))


def started(server, n):
    """Counts processes of a user from now on: those that were seen."""
    seen = set()

    def look():
        seen.update(processes(server, n))
        return seen
    return look


def test_new_mail_is_told_without_a_process(told):
    told.put(1, b"Subject: first\r\n\r\nx\r\n")
    c = Idle(told, 1)
    c.idle()
    park(told, 1)
    seen = started(told, 1)
    for i in range(5):
        told.put(1, b"Subject: more\r\n\r\nx\r\n")
        assert c.until(b"* %d RECENT" % (2 + i))[-2] == b"* %d EXISTS" % (2 + i)
        assert not seen()
    assert b"RECENT" not in b"".join(c.done())
    assert [line.split()[4] for line in c.command(b"f FETCH 1:* (UID)")[:-1]] == [b"%d)" % n for n in range(1, 7)]
    assert any(b"SEARCH 1 2 3 4 5 6" in line for line in c.command(b"g SEARCH RECENT"))
    told.put(1, b"Subject: last\r\n\r\nx\r\n")
    assert b"* 7 EXISTS" in c.command(b"n NOOP")
    c.command(b"o LOGOUT")


def test_what_was_told_and_has_gone_again_is_expunged(told):
    for i in range(3):
        told.put(2, b"Subject: %d\r\n\r\nx\r\n" % i, name=f"{i}.old")
    c = Idle(told, 2)
    c.idle()
    park(told, 2)
    for i in range(4):
        told.put(2, b"Subject: new %d\r\n\r\nx\r\n" % i, name=f"{1000 + i}.new")
    c.until(b"* 7 EXISTS")
    for name in ("1000.new", "1002.new"):
        os.unlink(f"{told.maildir(2)}/new/{name}")
    assert {b"* 7 EXPUNGE", b"* 6 EXPUNGE"} <= set(c.until(b"* 6 EXPUNGE"))
    c.done()
    got = c.command(b"f FETCH 4:5 (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    assert [line for line in got if line.startswith(b"Subject")] == [b"Subject: new 1", b"Subject: new 3"]
    assert any(b"SEARCH 1 2 3 4 5" in line for line in c.command(b"g SEARCH ALL"))
    c.command(b"o LOGOUT")


def test_an_old_message_that_goes_while_a_new_one_is_told_keeps_the_numbers_right(told):
    for i in range(3):
        told.put(3, b"Subject: %d\r\n\r\nx\r\n" % i)
    c = Idle(told, 3)
    c.idle()
    park(told, 3)
    told.put(3, b"Subject: new\r\n\r\nx\r\n")
    c.until(b"* 4 EXISTS")
    cur = f"{told.maildir(3)}/cur"
    os.unlink(f"{cur}/{sorted(os.listdir(cur))[1]}")
    c.until(b"* 2 EXPUNGE")
    told.put(3, b"Subject: newer\r\n\r\nx\r\n")
    c.until(b"* 4 EXISTS")
    c.done()
    assert [line.split()[4] for line in c.command(b"f FETCH 1:* (UID)")[:-1]] == [b"1)", b"3)", b"4)", b"5)"]
    c.command(b"o LOGOUT")


def test_files_that_are_no_messages_are_not_told(told):
    c = Idle(told, 4)
    c.idle()
    seen = started(told, 4)
    for i, make in enumerate((lambda path: open(f"{path}/.hidden", "w", encoding="ascii").close(), lambda path: os.mkdir(f"{path}/1.directory"))):
        park(told, 4)
        seen().clear()
        make(f"{told.maildir(4)}/new")
        told.wait(seen, 30, "a process that looks", 0.01)
        park(told, 4)
        told.put(4, b"Subject: one\r\n\r\nx\r\n")
        assert c.until(b"* %d RECENT" % 0)[-2] == b"* %d EXISTS" % (i + 1)
    assert not any(b"EXPUNGE" in line for line in c.done())
    c.command(b"o LOGOUT")


@pytest.mark.parametrize("enable", [b"QRESYNC", b"UIDONLY"])
def test_clients_who_want_uids_of_what_is_expunged_are_told_by_a_process(told, enable):
    n = 5 if enable == b"QRESYNC" else 6
    c = Idle(told, n)
    c.command(b"e ENABLE " + enable)
    c.command(b"s SELECT INBOX")
    c.idle()
    park(told, n)
    name = told.put(n, b"Subject: new\r\n\r\nx\r\n")
    c.until(b"* 1 EXISTS")
    park(told, n)
    os.unlink(f"{told.maildir(n)}/new/{name}")
    assert c.until(b"* VANISHED")[-1] == b"* VANISHED 1"
    c.done()
    c.command(b"o LOGOUT")


def test_very_many_new_messages_are_told_at_last_by_a_process(told):
    c = Idle(told, 7)
    c.idle()
    park(told, 7)
    seen = started(told, 7)
    for i in range(150):
        told.put(7, b"Subject: %d\r\n\r\nx\r\n" % i)
    told.wait(lambda: seen(), 30, "a process of u7", 0.01)
    c.until(b"* 150 EXISTS")
    c.done()
    assert c.command(b"f FETCH 150 (UID)")[0] == b"* 150 FETCH (UID 150)"
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


def test_a_mailbox_that_is_removed_ends_a_session_that_is_not_parked(server):
    c = Idle(server, 8)
    c.command(b"c CREATE third")
    c.command(b"s SELECT third")
    c.idle()
    server.wait(lambda: is_removed(f"{server.maildir(8)}/.third"), 30, "the folder is removed", 0.01)
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
