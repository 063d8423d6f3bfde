# SPDX-License-Identifier: Apache-2.0
"""The programs that people read an mbox with, while mail is delivered into it: each side waits for the other's locks."""
import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
import time

import pytest

from harness import Client, send

USER = "games"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="readers run as another user: needs root")


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    return pytest.mark.skipif(bool(missing), reason=f"not here: {', '.join(missing)}")


@pytest.fixture
def place():
    """A mail spool as they usually are; the reader's home is beside it."""
    top = tempfile.mkdtemp(prefix="locks-")
    os.chmod(top, 0o755)
    os.mkdir(f"{top}/spool")
    os.chmod(f"{top}/spool", 0o1777)
    os.mkdir(f"{top}/home", 0o700)
    shutil.chown(f"{top}/home", USER, USER)
    yield top
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def mail(place, make_mail):
    return make_mail(settings={"mydestination": "local.test", "mail_spool_directory": f"{place}/spool", "alias_maps": "inline:{none=none}",
                               "local_recipient_maps": "", "biff": "no", "forward_path": ""})


class Reader:
    """Moves messages that it finds to another file, which makes it rewrite the mailbox."""

    def __init__(self, place, first=0):
        """first: how many of them; 0: all."""
        self.place, self.box, self.other, self.first = place, f"{place}/spool/{USER}", f"{place}/home/moved", first

    def run(self, *around):
        """Once; around: a program to run it with."""
        env = {"HOME": f"{self.place}/home", "PATH": "/usr/bin:/bin", "TERM": "vt100", "MAIL": self.box, "LC_ALL": "C"}
        return subprocess.Popen(self.argv(list(around)), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env,
                                user=USER, group=USER, extra_groups=[], cwd=f"{self.place}/home")


class Mailx(Reader):
    def argv(self, around):
        return [*around, "/usr/bin/bsd-mailx", "-N"]

    def run(self, *around):
        p = super().run(*around)
        which = " ".join(map(str, range(1, self.first + 1))) or "*"
        with contextlib.suppress(BrokenPipeError):  # an empty mailbox ends it at once
            p.stdin.write(f"save {which} {self.other}\nquit\n".encode())
            p.stdin.close()
        return p


class Mutt(Reader):
    def argv(self, around):
        settings = "set delete=yes quit=yes move=no wait_key=no confirmappend=no confirmcreate=no mark_old=no mbox_type=mbox mail_check=1"
        which = f"~m -{self.first}" if self.first else "~A"
        keys = f"<tag-pattern>{which}<enter><tag-prefix><save-message>{self.other}<enter><sync-mailbox><quit>"
        command = f"mutt -z -n -F /dev/null -f {self.box} -e \"{settings}; push '{keys}'\""
        return ["/usr/bin/script", "-qec", " ".join([*around, command]), "/dev/null"]

    def run(self, *around):
        p = super().run(*around)
        p.stdin.close()
        return p


def finish(p):
    try:
        assert p.wait(40) is not None
    finally:
        p.kill()


def messages(path):
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        return re.split(rb"(?m)^From .*\n", f.read())[1:]


def numbers(texts):
    """Which messages of ours these are; each has to be whole."""
    found = []
    for text in texts:
        begin, end = re.search(rb"(?m)^begin (\d+)$", text), re.search(rb"(?m)^end (\d+)\n\n*\Z", text)
        assert begin and end and begin.group(1) == end.group(1), text[-300:]
        found.append(int(end.group(1)))
    return found


def body(n, size=0):
    return f"From: a@src.test\r\nSubject: m{n}\r\n\r\nbegin {n}\r\n".encode() + (b"z" * 60 + b"\r\n") * size + f"end {n}\r\n".encode()


READERS = [pytest.param(Mailx, marks=needs("bsd-mailx")), pytest.param(Mutt, marks=needs("mutt", "script"))]


@pytest.mark.parametrize("kind", READERS)
@needs("strace")
def test_delivery_waits_while_a_reader_rewrites_the_mailbox(kind, place, mail):
    """Each change that the reader makes to the mailbox takes a while: mail that comes meanwhile is stored when it is done, and not before."""
    reader = kind(place, first=2)
    for n in range(3):
        assert send("a@src.test", [f"{USER}@local.test"], body(n, 50), port=mail.port).code == 250
        mail.wait_log(r"status=sent \(delivered to mailbox\)", count=n + 1)
    p = reader.run("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=ftruncate,utimensat,unlink", "-e", "inject=ftruncate,utimensat,unlink:delay_enter=400000")
    try:
        deliver_meanwhile(mail, f"{reader.box}.lock")
        finish(p)
    finally:
        p.kill()
    mail.wait_log(r"status=sent \(delivered to mailbox\)", seconds=40, count=4)
    assert sorted(numbers(messages(reader.other)) + numbers(messages(reader.box))) == [0, 1, 2, 3]
    assert {2, 3} <= set(numbers(messages(reader.box))) and not mail.complaints()


def deliver_meanwhile(mail, lock):
    """A fourth message, that must not be stored while the lock is there."""
    mail.wait(lambda: os.path.exists(lock), 30, "the reader locks the mailbox", step=0.002)
    assert send("a@src.test", [f"{USER}@local.test"], body(3), port=mail.port).code == 250
    waited = 0
    while os.path.exists(lock):
        sent = len(mail.log(r"status=sent"))
        assert sent == 3 or not os.path.exists(lock), "delivered under the reader's lock"
        waited += 1
        time.sleep(0.02)
    assert waited, "the reader was too quick"


@pytest.mark.parametrize("kind", READERS)
def test_deliveries_and_a_reader_at_once(kind, place, mail):
    """The reader moves away what it finds, again and again, while mail comes in: each message is in one of the two places, whole, once."""
    reader, count, done = kind(place), 40, threading.Event()
    shutil.copy("/dev/null", reader.box)
    shutil.chown(reader.box, USER, USER)
    os.chmod(reader.box, 0o600)

    def read():
        while not done.is_set():
            finish(reader.run())
            time.sleep(0.01)
    thread = threading.Thread(target=read)
    thread.start()
    try:
        with Client(mail.port) as client:
            client.ehlo()
            for n in range(count):
                assert client.send("a@src.test", [f"{USER}@local.test"], body(n, (n % 4) ** 3 * 40)).code == 250
                time.sleep(0.02)
        mail.wait_log(r"status=sent \(delivered to mailbox\)", seconds=60, count=count)
    finally:
        done.set()
        thread.join()
    moved, left = numbers(messages(reader.other)), numbers(messages(reader.box))
    assert sorted(moved + left) == list(range(count)), (moved, left)
    assert moved and pwd.getpwuid(os.stat(reader.other).st_uid).pw_name == USER
    assert not mail.complaints()
