#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Break a running mail system again and again under load, and account for every message that it acknowledged.

usage: run.py --method METHOD[,METHOD...] [--count N] [--target postern|postfix] [--seed S] [options]

Methods (a cycle is one disturbance; the figure in brackets is about what one takes):
  kill-one    SIGKILL to the processes of one daemon, at a random moment [0.3 s]
  kill-all    SIGKILL to all of them, then a normal start [2 s]
  syscall     SIGKILL at the N-th system call that changes something, of one daemon [2 s]
  powercut    the power of the file system under queue and data is cut, everything dies, a normal start [2.5 s]; root
  lie         the same with fsync and its like doing nothing: must be noticed within --count (20) cuts, else the run fails; root
  stop        the next host dies, a clean stop: every message must be a whole queue file then; start [3 s]
  full        the queue's file system fills up and is relieved [2 s]; root
  errors      a daemon's system calls fail: EIO, ENOSPC, EMFILE, ENOMEM..., every so many calls [2 s]
  syncfail    a part of the fdatasync and fsync calls fail [2 s]
  short       a part of the writes to files is cut short [2 s]
  hosts       the next host hangs, resets, closes, talks nonsense, drips, refuses, at every stage [1.5 s]
  dns         the name server is silent, fails, refuses, answers rubbish [1.5 s]

Every --settle cycles the disturbance pauses: within a bounded time all that was acknowledged must have been delivered or bounced.
At the end: a clean stop, after which the queue is empty and no strange file is there. A line for a table is printed; the exit code is 1 if
a message was lost or altered, or if something needed a hand. The account (ledger.log) is kept on failure.
"""
import argparse
import logging
import os
import random
import re
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import Dns, Failed, Instance, Sink, close, drip, hang, inject, raw, reply, reset, unavailable  # noqa: E402
from harness import disk as disks  # noqa: E402
from harness.disk import Disk  # noqa: E402
from harness.ledger import NEVER, Ledger, queued_messages  # noqa: E402
from harness.load import Load  # noqa: E402

SYNCERS = ("cleanup", "qmgr", "smtpd", "bounce")
WRAPPED = ("cleanup", "qmgr", "smtp", "smtpd", "bounce", "trivial-rewrite")
ERRORS = [("write,pwrite64,writev,pwritev,pwritev2", ("EIO", "ENOSPC", "EDQUOT")), ("openat", ("EMFILE", "ENFILE", "ENOSPC", "EACCES")),
          ("fsync,fdatasync", ("EIO", "ENOSPC")), ("rename,renameat,renameat2,unlink,unlinkat,mkdir", ("EIO", "ENOSPC", "EROFS")),
          ("fchmod,ftruncate,fallocate", ("EIO", "ENOSPC", "EFBIG")), ("mmap,brk", ("ENOMEM",)), ("read,pread64,readv,recvmsg", ("EIO", "ENOMEM")),
          ("accept,accept4", ("EMFILE", "ENFILE", "ECONNABORTED")), ("connect", ("ETIMEDOUT", "ECONNREFUSED", "EAGAIN")),
          ("epoll_wait,epoll_ctl,poll", ("EINTR", "ENOMEM")), ("flock,fcntl", ("EAGAIN", "ENOLCK")), ("sendmsg,sendto", ("ENOBUFS", "EPIPE"))]
MISCHIEF = (hang(), close(), close("421 4.3.2 away"), reset(), raw(b"\xff\xfe nonsense\0\r\n"), raw(b"250-half a reply"), raw(b"450 no\r\n450 and again\r\n"),
            raw(b"99999 x\r\n"), raw(b"250-a\r\n450 b\r\n"), raw(b"x" * 5000), raw(b"\r\n"), drip("250 a byte a second", 1), reply("450 4.3.0 no"),
            reply("554 5.0.0 no\nnever\n"), reply("250 " + "\n".join(["x"] * 500)))
STAGES = ("connect", "ehlo", "mail", "rcpt", "data", "body", "dot", "quit")


class Broken(Exception):
    """The mail system needs a hand: the run cannot go on."""


class Run:
    def __init__(self, method, options):
        self.method, self.o = method, options
        self.rng = random.Random(f"{options.seed} {method.name}")
        self.work = tempfile.mkdtemp(prefix="crash-")
        self.ledger = Ledger(f"{self.work}/ledger.log")
        self.lost, self.stuck, self.notes = [], [], []
        self.kills = self.cycles = self.slowest_start = 0
        self.late = 0.0
        self.noticed = None
        # Found by DNS, the next host must not look like ourselves.
        self.sink = Sink("127.0.0.2" if method.name == "dns" else "127.0.0.1", keep=False, on_message=self.ledger.received).start()
        self.weather(True)
        self.dns = None
        self.mail = None
        try:
            self._make_mail()
            self.mail.start()
            if self.mail.disk:
                self.mail.disk.sync()
            self.load = Load(self.ledger, port=self.mail.port, sessions=options.sessions, seed=options.seed, largest=options.largest)
            self.load.start()
        except BaseException:
            self.close()
            raise

    def _make_mail(self):
        settings = {"smtp_helo_timeout": "3s", "smtp_mail_timeout": "3s", "smtp_rcpt_timeout": "3s", "smtp_data_init_timeout": "3s",
                    "smtp_data_xfer_timeout": "3s", "smtp_data_done_timeout": "4s", "smtp_quit_timeout": "2s", "smtp_rset_timeout": "2s",
                    "smtp_connect_timeout": "2s", "ipc_timeout": "20s", "message_size_limit": "10240000"}
        settings.update(self.method.settings)
        settings.update(self.o.setting)
        disk = None
        if self.method.disk:
            size = self.method.disk if self.method.name == "full" else self.o.disk_size
            disk = Disk(f"{self.work}/disk.img", size_mib=size, kind=self.o.fs, options=self.o.mount)
        relay = self.sink
        if self.method.name == "dns":
            zone = {f"d{n}.test": [("MX", 10, "mx.test"), ("MX", 20, "mx2.test")] for n in range(6)}
            zone |= {"src.test": [("MX", 10, "mx.test")], "mx.test": [("A", self.sink.host)], "mx2.test": [("A", self.sink.host)]}
            port, host = (53, "127.0.0.53") if self.o.target != "postern" else (0, "127.0.0.1")
            self.dns = Dns(zone, host=host, port=port).start()
            relay = None
            settings["smtp_tcp_port"] = str(self.sink.port)
        self.mail = Instance(target=self.o.target, relay=relay, settings=settings, wrap=self.method.wrap, disk=disk, dns=self.dns, name="crash")

    def weather(self, rough):
        """The next host refuses a part for now; some recipients for ever."""
        self.sink.clear()
        self.sink.on("rcpt", reply("550 5.1.1 no such user"), match=NEVER.encode() + b"-")
        if rough:
            self.sink.on("rcpt", reply("450 4.2.0 later"), chance=.03)
            self.sink.on("dot", reply("451 4.3.0 not now"), chance=.02)

    def close(self):
        if self.mail:
            self.mail.keep = self.mail.keep or self.o.keep
            self.mail.close()
        if self.dns:
            self.dns.stop()
        self.sink.stop()
        self.ledger.close()

    # Steps

    def sleep(self, low, high):
        time.sleep(self.rng.uniform(low, high))

    def start(self, wait=True):
        """A normal start, as after a boot."""
        begin = time.monotonic()
        try:
            self.mail.start(seconds=40, wait=wait)
        except (Failed, TimeoutError) as e:
            raise Broken(f"does not start: {e}") from e
        self.slowest_start = max(self.slowest_start, time.monotonic() - begin)

    def ensure_running(self):
        """If master is gone: its daemons must end by themselves, then start."""
        if self.mail.running():
            return
        try:
            self.mail.wait(lambda: not self.mail.processes(), 10, "daemons end when master is gone")
        except TimeoutError:
            self.notes.append(f"left behind without master: {sorted({p.name for p in self.mail.processes()})}")
            self.mail.kill_all()
        self.start()

    def settle(self):
        """Peace: whatever was acknowledged has to arrive now. Returns the number of messages newly found lost."""
        inject.disarm(self.mail)
        self.weather(False)
        try:
            self.load.pause()
        except TimeoutError as e:
            self.notes.append(str(e))
        self.ensure_running()
        begin = time.monotonic()
        if self.armed:
            self.mail.kill_all()
            self.start()
            self.armed = False
        done = self.ledger.wait_settled(self.o.patience, self.mail.flush)
        self.late = max(self.late, time.monotonic() - begin)
        found = 0
        if not done:
            found = self.judge()
        self.ledger.sync()
        self.weather(True)
        self.load.resume()
        return found

    def judge(self):
        """Not all has arrived: lost, or stuck in the queue? A clean stop turns all that there is into files."""
        try:
            self.mail.stop()
        except (Failed, TimeoutError) as e:
            self.notes.append(f"no clean stop: {str(e).splitlines()[0]}")
            self.mail.kill_all()
        queued, bad = queued_messages(self.mail, self.ledger)
        lost = self.ledger.not_in(queued)
        if self.method.name == "hosts":
            vanished = bounces_refused(self.mail, lost)
            lost = {ident: rest for ident, rest in lost.items() if ident not in vanished}
            if vanished:
                self.notes.append(f"bounces that the next host refused for good: {len(vanished)}")
            with self.ledger.lock:
                for ident in vanished:
                    self.ledger.open.pop(ident, None)
        for ident in lost:
            self.lost.append(self.ledger.describe(ident))
        for ident in self.ledger.missing():
            if ident not in lost:
                self.stuck.append(self.ledger.describe(ident))
        for item in bad:
            self.notes.append("bad file: {}/{}: {}".format(*item))
        with self.ledger.lock:
            for ident in list(self.ledger.missing()):
                del self.ledger.open[ident]  # reported once
        self.start()
        return len(lost)

    def finish(self):
        """The last settlement, then a clean stop that leaves nothing."""
        self.settle()
        self.load.stop()
        self.weather(False)
        self.ledger.wait_settled(self.o.patience, self.mail.flush)
        try:
            end = time.monotonic() + self.o.patience
            while self.mail.queue_messages("incoming", "active", "deferred", "maildrop") and time.monotonic() < end:
                self.mail.flush()
                time.sleep(1)
            self.mail.stop()
        except (Failed, TimeoutError) as e:
            self.notes.append(f"no clean stop: {str(e).splitlines()[0]}")
            return
        queued, bad = queued_messages(self.mail, self.ledger)
        if queued:
            self.notes.append(f"still queued at the end: {list(queued)[:5]}")
        for item in bad:
            self.notes.append("bad file: {}/{}: {}".format(*item))
        if self.mail.alien_files():
            self.notes.append(f"strange files: {self.mail.alien_files()}")
        logs = self.mail.queue_files("bounce", "defer")
        left = [os.path.basename(p) for paths in logs.values() for p in paths]
        temporary = [p for paths in self.mail.queue_files().values() for p in paths if "." in os.path.basename(p)]
        if temporary:
            self.notes.append(f"temporary files left: {len(temporary)}, such as {temporary[0].removeprefix(self.mail.spool)}")
        if left:
            self.notes.append(f"logs without a message: {len(left)}")
        missing = self.ledger.missing()
        self.lost += [self.ledger.describe(i) for i in missing]

    # The whole

    def run(self):
        begin = time.monotonic()
        try:
            for number in range(1, self.o.count + 1):
                self.ledger.cycle = self.cycles = number
                self.method.cycle(self)
                if number % self.o.settle == 0:
                    if self.settle() and self.method.name == "lie":
                        self.noticed = number
                        break
                    if self.lost and self.o.stop_early:
                        break
                if self.o.verbose and number % 10 == 0:
                    print(f"  {self.method.name} {number}: {self.ledger.acked_count} acknowledged, {self.ledger.duplicates} duplicates, "
                          f"{len(self.lost)} lost, {time.monotonic() - begin:.0f} s", flush=True)
                if time.monotonic() - begin > self.o.time_limit:
                    self.notes.append(f"time limit after {number} cycles")
                    break
            if self.noticed is None:
                self.finish()
        except (Broken, Failed, TimeoutError) as e:
            self.notes.append(f"NEEDS A HAND at cycle {self.cycles}: {e}")
            self.broken = True
        except BaseException:
            self.mail.keep = True
            self.close()
            raise
        self.seconds = time.monotonic() - begin
        self.load.stop()
        complaints = self.mail.complaints()
        self.fatal = len(complaints)
        self.complaints = complaints[:3]
        good = self.passed()
        if not good:
            self.mail.keep = True
        self.close()
        if good and not self.o.keep:
            os.unlink(f"{self.work}/ledger.log")
            os.rmdir(self.work)
        return good

    broken = armed = False

    def passed(self):
        if self.method.name == "lie":
            return self.noticed is not None
        return not (self.lost or self.stuck or self.ledger.altered or self.ledger.foreign or self.broken)

    def verdict(self):
        if self.method.name == "lie":
            return f"noticed at cut {self.noticed}" if self.noticed else "BLIND"
        return "holds" if self.passed() else "FAILS"

    def row(self):
        ledger = self.ledger
        return (f"| {self.method.name} | {self.o.target} | {self.cycles} | {self.kills} | {ledger.acked_count} | {ledger.deliveries} | {ledger.bounces} | {len(self.lost)} | "
                f"{len(self.stuck)} | {len(ledger.altered)} | {ledger.duplicates} | {ledger.refused_count} | {self.fatal} | "
                f"{self.slowest_start:.1f} | {self.seconds / max(1, self.cycles):.2f} | {self.verdict()} |")

    def report(self):
        for title, items in (("lost", self.lost), ("stuck", self.stuck), ("altered", self.ledger.altered), ("foreign", self.ledger.foreign),
                             ("note", self.notes), ("complaint", self.complaints)):
            for item in items[:8]:
                print(f"  {title}: {item}")
        if self.ledger.other_mail:
            print(f"  other mail: {self.ledger.other_mail}")
        if self.o.verbose and self.load.refusals:
            print(f"  refusals: {self.load.refusals}")
        if not self.passed():
            print(f"  kept: {self.work}, {self.mail.base}")


def bounces_refused(mail, idents):
    """Those of the messages whose log ends with a bounce that was itself refused for good: nobody is left to be told."""
    ids, notices, dead = {}, {}, set()
    for line in mail.log(r"message-id=<|non-delivery notification: |status=bounced"):
        if found := re.search(r"message-id=<([\d.]+)@src\.test>", line.text):
            ids[line.queue_id] = found[1]
        elif found := re.search(r"non-delivery notification: (\w+)", line.text):
            notices[found[1]] = line.queue_id
        elif "status=bounced" in line.text and line.queue_id in notices:
            dead.add(ids.get(notices[line.queue_id]))
    return dead & set(idents)


HEAD = ("| method | system | cycles | kills | acknowledged | deliveries | bounces | lost | stuck | altered | duplicates | refused | fatal lines | "
        "slowest start s | s a cycle | verdict |\n|" + " --- |" * 16)


# The methods

class Method:
    def __init__(self, cycle, *, wrap=(), disk=0, settings=None, needs=()):
        self.name = cycle.__name__.removeprefix("cycle_").replace("_", "-")
        self.cycle, self.wrap, self.disk, self.settings, self.needs = cycle, wrap, disk, settings or {}, needs

    def unavailable(self):
        for module in self.needs:
            reason = module.unavailable()
            if reason:
                return reason
        return ""


def cycle_kill_one(run):
    run.sleep(.02, .4)
    names = sorted({p.name for p in run.mail.processes()})
    if not names:
        run.ensure_running()
        return
    victim = run.rng.choice(names)
    run.kills += len(run.mail.kill(victim))
    if victim == "master":
        run.ensure_running()


def cycle_kill_all(run):
    run.sleep(.02, .6)
    run.kills += run.mail.kill_all()
    run.start()


def cycle_syscall(run):
    daemon = run.rng.choice([d for d in WRAPPED if d in run.mail.wrap])
    when = int(2 ** run.rng.uniform(0, 8))
    inject.forget(run.mail)
    inject.arm(run.mail, daemon, inject.kill_at(when))
    run.kills += len(run.mail.kill(daemon))
    end = time.monotonic() + 2
    while not inject.kills(run.mail, daemon) and time.monotonic() < end:
        time.sleep(.02)
    run.kills += inject.kills(run.mail, daemon)
    inject.disarm(run.mail, daemon)
    run.mail.kill(daemon)


def cycle_powercut(run):
    run.sleep(.05, run.o.window)
    cut_power(run)
    run.start()


def cut_power(run):
    run.ledger.power_off()
    run.mail.disk.cut()
    run.kills += run.mail.kill_all()
    run.ledger.power_on()
    run.mail.disk.mount_again()


def cycle_lie(run):
    for daemon in SYNCERS:
        inject.arm(run.mail, daemon, inject.lie())
    run.mail.kill_all()
    run.start()
    run.sleep(.3, run.o.window)
    cut_power(run)
    inject.disarm(run.mail)
    inject.forget(run.mail)
    run.start()


def cycle_stop(run):
    run.sleep(.2, 1)
    run.sink.on("connect", close("421 4.3.2 away"))
    run.sink.on("mail", close("421 4.3.2 away"))
    run.sleep(.2, 1)
    try:
        run.load.pause()
        run.mail.stop()
    except (Failed, TimeoutError) as e:
        raise Broken(f"no clean stop: {e}") from e
    queued, bad = queued_messages(run.mail, run.ledger)
    for ident in run.ledger.not_in(queued):
        run.lost.append("not a file after a clean stop: " + run.ledger.describe(ident))
    run.notes += ["bad file: {}/{}: {}".format(*item) for item in bad]
    run.weather(True)
    run.start()
    run.load.resume()


def cycle_full(run):
    run.sleep(.2, .8)
    run.mail.disk.fill(run.rng.choice((0, 0, 4096, 100_000, 2_000_000)))
    run.sleep(.3, 1.5)
    run.mail.disk.relieve()
    run.ensure_running()


def cycle_errors(run):
    daemon = run.rng.choice([d for d in WRAPPED if d in run.mail.wrap])
    calls, errors = run.rng.choice(ERRORS)
    start = run.rng.choice((1, 2, 5, 20, 60))
    with_fault(run, [daemon], inject.fail(calls, run.rng.choice(errors), f"{start}+{run.rng.choice((3, 7, 31, 1000))}"))


def cycle_syncfail(run):
    with_fault(run, SYNCERS, inject.fail(inject.SYNCS, run.rng.choice(("EIO", "ENOSPC")), f"{run.rng.randrange(1, 6)}+{run.rng.choice((2, 5, 17))}"))


def cycle_short(run):
    with_fault(run, SYNCERS, inject.short_writes(run.mail, run.rng.choice((.05, .3, .9)), run.rng.randrange(1 << 30)))


def with_fault(run, daemons, fault):
    """Everything starts anew with the fault in these daemons. It ends with the next cycle or the settlement."""
    inject.disarm(run.mail)
    inject.forget(run.mail)
    for daemon in daemons:
        inject.arm(run.mail, daemon, fault)
    run.armed = True
    run.kills += run.mail.kill_all()
    run.start(wait=False)
    run.sleep(1, 2)


def cycle_hosts(run):
    """No answer here may read as a 2xx at a place where the sink takes nothing: that would be a loss at the next host."""
    action = run.rng.choice(MISCHIEF)
    stage = run.rng.choice(STAGES)
    match = None
    if action.kind == "reply" and action.text[0] == "5":
        stage, match = "mail", rb"<s\d"  # a bounce that is refused for good may vanish
    if stage in ("body", "dot") and action.kind in ("reply", "drip") and action.text[0] == "2":
        action = reset()
    run.sink.on(stage, action, chance=run.rng.choice((.3, 1)), match=match, after=run.rng.choice((0, 1000, 50000)))
    run.sleep(.7, 1.5)
    run.weather(True)


def cycle_dns(run):
    run.sleep(.1, .5)
    run.dns.mode = run.rng.choice(("silent", "servfail", "refused", "garbage", "slow", "truncated"))
    run.sleep(.7, 1.5)
    run.dns.mode = ""


METHODS = {m.name: m for m in (
    Method(cycle_kill_one), Method(cycle_kill_all), Method(cycle_syscall, wrap=WRAPPED, needs=(inject,)),
    Method(cycle_powercut, disk=256, needs=(disks,)), Method(cycle_lie, disk=256, wrap=SYNCERS, needs=(disks, inject)), Method(cycle_stop),
    Method(cycle_full, disk=24, settings={"message_size_limit": "4000000", "queue_minfree": "0"}, needs=(disks,)),
    Method(cycle_errors, wrap=WRAPPED, needs=(inject,)), Method(cycle_syncfail, wrap=SYNCERS, needs=(inject,)), Method(cycle_short, wrap=SYNCERS),
    Method(cycle_hosts), Method(cycle_dns))}


def options(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--method", default="all", help="names with commas between, or all")
    p.add_argument("--count", type=int, default=20)
    p.add_argument("--target", default=os.environ.get("HARNESS_TARGET", "postern"))
    p.add_argument("--seed", default="1")
    p.add_argument("--sessions", type=int, default=8)
    p.add_argument("--largest", type=int, default=3 << 20, help="bytes of the largest message")
    p.add_argument("--settle", type=int, default=5, help="cycles between settlements")
    p.add_argument("--patience", type=float, default=40, help="seconds within which all must have arrived")
    p.add_argument("--window", type=float, default=1.0, help="seconds of load before a power cut, at most")
    p.add_argument("--fs", default="ext4", choices=("ext4", "xfs"))
    p.add_argument("--mount", default="", help="mount options, such as data=writeback,nobarrier")
    p.add_argument("--disk-size", type=int, default=256)
    p.add_argument("--setting", action="append", default=[], type=lambda s: tuple(s.split("=", 1)), help="NAME=VALUE for main.cf")
    p.add_argument("--time-limit", type=float, default=1e9, help="seconds for a method's cycles")
    p.add_argument("--stop-early", action="store_true", help="end at the first loss")
    p.add_argument("--keep", action="store_true")
    p.add_argument("--verbose", "-v", action="store_true")
    return p.parse_args(argv)


def main(argv=None):
    o = options(argv)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # "socket.send() raised exception": the very thing that we do
    reason = unavailable(o.target)
    if reason:
        sys.exit(f"{o.target}: {reason}")
    names = list(METHODS) if o.method == "all" else o.method.split(",")
    print(HEAD, flush=True)
    good = True
    for name in names:
        method = METHODS[name]
        if method.unavailable():
            print(f"| {name} | {o.target} | skipped: {method.unavailable()} |")
            continue
        run = Run(method, o)
        good &= run.run()
        print(run.row(), flush=True)
        run.report()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
