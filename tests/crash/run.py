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
  reload      a reload, while some deliveries take seconds: nothing breaks, so nothing may be there twice either [2 s]
  reload-kill the same, and SIGKILL to one process, old or new, at a random moment after it [2 s]
  full        the queue's file system fills up and is relieved [2 s]; root
  errors      a daemon's system calls fail: EIO, ENOSPC, EMFILE, ENOMEM..., every so many calls [2 s]
  each        one system call of one daemon fails once: every call, early number and likely errno in turn, in an order that is
              always the same, so that --totals goes on where it was; {EACH} cycles are all [2 s]
  syncfail    a part of the fdatasync and fsync calls fail [2 s]
  short       a part of the writes to files is cut short [2 s]
  limits      daemons run with 20 descriptors, or hardly any memory [2 s]
  clock       the wall clock of all daemons, or of one, steps: back a day, ahead ten years, beyond 2038 [2 s]
  hosts       the next host hangs, resets, closes, talks nonsense, drips, refuses, at every stage [1.5 s]
  dns         the name server is silent, fails, refuses, answers rubbish [1.5 s]

  submit-kill, submit-syscall, submit-powercut      mail comes from sendmail; what is killed is sendmail, postdrop, pickup, cleanup...
  local-kill, local-syscall, local-powercut         mail goes to mboxes or Maildirs of users, by local with processes of one user and of
              many, and by virtual; the mailboxes are the account: each message once or more, whole, and nothing else; root
  local-powercut-two  the same with queue and mailboxes on two file systems
  local-lie   the same, with local's and virtual's fsync and its like doing nothing: must be noticed

Every --settle cycles the disturbance pauses: within a bounded time all that was acknowledged must have been delivered or bounced.
At the end: a clean stop, after which the queue is empty and no strange file is there. A line for a table is printed. A run fails (exit code 1) if
a message was lost, stuck or altered; if one was delivered twice and the first delivery was not under way when a fault came; if a daemon
panicked, or said "fatal" when no fault explains it; if something needed a hand: no start, no clean stop, files left over.
The account (ledger.log) and the instance are kept on failure.

SIGINT or SIGTERM end a run in order: the cycle ends, the account is settled, the line is printed (a second one ends it at once).
With --totals FILE what was done is added up there, as it goes: the same command again does what is missing up to --count, and
--sum prints the totals of FILE. Cycles run in chunks of --chunk, each with an instance of its own, so that logs and memory stay bounded.
"""
import argparse
import contextlib
import fcntl
import json
import logging
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from crash import local  # noqa: E402
from crash.engine import DELIVERERS, HEAD, Broken, Run, Stopping, row  # noqa: E402
from harness import Failed, close, delay, drip, hang, inject, processes, raw, reply, reset, unavailable  # noqa: E402
from harness import disk as disks  # noqa: E402
from harness.ledger import queued_messages  # noqa: E402

SYNCERS = ("cleanup", "qmgr", "smtpd", "bounce")
WRAPPED = ("cleanup", "qmgr", "smtp", "smtpd", "bounce", "trivial-rewrite")
# Left out is what can't fail: a write to an eventfd (so writes to files fail by another way), epoll_wait() for want of memory, fcntl(F_SETFL); and brk(),
# whose early calls are those of the loader (`limits` takes memory and descriptors away for real).
WRITES = ("write", "pwrite", "writev", "pwritev")  # to files
WRITERS = ("cleanup", "qmgr")
WRITE_ERRORS = ("EIO", "ENOSPC", "EDQUOT")
ERRORS = [("openat", ("EMFILE", "ENFILE", "ENOSPC", "EACCES")),
          ("fsync,fdatasync", ("EIO", "ENOSPC")), ("rename,renameat,renameat2,unlink,unlinkat,mkdir", ("EIO", "ENOSPC", "EROFS")),
          ("fchmod,ftruncate,fallocate", ("EIO", "ENOSPC", "EFBIG")), ("mmap", ("ENOMEM",)), ("read,pread64,readv,recvmsg", ("EIO", "ENOMEM")),
          ("accept,accept4", ("EMFILE", "ENFILE", "ECONNABORTED")), ("connect", ("ETIMEDOUT", "ECONNREFUSED", "EAGAIN")),
          ("epoll_wait,poll", ("EINTR",)), ("epoll_ctl,poll", ("ENOMEM",)), ("flock", ("EAGAIN", "ENOLCK")), ("sendmsg,sendto", ("ENOBUFS", "EPIPE"))]
EARLY = (1, 2, 3, 5, 9, 30)
LONGEST_DELAY = 8
MISCHIEF = (hang(), close(), close("421 4.3.2 away"), reset(), raw(b"\xff\xfe nonsense\0\r\n"), raw(b"250-half a reply"), raw(b"450 no\r\n450 and again\r\n"),
            raw(b"99999 x\r\n"), raw(b"250-a\r\n450 b\r\n"), raw(b"x" * 5000), raw(b"\r\n"), drip("250 a byte a second", 1), reply("450 4.3.0 no"),
            reply("554 5.0.0 no\nnever\n"), reply("250 " + "\n".join(["x"] * 500)))
STAGES = ("connect", "ehlo", "mail", "rcpt", "data", "body", "dot", "quit")


class Totals:
    """The sum of many runs, in a file of JSON lines: one for each run, replaced while it goes on. Several programs may share it."""
    def __init__(self, path):
        self.path = path

    def read(self):
        try:
            with open(self.path) as f:
                return [json.loads(line) for line in f]
        except FileNotFoundError:
            return []

    def save(self, run, ident):
        with open(f"{self.path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = [r for r in self.read() if r["run"] != ident] + [dict(run.totals(), run=ident, label=run.o.label, seed=run.seed)]
            with open(f"{self.path}.new", "w") as f:
                f.writelines(json.dumps(r) + "\n" for r in records)
            os.rename(f"{self.path}.new", self.path)

    def cycles(self, method, system, label):
        return sum(r["cycles"] for r in self.read() if (r["method"], r["system"], r["label"]) == (method, system, label))

    def sums(self):
        sums = {}
        for r in self.read():
            total = sums.setdefault((r["method"], r["system"], r["label"]), dict(r, method=" ".join(filter(None, (r["method"], r["label"])))))
            if total["run"] == r["run"]:
                continue
            for name, value in r.items():
                if name == "slowest":
                    total[name] = max(total[name], value)
                elif name == "verdict":
                    total[name] = max(total[name], value, key=lambda v: v in ("FAILS", "BLIND"))
                elif isinstance(value, (int, float)) and name != "run":
                    total[name] += value
        return list(sums.values())


# The methods

class Method:
    def __init__(self, cycle, *, wrap=(), disk=0, settings=None, needs=(), kind=Run, name=None):
        self.name = name or cycle.__name__.removeprefix("cycle_").replace("_", "-")
        self.kind = kind
        self.lies = self.name.endswith("lie")  # the tester is tested: it must notice
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
    if victim in DELIVERERS:
        run.fault()
    run.kills += len(run.mail.kill(victim))
    if victim == "master":
        run.mail.wait(lambda: not run.mail.running(), 20, "master is gone")  # a busy machine takes its time
        run.ensure_running()
    run.fault_over()


def cycle_kill_all(run):
    run.sleep(.02, .6)
    run.fault()
    run.kills += run.mail.kill_all()
    run.fault_over()
    run.start()


def cycle_syscall(run):
    daemon = run.rng.choice([d for d in WRAPPED if d in run.mail.wrap])
    when = int(2 ** run.rng.uniform(0, 8))
    inject.forget(run.mail)
    inject.arm(run.mail, daemon, inject.kill_at(when))
    if daemon in DELIVERERS:
        run.fault()
    run.kills += len(run.mail.kill(daemon))
    end = time.monotonic() + 2
    while not inject.kills(run.mail, daemon) and time.monotonic() < end:
        time.sleep(.02)
    run.kills += inject.kills(run.mail, daemon)
    inject.disarm(run.mail, daemon)
    run.mail.kill(daemon)
    run.fault_over()


def cycle_powercut(run):
    run.sleep(.05, run.o.window)
    if not run.ledger.acked_count:  # a busy machine may take longer than the window for the first
        run.mail.wait(lambda: run.ledger.acked_count, 30, "a message is acknowledged")
    run.cut_power()
    run.start()


def cycle_lie(run):
    for daemon in SYNCERS:
        inject.arm(run.mail, daemon, inject.lie())
    run.mail.kill_all()
    run.start()
    run.sleep(.3, run.o.window)
    run.cut_power()
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
    run.faults += ["bad file: {}/{}: {}".format(*item) for item in bad]
    run.weather(True)
    run.start()
    run.load.resume()


def cycle_reload(run):
    """Once in a while a second one while the first is under way."""
    run.sink.on("dot", delay(run.rng.uniform(1, 7)), chance=.1)
    run.sleep(.2, 1)
    run.mail.reload()
    if run.rng.random() < .3:
        run.sleep(0, .3)
        run.mail.reload()
    run.sleep(.2, 1.5)
    run.weather(True)


def cycle_reload_kill(run):
    run.sink.on("dot", delay(run.rng.uniform(1, 7)), chance=.1)
    run.sleep(.2, 1)
    run.mail.reload()
    run.sleep(0, .5)
    victims = [p for p in run.mail.processes() if p.name in ("qmgr", "cleanup", "smtp", "bounce", "smtpd", "trivial-rewrite")]
    if victims:
        run.fault()
        run.kills += processes.kill(run.rng.choice(victims), signal.SIGKILL)
        run.ledger.fault_over(LONGEST_DELAY + run.o.slack)  # what was broken off may end so late at the next host
    run.sleep(.2, 1)
    run.weather(True)


def cycle_full(run):
    run.sleep(.2, .8)
    run.fault(excuse=True)
    run.mail.disk.fill(run.rng.choice((0, 0, 4096, 100_000, 2_000_000)))
    run.sleep(.3, 1.5)
    run.mail.disk.relieve()
    run.fault_over()
    run.ensure_running()


def cycle_errors(run):
    start, step = run.rng.choice((1, 2, 5, 20, 60)), run.rng.choice((3, 7, 31, 1000))
    if run.rng.random() < 1 / len(ERRORS):
        with_fault(run, [run.rng.choice(WRITERS)], inject.fail_write(run.mail, "*", run.rng.choice(WRITE_ERRORS), start, step))
        return
    daemon = run.rng.choice([d for d in WRAPPED if d in run.mail.wrap])
    calls, errors = run.rng.choice(ERRORS)
    with_fault(run, [daemon], inject.fail(calls, run.rng.choice(errors), f"{start}+{step}"))


def each_fault():
    """(daemon, call, errno, number): each once, mixed well."""
    # The loader dies of a failing first mmap, in every program.
    found = [(daemon, call, error, number) for daemon in WRAPPED for calls, errors in ERRORS for call in calls.split(",") for error in errors
             for number in EARLY if (call, number) != ("mmap", 1)]
    found += [(daemon, call, error, number) for daemon in WRITERS for call in WRITES for error in WRITE_ERRORS for number in EARLY]
    random.Random(0).shuffle(found)
    return found


def cycle_each(run):
    faults = each_fault()
    daemon, call, error, number = faults[(run.first + run.cycles - 1) % len(faults)]
    run.latest = f"{daemon}: {call} number {number}: {error}"
    with_fault(run, [daemon], inject.fail_write(run.mail, call, error, number) if call in WRITES else inject.fail(call, error, number))


def cycle_syncfail(run):
    with_fault(run, SYNCERS, inject.fail(inject.SYNCS, run.rng.choice(("EIO", "ENOSPC")), f"{run.rng.randrange(1, 6)}+{run.rng.choice((2, 5, 17))}"))


def cycle_short(run):
    with_fault(run, SYNCERS, inject.short_writes(run.mail, run.rng.choice((.05, .3, .9)), run.rng.randrange(1 << 30)))


def cycle_limits(run):
    daemons = [run.rng.choice(WRAPPED)] if run.rng.random() < .7 else WRAPPED
    with_fault(run, daemons, inject.limits(descriptors=20) if run.rng.random() < .6 else inject.limits(memory=run.rng.choice((8, 20, 40)) << 10))


def cycle_clock(run):
    daemons = [run.rng.choice(WRAPPED)] if run.rng.random() < .3 else WRAPPED
    with_fault(run, daemons, inject.clock(run.rng.choice((-86400, -1, 3600, 10 * 365 * 86400, 0x7fffffff - int(time.time()) - 2, 1 << 31))))


def with_fault(run, daemons, fault):
    """Everything starts anew with the fault in these daemons. It ends with the next cycle or the settlement."""
    inject.disarm(run.mail)
    inject.forget(run.mail)
    for daemon in daemons:
        inject.arm(run.mail, daemon, fault)
    run.armed = True
    run.fault(excuse=True)
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
    Method(cycle_powercut, disk=256, needs=(disks,)), Method(cycle_lie, disk=256, wrap=SYNCERS, needs=(disks, inject)), Method(cycle_stop), Method(cycle_reload), Method(cycle_reload_kill),
    Method(cycle_full, disk=28, settings={"message_size_limit": "4000000", "queue_minfree": "0"}, needs=(disks,)),
    Method(cycle_errors, wrap=WRAPPED, needs=(inject,)), Method(cycle_each, wrap=WRAPPED, needs=(inject,)), Method(cycle_syncfail, wrap=SYNCERS, needs=(inject,)), Method(cycle_short, wrap=SYNCERS),
    Method(cycle_limits, wrap=WRAPPED), Method(cycle_clock, wrap=WRAPPED, settings={"maximal_queue_lifetime": "100000d", "bounce_queue_lifetime": "100000d"}),
    Method(cycle_hosts), Method(cycle_dns),
    Method(local.cycle_kill, name="submit-kill", kind=local.SubmitRun), Method(cycle_powercut, name="submit-powercut", kind=local.SubmitRun, disk=256, needs=(disks,)),
    Method(local.cycle_syscall, name="submit-syscall", kind=local.SubmitRun, wrap=local.SubmitRun.VICTIMS, needs=(inject,)),
    Method(local.cycle_kill, name="local-kill", kind=local.LocalRun, needs=(local,)), Method(cycle_powercut, name="local-powercut", kind=local.LocalRun, disk=256, needs=(disks,)),
    Method(cycle_powercut, name="local-powercut-two", kind=local.TwoDisksRun, disk=256, needs=(disks,)),
    Method(local.cycle_lie, name="local-lie", kind=local.TwoDisksRun, disk=256, wrap=local.WRAPPED, needs=(disks, inject)),
    Method(local.cycle_syscall, name="local-syscall", kind=local.LocalRun, wrap=local.WRAPPED, needs=(local, inject)))}


def options(argv=None):
    p = argparse.ArgumentParser(description=__doc__.replace("{EACH}", str(len(each_fault()))), formatter_class=argparse.RawDescriptionHelpFormatter)
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
    p.add_argument("--slack", type=float, default=1,
                   help="seconds that all may take in which a delivery ends: more when the machine is busy (default 1)")
    p.add_argument("--totals", type=Totals, metavar="FILE", help="add up what was done there, and do only what is missing")
    p.add_argument("--label", default="", help="tells apart totals of the same method")
    p.add_argument("--sum", action="store_true", help="print the totals and do nothing")
    p.add_argument("--chunk", type=int, default=250, help="cycles for each instance")
    p.add_argument("--stop-early", action="store_true", help="end at the first loss")
    p.add_argument("--keep", action="store_true")
    p.add_argument("--verbose", "-v", action="store_true")
    return p.parse_args(argv)


def run_method(method, o):
    """All its cycles. True if it holds."""
    done = o.totals.cycles(method.name, o.target, o.label) if o.totals else 0
    good = True
    while done < o.count and not Stopping.now:
        one = method.kind(method, o, done, min(o.chunk, o.count - done), f"{o.seed}+{done}" if done else o.seed)
        if o.totals:
            ident = f"{os.getpid()} {time.time()}"
            one.on_progress = lambda one=one, ident=ident: o.totals.save(one, ident)
        try:
            good &= one.run()
        finally:
            one.on_progress()
        print(one.row(), flush=True)
        one.report()
        done += max(1, one.cycles)
        if one.noticed is not None or (o.stop_early and not good):
            break
        if one.seconds > o.time_limit:
            break
    return good


def main(argv=None):
    o = options(argv)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # "socket.send() raised exception": the very thing that we do
    if o.sum:
        print(HEAD)
        for total in o.totals.sums():
            print(row(total))
        return 0
    reason = unavailable(o.target)
    if reason:
        sys.exit(f"{o.target}: {reason}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, Stopping.on_signal)
    names = list(METHODS) if o.method == "all" else o.method.split(",")
    print(HEAD, flush=True)
    good = True
    for name in names:
        method = METHODS[name]
        if method.unavailable():
            print(f"| {name} | {o.target} | skipped: {method.unavailable()} |")
            continue
        with contextlib.suppress(KeyboardInterrupt):
            good &= run_method(method, o)
        if Stopping.now:
            break
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
