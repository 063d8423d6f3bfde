# SPDX-License-Identifier: Apache-2.0
"""Crash runs of submission (sendmail, postdrop, pickup) and of delivery to mailboxes (local, virtual, their processes as users)."""
import fcntl
import glob
import os
import pwd
import random
import re
import subprocess
import threading
import time

from crash.engine import Run
from harness import inject
from harness.disk import Disk
from harness.ledger import MARK, Ledger
from harness.load import Traffic

WRAPPED = ("local", "virtual")
CALLS = inject.CHANGING + ",fsetxattr,fremovexattr,flock,syncfs,setresuid,close"
MEMBERS = 12   # of the alias that goes to all: one process stores for many of them
MAILDIRS = 3


def unavailable():
    """Why there can be no LocalRun here; "" if there can."""
    return "mailboxes of several users need root" if os.geteuid() else ""


# ---- submission ----

class SubmitLoad(Traffic):
    """Scripts that call sendmail. A message counts as acknowledged when sendmail exits with 0."""

    def __init__(self, ledger, mail, *, sessions, seed, largest):
        super().__init__()
        self.ledger, self.mail, self.seed, self.largest, self.lock = ledger, mail, seed, largest, threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(sessions)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self._stopping.set()
        for thread in self.threads:
            thread.join(70)

    def _run(self, number):
        rng, sequence = random.Random(f"{self.seed} {self.ledger.run} {number}"), 0
        while not self._stopping.is_set():
            with self.lock:
                go = not self._paused.is_set() and not self.ledger.dark  # without power nobody calls sendmail
                self.busy += go
            if go:
                sequence += 1
                try:
                    self._submit(self.ledger.make(number, sequence, rng, self.largest))
                finally:
                    with self.lock:
                        self.busy -= 1
            time.sleep(.01)

    def _submit(self, message):
        argv = [f"{self.mail.commands}/sendmail", "-C", self.mail.etc, "-i", "-f", message.sender, "--", *message.recipients]
        try:
            # below the queue, so that kill_all() finds it
            done = subprocess.run(argv, input=message.content.replace(b"\r\n", b"\n"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60,
                                  cwd=self.mail.spool, env={"MAIL_CONFIG": self.mail.etc, "PATH": "/usr/bin:/bin"})
            status, text = done.returncode, done.stderr.decode("utf-8", "replace").strip()
        except (OSError, subprocess.SubprocessError) as e:
            status, text = 1, type(e).__name__
        if status == 0:
            self.ledger.acknowledged(message.id)
        else:
            self.note_refusal(message, f"{status} {text}")


class Submissions(Ledger):
    """A fault between cleanup's answer to pickup and the end of the file in maildrop, or its end on the disk, makes two of a message."""
    ON_DISK = 5  # seconds after which a file system writes down by itself what was removed

    def was_doubled(self, entry):
        when = entry.when - time.time() + time.monotonic()
        return entry.state != "acked" or any(begin <= when + self.ON_DISK and (end is None or end >= when - 1) for begin, end in self.faults)


class SubmitRun(Run):
    services = ["pickup unix n - n 5 1 pickup"]  # a postdrop that was killed right before the end has not told it of the file
    VICTIMS = ("postdrop", "pickup", "cleanup")
    KILLED = ("sendmail", "postdrop", "postdrop", "pickup", "pickup", "cleanup", "qmgr", "master")

    def make_ledger(self, path):
        return Submissions(path)

    def make_load(self):
        return SubmitLoad(self.ledger, self.mail, sessions=min(4, self.o.sessions), seed=self.seed, largest=self.o.largest)


# ---- delivery to mailboxes ----

class Mailboxes(Ledger):
    """Booked under the mailbox: the alias "all" stands for many of them."""

    def __init__(self, path, names):
        super().__init__(path)
        self.names = names
        self.places = {f"{name}@local.test": [f"local {name}"] for name in names}
        self.places |= {f"m{n}@v.test": [f"virtual m{n}"] for n in range(MAILDIRS)}
        self.places["all@local.test"] = [f"local {name}" for name in names]

    def choose(self, rng, ident):
        kind = rng.random()
        if kind < .35:
            recipients = ["all@local.test"]
        elif kind < .65:
            recipients = [f"{rng.choice(self.names)}@local.test"]
        elif kind < .9:
            recipients = [f"m{rng.randrange(MAILDIRS)}@v.test"]
        else:
            recipients = [f"{name}@local.test" for name in rng.sample(self.names, 3)] + ["m0@v.test"]
        return recipients, [place for r in recipients for place in self.places[r]]

    def not_in(self, queued):
        return super().not_in({ident: {place for r in todo for place in self.places.get(r, [])} for ident, todo in queued.items()})

    def seen(self, found):
        """What the mailboxes hold now: {(id, mailbox): how often}."""
        with self.lock:
            for ident, place in found:
                entry = self.entries[ident]
                if place in entry.delivered and not entry.delivered[place]:
                    entry.delivered[place] = 1
                    self._settle(ident, entry)

    def collected(self, found, before):
        """They are emptied after this. before: what earlier calls collected."""
        with self.lock:
            for (ident, place), count in found.items():
                entry = self.entries[ident]
                self._write("D", ident, place.replace(" ", "/"))
                self.deliveries += count
                self.unacked_delivered += entry.state != "acked"
                self.duplicates += count - 1 + ((ident, place) in before)
                if place not in entry.delivered:
                    self.foreign.append(f"{ident} in {place}")
                if (ident, place) in before:  # all was quiet and synced in between
                    self.unexplained.append(f"{self.describe(ident, [place])}: delivered again after it had been settled")


class LocalRun(Run):
    VICTIMS = WRAPPED
    KILLED = ("courier", "courier", "courier-group", "courier-group", "local", "virtual", "qmgr", "master")
    second = None

    def make_ledger(self, path):
        self.names = [p.pw_name for p in pwd.getpwall() if p.pw_uid and p.pw_gid][:MEMBERS]
        self.slash = self.rng.choice(("", "/"))
        self.before = set()
        return Mailboxes(path, self.names)

    def prepare(self):
        mail, ids = self.mail, pwd.getpwnam("games")
        self.store = f"{self.disks()[-1].where}/mail" if self.disks() else f"{mail.base}/mail"
        os.mkdir(self.store)
        os.mkdir(f"{self.store}/dirs", 0o700)
        os.chown(f"{self.store}/dirs", ids.pw_uid, ids.pw_gid)
        os.mkdir(f"{self.store}/spool")
        os.chmod(f"{self.store}/spool", 0o1777)
        mail.settings.update({
            "mydestination": "local.test", "myorigin": "local.test", "mail_spool_directory": f"{self.store}/spool{self.slash}", "biff": "no", "forward_path": "",
            "alias_maps": "inline:{{all = %s}}" % " ".join(self.names), "local_recipient_maps": "", "virtual_mailbox_domains": "v.test",
            "virtual_mailbox_base": f"{self.store}/dirs", "virtual_mailbox_maps": "inline:{%s}" % ", ".join(f"m{n}@v.test=m{n}/" for n in range(MAILDIRS)),
            "virtual_uid_maps": f"static:{ids.pw_uid}", "virtual_gid_maps": f"static:{ids.pw_gid}", "virtual_minimum_uid": "1",
            "stale_lock_time": "3s",  # the machine is not started anew, which would make lock files stale
            "mailbox_size_limit": "0", "virtual_mailbox_limit": "0", "minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"})
        mail.write_config()

    def make_load(self):
        # few bytes: the disks are small, and all that is there is read again and again
        self.o.largest = min(self.o.largest, 200_000)
        self.o.sessions = min(3, self.o.sessions)
        load = super().make_load()
        load.think = .05
        return load

    def texts(self):
        """[(mailbox, bytes of a message)]; what is in an mbox is read under its lock."""
        found = []
        for name in self.names:
            path = f"{self.store}/spool/{name}"
            if self.slash:
                found += [(f"local {name}", read(file)) for file in glob.glob(f"{path}/new/*")]
            elif os.path.exists(path):
                with open(path, "r+b") as f:
                    fcntl.lockf(f, fcntl.LOCK_EX)
                    found += [(f"local {name}", t[:-1].replace(b"\n>From ", b"\nFrom ")) for t in re.split(rb"(?m)^From .*\n", f.read())[1:]]
        for n in range(MAILDIRS):
            found += [(f"virtual m{n}", read(file)) for file in glob.glob(f"{self.store}/dirs/m{n}/new/*")]
        return found

    def look(self):
        """({(id, mailbox): count}, what is no whole message of ours)."""
        found, odd = {}, []
        for place, text in self.texts():
            mark = MARK.search(text)
            ident = mark and self.ledger.whole(text, mark)
            if ident:
                found[ident, place] = found.get((ident, place), 0) + 1
            else:
                odd.append((place, text))
        return found, odd

    def wait_settled(self):
        """Until nothing is missing and nothing queued; then each byte of the mailboxes is accounted for, and they are emptied."""
        end, turn = time.monotonic() + self.o.patience, 0
        while True:
            found, odd = self.look()
            self.ledger.seen(found)
            done = not self.ledger.missing() and self.mail.is_empty()
            if done or time.monotonic() > end:
                break
            if turn % 8 == 0:
                self.mail.flush()
            turn += 1
            time.sleep(.25)
        if done:
            found, odd = self.look()
            self.collect(found, odd)
        return done

    def collect(self, found, odd):
        self.ledger.collected(found, self.before)
        self.before |= set(found)
        for number, (place, text) in enumerate(odd):
            self.ledger.altered.append((place, f"{len(text)} bytes that are no whole message: {text[:200]!r}...{text[-80:]!r}"))
        for directory in (f"{self.store}/spool", f"{self.store}/dirs"):
            for path in glob.glob(f"{directory}/*.lock"):
                self.faults.append(f"lock file left over: {path}")
            for path in glob.glob(f"{directory}/*/new/*") + glob.glob(f"{directory}/*/tmp/*") + ([] if self.slash else glob.glob(f"{self.store}/spool/*")):
                os.unlink(path)
        for disk in self.disks():
            disk.sync()


class TwoDisksRun(LocalRun):
    def disks(self):
        return [self.mail.disk, self.second]

    def prepare(self):
        self.second = Disk(f"{self.work}/second.img", size_mib=128, kind=self.o.fs, options=self.o.mount)
        self.second.mount(f"{self.mail.base}/store")
        super().prepare()

    def close(self):
        if self.second:
            self.mail.kill_all()
            self.second.remove(keep_image=self.mail.keep)
        super().close()


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return b""


# ---- methods ----

def cycle_kill(run):
    """SIGKILL to the next process of a kind, most of which live for milliseconds only."""
    run.sleep(.02, .3)
    victim, end = run.rng.choice(run.KILLED), time.monotonic() + 1
    run.fault()
    found = []
    while not found and time.monotonic() < end:
        found = run.mail.kill(victim)
    run.kills += len(found)
    run.latest = victim
    if victim == "master" and found:
        run.mail.wait(lambda: not run.mail.running(), 20, "master is gone")
        run.ensure_running()
    run.fault_over()


def cycle_lie(run):
    for daemon in WRAPPED:
        inject.arm(run.mail, daemon, inject.lie())
    run.mail.kill_all()
    run.start()
    run.sleep(.5, run.o.window + .5)
    run.cut_power()
    inject.disarm(run.mail)
    inject.forget(run.mail)
    run.start()


def cycle_syscall(run):
    """SIGKILL at the N-th call that changes something, in each process that a program becomes."""
    program = run.rng.choice(run.VICTIMS)
    inject.forget(run.mail)
    inject.arm(run.mail, program, inject.kill_at(int(2 ** run.rng.uniform(0, 6)), CALLS))
    run.fault()
    run.kills += len(run.mail.kill(program))
    end = time.monotonic() + 1.5
    while inject.kills(run.mail, program) < 3 and time.monotonic() < end:
        time.sleep(.02)
    run.kills += inject.kills(run.mail, program)
    inject.disarm(run.mail, program)
    run.mail.kill(program)
    run.fault_over()
