# SPDX-License-Identifier: Apache-2.0
"""CONDSTORE and QRESYNC (RFC 7162): what a client is told that comes back, while others change the mailbox; and an index that is
deleted or damaged."""
import os
import re
import time

import pytest
from reading import Reading
from test_imap import Raw


@pytest.fixture(scope="module")
def server():
    with Reading(users=8, settings={"imap_park_time": "0"}) as mail:
        yield mail


class Client(Raw):
    def __init__(self, server, n):
        super().__init__(server.imap_port)
        self.login(n)
        self.serial = 0

    def cmd(self, line, status=b"OK"):
        """The lines of the answer, joined; the last must be of that status."""
        self.serial += 1
        tag = b"c%d" % self.serial
        self.send(tag + b" " + line.encode() + b"\r\n")
        lines = self.until(tag)
        assert lines[-1].startswith(tag + b" " + status), lines
        return b"".join(lines).decode()

    def close(self):
        self.cmd("LOGOUT")
        self.s.close()


def highest(text):
    return int(re.search(r"HIGHESTMODSEQ (\d+)", text)[1])


def modseqs(text):
    """{uid: modseq} of FETCH responses."""
    return {int(uid): int(m) for uid, m in re.findall(r"FETCH \(UID (\d+) [^\r]*?MODSEQ \((\d+)\)", text)}


def fill(server, n, count=3):
    for i in range(count):
        server.put(n, b"Subject: %d\r\n\r\nbody\r\n" % i)


def test_changes_grow_and_are_fetched_since(server):
    fill(server, 1)
    c = Client(server, 1)
    first = highest(c.cmd("SELECT INBOX"))
    assert all(0 < m <= first for m in modseqs(c.cmd("UID FETCH 1:* (FLAGS MODSEQ)")).values())
    told = c.cmd(r"UID STORE 2 +FLAGS (\Flagged)")
    second = modseqs(told)[2]
    assert second > first and r"\Flagged" in told
    silent = c.cmd(r"UID STORE 3 +FLAGS.SILENT (\Answered $Done)")
    assert modseqs(silent)[3] > second and "FLAGS" not in silent.split("\r\n")[0]
    changed = modseqs(c.cmd(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {first})"))
    assert set(changed) == {2, 3}
    assert highest(c.cmd("STATUS INBOX (HIGHESTMODSEQ)")) == max(changed.values())
    found = c.cmd(f'SEARCH MODSEQ "/flags/\\\\Seen" all {second}')
    assert re.search(rf"\* SEARCH 2 3 \(MODSEQ {changed[3]}\)", found)
    assert "MODSEQ" not in c.cmd("SEARCH ALL").split("\r\n")[0]
    assert f"COUNT 2 MODSEQ {changed[3]}" in c.cmd(f"UID SEARCH RETURN (COUNT) MODSEQ {second}")
    assert f"(MODSEQ {changed[3]})" in c.cmd(f"UID SORT (ARRIVAL) UTF-8 MODSEQ {second}")
    c.close()
    c = Client(server, 1)
    assert highest(c.cmd("EXAMINE INBOX (CONDSTORE)")) == changed[3]
    c.close()


def test_store_unchangedsince(server):
    fill(server, 2)
    c, other = Client(server, 2), Client(server, 2)
    start = highest(c.cmd("SELECT INBOX"))
    other.cmd("SELECT INBOX")
    other.cmd(r"UID STORE 2 +FLAGS (\Seen)")
    answer = c.cmd(rf"UID STORE 1:3 (UNCHANGEDSINCE {start}) +FLAGS.SILENT (\Deleted)")
    assert "OK [MODIFIED 2]" in answer and {1, 3} <= set(modseqs(answer))
    flags = c.cmd("FETCH 1:3 FLAGS")
    assert r"2 FETCH (FLAGS (\Seen" in flags and flags.count(r"\Deleted") == 2
    assert "OK [MODIFIED 1:3]" in c.cmd(r"STORE 1:3 (UNCHANGEDSINCE 0) -FLAGS (\Deleted)")
    c.cmd(r"STORE 1 (UNCHANGEDSINCE x) -FLAGS (\Deleted)", b"BAD")
    c.close()
    other.close()


def test_another_program_changes_flags(server):
    name = server.put(3, b"Subject: a\r\n\r\nb\r\n", flags="")
    fill(server, 3, 2)
    c = Client(server, 3)
    start = highest(c.cmd("SELECT INBOX (CONDSTORE)"))
    cur = f"{server.maildir(3)}/cur/"
    time.sleep(0.05)
    os.rename(f"{cur}{name}:2,", f"{cur}{name}:2,F")
    told = c.cmd("NOOP")
    uid, seq = modseqs(told).popitem()
    assert r"\Flagged" in told and seq > start
    os.rename(f"{cur}{name}:2,F", f"{cur}{name}:2,FS")
    c.close()
    c = Client(server, 3)  # it saw the change when it opened the mailbox
    assert highest(c.cmd("SELECT INBOX")) > seq
    assert list(modseqs(c.cmd(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {seq})"))) == [uid]
    c.close()


def test_qresync(server):
    fill(server, 4, 6)
    c, other = Client(server, 4), Client(server, 4)
    c.cmd("SELECT INBOX (QRESYNC (1 1))", b"BAD")
    assert "ENABLED CONDSTORE QRESYNC" in c.cmd("ENABLE CONDSTORE QRESYNC") + other.cmd("ENABLE QRESYNC")
    opened = c.cmd("SELECT INBOX")
    validity, start = int(re.search(r"UIDVALIDITY (\d+)", opened)[1]), highest(opened)
    other.cmd("SELECT INBOX")
    other.cmd(r"UID STORE 2,4:5 +FLAGS.SILENT (\Deleted)")
    gone = other.cmd("EXPUNGE")
    assert "* VANISHED 2,4:5\r\n" in gone and "EXPUNGE\r\n" not in gone and highest(gone.split("\r\n")[-2]) > start
    assert "* VANISHED 2,4:5\r\n" in c.cmd("NOOP")
    other.cmd(r"UID STORE 6 +FLAGS (\Seen)")
    c.cmd("UNSELECT")
    back = c.cmd(f"SELECT INBOX (QRESYNC ({validity} {start}))")
    assert "* VANISHED (EARLIER) 2,4:5\r\n" in back and list(modseqs(back)) == [6] and r"\Seen" in back
    back = c.cmd(f"SELECT INBOX (QRESYNC ({validity} {start} 1:4 (1,2 1,2)))")
    assert "* VANISHED (EARLIER) 2,4\r\n" in back and not modseqs(back)
    assert "VANISHED" not in c.cmd(f"SELECT INBOX (QRESYNC ({validity + 1} {start}))")
    assert "* VANISHED (EARLIER) 4:5\r\n" in c.cmd(f"UID FETCH 3:6 (FLAGS) (CHANGEDSINCE {start} VANISHED)")
    assert "* VANISHED (EARLIER) 2,4:5\r\n" in c.cmd(f"SELECT INBOX (QRESYNC ({validity} 1))")  # before all that is known
    c.cmd("UID FETCH 1:* (FLAGS) (VANISHED)", b"BAD")
    c.close()
    other.close()


def wait_closed(server, n):
    """Until the user's process has ended and left its index clean."""
    def is_clean():
        with open(f"{server.maildir(n)}/postern.index/lock") as f:
            return f.read(1) == "c"
    server.wait(is_clean, 30, "the index is closed", 0.1)


def spoil(path, how):
    if how == "deleted":
        os.unlink(path)
    elif how == "cut":
        os.truncate(path, os.path.getsize(path) // 2)
    else:
        with open(path, "r+b") as f:
            for at in range(0, os.path.getsize(path), 1000):
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 0x41]))


@pytest.mark.parametrize("how", ["deleted", "cut", "flipped"])
def test_an_index_that_is_lost_costs_no_uid_and_no_number_comes_again(server, how):
    n = {"deleted": 5, "cut": 6, "flipped": 7}[how]
    fill(server, n, 5)
    c = Client(server, n)
    opened = c.cmd("SELECT INBOX (CONDSTORE)")
    c.cmd(r"STORE 1:2 +FLAGS (\Flagged)")
    c.cmd(r"STORE 5 +FLAGS (\Deleted)")
    c.cmd("EXPUNGE")
    before = c.cmd("FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)").split("\r\n")[:4]
    last = highest(c.cmd("STATUS INBOX (HIGHESTMODSEQ)"))
    c.close()
    wait_closed(server, n)
    spoil(f"{server.maildir(n)}/postern.index/data.mdb", how)
    c = Client(server, n)
    again = c.cmd("SELECT INBOX (CONDSTORE)")
    assert highest(again) > last and re.findall(r"UID\w+ \d+", again) == re.findall(r"UID\w+ \d+", opened)
    after = c.cmd("FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)").split("\r\n")[:4]
    assert [re.sub(r" ?\\Recent", "", x) for x in before] == [re.sub(r" ?\\Recent", "", x) for x in after]
    assert len(modseqs(c.cmd(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {last})"))) == 4
    c.close()


def test_the_index_is_no_mailbox(server):
    server.put(8, b"Subject: x\r\n\r\ny\r\n")
    c = Client(server, 8)
    assert os.path.isdir(f"{server.maildir(8)}/postern.index")
    assert c.cmd('LIST "" *').count("* LIST") == 1
    c.close()
