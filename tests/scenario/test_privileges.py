# SPDX-License-Identifier: Apache-2.0
"""What the running daemons may do (RELIABILITY G8 and section 6). One system that has delivered, deferred and bounced mail; then /proc tells."""
import os

import pytest
from harness import reply, send

# Who may write files; everybody else has RLIMIT_FSIZE 0.
WRITERS = {"cleanup", "qmgr", "postlogd", "master"}
ROOT = {"master"}


@pytest.fixture(scope="module")
def running(request, tmp_path_factory):
    from harness import Instance, Sink
    with Sink() as sink, Instance(relay=sink, name="privileges") as mail:
        sink.on("rcpt", reply("550 5.1.1 no"), match=b"never@")
        sink.on("rcpt", reply("450 4.2.0 later"), match=b"later@")
        for to in ("good@far.test", "never@far.test", "later@far.test"):
            assert send("a@src.test", [to], b"Subject: x\r\n\r\nhi\r\n", port=mail.port).code == 250
        sink.wait_count(2)  # the good one, and the bounce
        mail.wait_log(r"status=deferred")
        mail.command("postqueue", "-p")
        yield mail


def status(process):
    with open(f"/proc/{process.pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def limits(process):
    with open(f"/proc/{process.pid}/limits") as f:
        return {line[:26].strip(): line[26:].split()[0] for line in f}


def daemons(mail):
    found = [p for p in mail.processes() if p.name != "master"]
    assert {"smtpd", "cleanup", "qmgr", "smtp", "bounce", "trivial-rewrite", "showq", "postlogd"} <= {p.name for p in found}
    return found


def test_every_daemon_has_given_up_what_it_does_not_need(running):
    for p in daemons(running):
        s = status(p)
        assert (s["NoNewPrivs"], s["Seccomp"]) == ("1", "2"), p
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(s[name], 16) == 0 or (name == "CapBnd" and os.geteuid()), (p, name)
        if p.name not in ROOT:
            assert set(s["Uid"].split()) == {str(running.uid)}, p
            assert "0" not in s["Gid"].split() + s["Groups"].split(), p


def test_limits_of_resources(running):
    for p in daemons(running):
        own = limits(p)
        assert own["Max core file size"] == "0", p
        assert (own["Max file size"] == "0") == (p.name not in WRITERS), p


def test_no_daemon_can_be_looked_into(running):
    """Not dumpable: what /proc shows of it belongs to root, and no process of the same user may trace it."""
    if os.geteuid():
        pytest.skip("needs root: an ordinary user's daemons are its own")
    for p in daemons(running):
        assert os.stat(f"/proc/{p.pid}/mem").st_uid == 0, p


def test_no_daemon_holds_what_is_not_its_own(running):
    """Descriptors: sockets, pipes, its loop, /dev/null, master's lock (the next master waits until nobody holds it), and files of the
    queue for those that work on it; never main.cf or another's. smtpd may ask how much room is
    left for the queue, and can open nothing there."""
    for p in daemons(running):
        for fd in os.listdir(f"/proc/{p.pid}/fd"):
            try:
                target = os.readlink(f"/proc/{p.pid}/fd/{fd}")
            except FileNotFoundError:
                continue
            if target.startswith(("socket:", "pipe:", "anon_inode:")) or target in ("/dev/null", f"{running.data}/master.lock"):
                continue
            of_queue = target.startswith(f"{running.spool}/") or target == running.spool
            assert (of_queue and p.name in ("cleanup", "pickup", "qmgr", "smtp", "bounce", "showq", "flush", "master")) or (
                target == running.log_file and p.name == "postlogd") or (target == running.spool and p.name == "smtpd"), (p, fd, target)
