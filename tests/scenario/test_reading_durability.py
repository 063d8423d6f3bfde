# SPDX-License-Identifier: Apache-2.0
"""What IMAP and POP3 acknowledged outlives kills, power cuts, full disks and a damaged index: no message and no flag is lost, UIDs and
UIDVALIDITY stay, no UID ever names another message. READING_CYCLES=100 makes a long run of it (-s shows what was done). What is written is
bounded by counts, not by time. READING_KEEP=DIRECTORY: what the last power cut of each kind left of the mailboxes, before anything opened them."""
import os
import poplib
import random
import re
import shutil
import threading
import time

import pytest
from harness import disk as disks
from harness import inject
from harness.disk import Disk
from reading import PASSWORD, Reading
from reading_account import BROKEN, Account, Imap, text_of

CYCLES = int(os.environ.get("READING_CYCLES", "2"))
SEED = os.environ.get("READING_SEED", "1")
KEEP = os.environ.get("READING_KEEP")
KILLS = 3   # in a cycle
KINDS = ("maildir", "mbox")
FAULTS = [("write,pwrite64,pwritev,writev", ("ENOSPC", "EIO", "EDQUOT")), ("openat", ("ENOSPC", "EMFILE", "EIO")), ("fsync,fdatasync", ("EIO", "ENOSPC")),
          ("rename,renameat,renameat2,unlink,unlinkat,linkat,mkdir,mkdirat", ("EIO", "ENOSPC", "EROFS")),
          ("ftruncate,fallocate,futimens,utimensat,fsetxattr,fremovexattr", ("EIO", "ENOSPC")), ("read,pread64,getdents64,fstat,newfstatat", ("EIO", "ENOMEM"))]


class Box(Reading):
    """One user with a Maildir or an mbox."""

    def __init__(self, kind="maildir", settings=None, **more):
        self.kind = kind
        own = {"service_throttle_time": "1s", "imap_park_time": "1s"}
        if kind == "mbox":
            own["virtual_mailbox_maps"] = "inline:{{u1@read.test = m1}}"
        super().__init__(users=1, settings=own | (settings or {}), **more)

    def mbox(self, n):
        return f"{self.mail_base}/m{n}"

    def users_processes(self, program="imap-session"):
        """(the processes of mail users, the others of that program)"""
        found = ([], [])
        for p in self.processes(program):
            try:
                found[os.stat(f"/proc/{p.pid}").st_uid != 12000].append(p)
            except FileNotFoundError:
                pass
        return found

    def strike(self, dice, program="imap-session"):
        """SIGKILL somewhere. What was hit."""
        victim = dice.choice(["session"] * 6 + ["starter", "front", "auth", "all"])
        if victim == "all":
            return victim if self.kill_sessions(program) else None
        if victim in ("front", "auth"):
            return victim if self.kill({"front": {"imap-session": "imapd", "pop3-session": "pop3d"}[program]}.get(victim, victim)) else None
        found = self.users_processes(program)[victim == "starter"]
        return victim if found and kill(dice.choice(found)) else None

    def kill_sessions(self, program):
        return [p for part in self.users_processes(program) for p in part if kill(p)]


def kill(process):
    try:
        os.kill(process.pid, 9)
        return True
    except ProcessLookupError:
        return False


@pytest.fixture
def make_box(target):
    made = []

    def make(*args, **more):
        made.append(Box(*args, **more))
        return made[-1]
    yield make
    for mail in made:
        mail.close()


# ---- kills ----

@pytest.mark.parametrize("kind", KINDS)
def test_kills_lose_no_message_no_flag_and_no_uid(make_box, kind):
    dice, hits = random.Random(f"{SEED} {kind}"), {}
    mail = make_box(kind).start()
    account = Account(mail, dice)
    account.prepare()
    for _ in range(CYCLES):
        with account.load():
            for _ in range(KILLS):
                time.sleep(0.02 + dice.random() * 0.5)
                hit = mail.strike(dice)
                hits[hit] = hits.get(hit, 0) + 1
        account.check()
    print(f"\n{kind}: kills {hits}; {account.summary()} {account.refusals or ''}")
    assert not mail.complaints() and account.counts.get("append", 0) > 3


# ---- power cuts ----

@pytest.fixture
def make_disk(tmp_path):
    if disks.unavailable():
        pytest.skip(disks.unavailable())
    made = []

    def make(mail, size_mib=96):
        made.append((mail, Disk(f"{tmp_path}/store{len(made)}.img", size_mib=size_mib)))
        made[-1][1].mount(mail.mail_base)
        os.chown(mail.mail_base, 12000, 12000)
        made[-1][1].sync()
        return made[-1][1]
    yield make
    for mail, disk in made:
        mail.kill_all()
        disk.remove()


def cut(mail, disk, account, dice):
    """The power goes in the midst of the work."""
    with account.load():
        time.sleep(0.05 + dice.random() * 1.2)
        account.is_off = True
        disk.cut()
        mail.kill_all()
    disk.mount_again()
    if KEEP:
        shutil.rmtree(f"{KEEP}/{mail.kind}", ignore_errors=True)
        shutil.copytree(mail.mail_base, f"{KEEP}/{mail.kind}", symlinks=True)  # with extended attributes
    # The machine was not started anew, which would make lock files stale that hold no text any more.
    for path, _, names in os.walk(mail.mail_base):
        for name in names:
            if name.endswith(".lock"):
                os.unlink(f"{path}/{name}")
    mail.start(seconds=60)


@pytest.mark.parametrize("kind", KINDS)
def test_power_cuts_lose_no_message_no_flag_and_no_uid(make_box, make_disk, kind):
    dice = random.Random(f"{SEED} {kind}")
    mail = make_box(kind)
    disk = make_disk(mail)
    mail.start()
    account = Account(mail, dice)
    account.prepare()
    for _ in range(CYCLES):
        cut(mail, disk, account, dice)
        account.check()
    print(f"\n{kind}: {CYCLES} power cuts; {account.summary()} {account.refusals or ''}")
    assert account.counts.get("append", 0) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_account_notices_syncs_that_are_lies(make_box, make_disk, kind):
    """The test of these tests."""
    if inject.unavailable():
        pytest.skip(inject.unavailable())
    dice = random.Random(f"{SEED} {kind}")
    mail = make_box(kind, wrap=["imap-session"])
    disk = make_disk(mail)
    inject.arm(mail, "imap-session", inject.lie())
    mail.start()
    account = Account(mail, dice)
    account.prepare()
    for _ in range(10):
        cut(mail, disk, account, dice)
        try:
            account.check()
        except AssertionError as e:
            print(f"\n{kind}: noticed: {str(e)[:200]}")
            return
    pytest.fail("nobody noticed")


# ---- disks that are full, or fail ----

@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_loses_nothing(make_box, make_disk, kind):
    dice = random.Random(f"{SEED} {kind}")
    mail = make_box(kind)
    disk = make_disk(mail, 24)
    mail.start()
    account = Account(mail, dice)
    account.prepare()
    work(account)
    for cycle in range(CYCLES):
        with account.load():
            disk.fill(dice.choice([0, 0, 4096, 20000, 100000]) if cycle else 0)
            time.sleep(0.4 + dice.random())
            if dice.random() < 0.5:
                mail.strike(dice)
            time.sleep(0.2)
            if dice.random() < 0.5:
                disk.relieve()
        disk.relieve()
        account.check()
        work(account, 20)
    print(f"\n{kind}: {CYCLES} times a full disk; {account.summary()} {account.refusals}")
    assert account.refusals and account.counts.get("append", 0) > 3


def with_fault(mail, account, fault):
    """Work in processes that have it, then a look in processes that have not."""
    inject.arm(mail, "imap-session", fault)
    mail.kill_sessions("imap-session")
    with account.load(250):
        account.mail.wait(lambda: account.budget <= 0 or account.errors, 60, "the work is done") if "SHORT" in fault else time.sleep(2.5)
    inject.disarm(mail, "imap-session")
    mail.kill_sessions("imap-session")


@pytest.mark.parametrize("kind", KINDS)
def test_failing_system_calls_lose_nothing(make_box, kind):
    if inject.unavailable():
        pytest.skip(inject.unavailable())
    dice = random.Random(f"{SEED} {kind}")
    mail = make_box(kind, wrap=["imap-session"]).start()
    account = Account(mail, dice, workers=2)
    account.prepare()
    work(account)
    for n in range(CYCLES):
        calls, errors = FAULTS[(n + int(SEED)) % len(FAULTS)]
        fault = inject.fail(calls, dice.choice(errors), f"{dice.choice((5, 20, 50, 120))}+{dice.choice((3, 7, 31))}")
        with_fault(mail, account, fault)
        try:
            account.check()
        except AssertionError as e:
            raise AssertionError(f"{fault}: {e}") from e
    print(f"\n{kind}: {CYCLES} faults; {account.summary()} {account.refusals or ''}")


@pytest.mark.parametrize("kind", KINDS)
def test_short_writes_change_nothing(make_box, kind):
    dice = random.Random(f"{SEED} {kind}")
    mail = make_box(kind, wrap=["imap-session"]).start()
    account = Account(mail, dice, workers=2)
    account.prepare()
    for _ in range(max(1, CYCLES // 2)):
        with_fault(mail, account, inject.short_writes(mail, 0.4, dice.randrange(1 << 30)))
        account.check()
    assert account.counts.get("append", 0) > 3 and not account.refusals, account.refusals


# ---- POP3 ----

class Popper:
    """Messages that one session after the other removes."""

    def __init__(self, mail, dice):
        self.mail, self.dice, self.serial, self.uidls, self.quits, self.cut_off = mail, dice, 0, {}, 0, 0
        self.sure, self.doubt = set(), set()

    def deliver(self, count):
        for _ in range(count):
            self.serial += 1
            name = f"m{self.serial}"
            text = f"Message-ID: <{name}@t.test>\r\n\r\n{name} {'z' * 40}\r\n".encode()
            if self.mail.kind == "maildir":
                self.mail.put(1, text)
            else:
                with open(self.mail.mbox(1), "ab") as f:
                    f.write(b"From a@t.test  Tue Mar  3 10:11:12 2026\n" + text.replace(b"\r\n", b"\n") + b"\n")
                if os.geteuid() == 0:
                    os.chown(self.mail.mbox(1), 12000, 12000)
            self.sure.add(name)

    def open(self):
        c = poplib.POP3("127.0.0.1", self.mail.pop3_port, timeout=60)
        try:
            c.user("u1@read.test")
            c.pass_(PASSWORD)
        except BaseException:
            c.close()
            raise
        return c

    def names(self, c):
        """{message: its number}; whole, and under the UIDL that it always had."""
        found = {}
        for line in c.uidl()[1]:
            number, uidl = line.decode().split()
            text = b"\n".join(c.retr(int(number))[1]).decode()
            name = text.partition("<")[2].partition("@")[0]
            assert text.endswith(f"{name} {'z' * 40}"), f"not whole: {text}"
            assert name not in found and self.uidls.setdefault(name, uidl) == uidl and list(self.uidls.values()).count(uidl) == 1
            found[name] = int(number)
        return found

    def session(self):
        """Some DELE; half of the sessions end with QUIT. What is cut off before that removes nothing."""
        doomed, quitting = set(), False
        try:
            c = self.open()
            for name, number in self.names(c).items():
                if self.dice.random() < 0.4:
                    c.dele(number)
                    doomed.add(name)
            if self.dice.random() < 0.6:
                quitting = True
                c.quit()
                self.sure -= doomed
                self.quits += 1
            else:
                c.close()
        except (poplib.error_proto, *BROKEN):
            self.cut_off += 1
            if quitting:
                self.sure -= doomed
                self.doubt |= doomed

    def check(self):
        def try_it():
            try:
                c = self.open()
                found = set(self.names(c))
                c.close()
                return [found]
            except (poplib.error_proto, *BROKEN):
                return None
        found = self.mail.wait(try_it, 60, "a login works again", 0.2)[0]
        assert not self.sure - found, f"lost: {self.sure - found}"
        assert not found - self.sure - self.doubt, f"came back: {found - self.sure - self.doubt}"
        self.sure, self.doubt = found, set()


@pytest.mark.parametrize("kind", KINDS)
def test_pop3_removes_what_quit_acknowledged_and_nothing_else(make_box, kind):
    dice, hits = random.Random(f"{SEED} {kind}"), {}
    mail = make_box(kind).start()
    popper = Popper(mail, dice)
    for _ in range(CYCLES * 4):
        popper.deliver(12 - len(popper.sure))
        end = threading.Timer(dice.random() * 0.25, lambda: hits.update({len(hits): mail.strike(dice, "pop3-session")}))
        end.start()
        popper.session()
        end.join()
        popper.check()
    print(f"\n{kind}: kills {sorted(map(str, hits.values()))}; {popper.quits} times QUIT, {popper.cut_off} cut off, {popper.serial} messages")
    assert popper.quits and not mail.complaints()


# ---- names that come back ----

@pytest.mark.parametrize("kind", KINDS)
def test_a_mailbox_made_anew_repeats_no_uid(make_box, kind):
    mail = make_box(kind).start()
    c, seen = Imap(mail.imap_port, "u1@read.test"), {}
    for n in range(4):
        assert c.command("CREATE Box")[0] == "OK"
        answer = c.command("APPEND Box", text_of(f"0-{n}"))[1]
        code = re.search(r"APPENDUID (\d+ \d+)", answer)[1]
        assert seen.setdefault(code, n) == n, "the same UID under the same UIDVALIDITY stands for another message"
        assert c.command("DELETE Box" if n % 2 else f"RENAME Box Old{n}")[0] == "OK"
    c.close()


# ---- a damaged index ----

def index_files(mail):
    """Whatever lies in the mailbox and is neither mail nor one of the files that Dovecot documents."""
    return [os.path.join(path, name) for path, _, names in os.walk(mail.maildir(1)) if os.path.basename(path) not in ("cur", "new", "tmp")
            for name in names if not name.startswith("dovecot-") and name not in ("subscriptions", "maildirfolder", "maildirsize") and "lock" not in name]


@pytest.mark.parametrize("damage", ["deleted", "truncated", "flipped", "emptied"])
def test_a_damaged_index_changes_nothing(make_box, damage):
    dice = random.Random(f"{SEED} {damage}")
    mail = make_box().start()
    account = Account(mail, dice)
    account.prepare()
    for _ in range(max(1, CYCLES // 2)):
        work(account)
        mail.stop()
        spoil(mail, damage, dice)
        mail.start()
        account.check()
    work(account)
    assert account.counts.get("append", 0) > 3


def work(account, commands=120):
    with account.load(commands):
        account.mail.wait(lambda: account.budget <= 0 or account.errors, 60, "the work is done")
    account.check()


def spoil(mail, damage, dice):
    files = index_files(mail)
    assert files
    for path in files:
        size = os.path.getsize(path)
        if damage == "deleted":
            os.unlink(path)
        elif damage == "flipped":
            with open(path, "r+b") as f:
                for at in dice.sample(range(size), min(size, 64)):
                    f.seek(at)
                    byte = f.read(1)[0]
                    f.seek(at)
                    f.write(bytes([byte ^ 1 << dice.randrange(8)]))
        else:
            os.truncate(path, size // 2 if damage == "truncated" else 0)
