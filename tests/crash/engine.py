# SPDX-License-Identifier: Apache-2.0
"""A crash run: a mail system under load, the account of its messages, faults that come and go. What breaks it is in run.py and local.py."""
import os
import random
import re
import shutil
import tempfile
import time

from harness import Dns, Failed, Instance, Sink, inject, reply
from harness.disk import Disk
from harness.ledger import NEVER, Ledger, queued_messages
from harness.load import Load


# Seconds before a fault in which a delivery that was repeated counts as having been under way: until the next host's answer has
# reached qmgr and its record is written; and, when the power is cut, until the record is on the disk. Machines may be busy.
UNDER_WAY, UNDER_WAY_POWER = 1.0, 2.5
# Only for hosts that misbehave: on a busy machine a good one may take as long, and gets the message again.
SHORT_TIMEOUTS = {"smtp_helo_timeout": "3s", "smtp_mail_timeout": "3s", "smtp_rcpt_timeout": "3s", "smtp_data_init_timeout": "3s",
                  "smtp_data_xfer_timeout": "3s", "smtp_data_done_timeout": "4s", "smtp_quit_timeout": "2s", "smtp_rset_timeout": "2s",
                  "smtp_connect_timeout": "2s"}
DELIVERERS = ("qmgr", "smtp", "lmtp", "master", "nqmgr")


class Stopping:
    """Set by SIGINT or SIGTERM."""
    now = False

    @classmethod
    def on_signal(cls, *_):
        if cls.now:
            raise KeyboardInterrupt
        cls.now = True
        print("  ending: this cycle and the account are finished first", flush=True)


class Broken(Exception):
    """The mail system needs a hand: the run cannot go on."""


class Run:
    services = ()  # lines of master.cf

    def __init__(self, method, options, first=0, count=None, seed=None):
        self.first = first  # cycles that others did before us
        self.latest = ""
        self.method, self.o, self.count, self.seed = method, options, count or options.count, seed or options.seed
        self.rng = random.Random(f"{self.seed} {method.name}")
        self.work = tempfile.mkdtemp(prefix="crash-")
        self.ledger = self.make_ledger(f"{self.work}/ledger.log")
        self.lost, self.stuck, self.notes, self.faults = [], [], [], []
        self.excused, self.excused_from = [], None  # parts of the log that a fault explains
        self.complaints, self.seconds = [], 0.0
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
            self.prepare()
            self.mail.start()
            for disk in self.disks():
                disk.sync()
            self.load = self.make_load()
            self.load.start()
        except BaseException:
            self.close()
            raise

    # What kinds of runs differ in (local.py)

    def make_ledger(self, path):
        return Ledger(path)

    def make_load(self):
        return Load(self.ledger, port=self.mail.port, sessions=self.o.sessions, seed=self.seed, largest=self.o.largest)

    def prepare(self):
        """Before the first start."""

    def disks(self):
        """Whose power is cut."""
        return [self.mail.disk] if self.mail.disk else []

    def wait_settled(self):
        """Until all that was acknowledged has arrived; False: not in time."""
        return self.ledger.wait_settled(self.o.patience, self.mail.flush)

    def _make_mail(self):
        settings = {"ipc_timeout": "20s", "message_size_limit": "10240000"}
        if self.method.name in ("hosts", "dns"):
            settings.update(SHORT_TIMEOUTS)
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
        self.mail = Instance(target=self.o.target, relay=relay, settings=settings, services=self.services, wrap=self.method.wrap, disk=disk, dns=self.dns, name="crash")

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

    # Faults

    def fault(self, under_way=UNDER_WAY, excuse=False):
        """A fault begins. excuse: it may make daemons say "fatal"."""
        self.ledger.fault(under_way + self.o.slack - 1)
        if excuse and self.excused_from is None:
            self.excused_from = self.mail.log_size()

    def fault_over(self):
        self.ledger.fault_over(self.o.slack)
        if self.excused_from is not None:
            self.excused.append((self.excused_from, self.mail.log_size()))
            self.excused_from = None

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
            self.faults.append(f"left behind without master: {sorted({p.name for p in self.mail.processes()})}")
            self.mail.kill_all()
        self.start()

    def settle(self):
        """Peace: whatever was acknowledged has to arrive now. Returns the number of messages newly found lost."""
        inject.disarm(self.mail)
        self.weather(False)
        try:
            self.load.pause()
        except TimeoutError as e:
            self.faults.append(str(e))
        self.ensure_running()
        begin = time.monotonic()
        if self.armed:
            self.mail.kill_all()
            self.start()
            self.armed = False
            self.fault_over()
        done = self.wait_settled()
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
            self.faults.append(f"no clean stop: {str(e).splitlines()[0]}")
            self.fault()
            self.mail.kill_all()
            self.fault_over()
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
            self.faults.append("bad file: {}/{}: {}".format(*item))
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
        self.wait_settled()
        try:
            end = time.monotonic() + self.o.patience
            # Twice: a look at one queue after the other misses what goes back from deferred to active meanwhile.
            while not (self.mail.is_empty() and self.mail.is_empty()) and time.monotonic() < end:
                self.mail.flush()
                time.sleep(1)
            self.mail.stop()
        except (Failed, TimeoutError) as e:
            self.faults.append(f"no clean stop: {str(e).splitlines()[0]}")
            return
        queued, bad = queued_messages(self.mail, self.ledger)
        if queued:
            self.faults.append(f"still queued at the end: {list(queued)[:5]}")
        for item in bad:
            self.faults.append("bad file: {}/{}: {}".format(*item))
        if self.mail.alien_files():
            self.faults.append(f"strange files: {self.mail.alien_files()[:8]}")
        logs = self.mail.queue_files("bounce", "defer")
        left = [os.path.basename(p) for paths in logs.values() for p in paths]
        if left:
            self.notes.append(f"logs without a message: {len(left)}")
            self.clear_away()
        missing = self.ledger.missing()
        self.lost += [self.ledger.describe(i) for i in missing]

    def clear_away(self):
        """The next start removes them."""
        self.start()
        self.mail.stop()
        left = sum(map(len, self.mail.queue_files("bounce", "defer").values()))
        if left:
            self.faults.append(f"logs without a message after the next start: {left}")

    # The whole

    def cut_power(self):
        """All that was not synced is lost, and every process."""
        self.fault(UNDER_WAY_POWER, excuse=True)
        self.ledger.power_off()
        for disk in self.disks():
            disk.cut()
        self.kills += self.mail.kill_all()
        self.fault_over()
        for disk in self.disks():
            disk.mount_again()
        self.ledger.power_on()

    def run(self):
        begin = time.monotonic()
        try:
            for number in range(1, self.count + 1):
                self.ledger.cycle = self.cycles = number
                self.method.cycle(self)
                if number % self.o.settle == 0:
                    self.seconds = time.monotonic() - begin
                    self.on_progress()
                    if self.settle() and self.method.lies:
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
                if Stopping.now:
                    self.notes.append(f"ended by a signal after {number} cycles")
                    break
            if self.noticed is None:
                self.finish()
        except (Broken, Failed, OSError) as e:
            self.faults.append(f"NEEDS A HAND at cycle {self.cycles} {self.latest}: {e}")
        except BaseException as e:
            self.faults.append(f"given up at cycle {self.cycles}: {e!r}")
            self.mail.keep = True
            self.load.stop()
            self.close()
            print(self.row(), flush=True)
            raise
        self.seconds = time.monotonic() - begin
        self.load.stop()
        self.fault_over()
        self.complaints = self.mail.complaints(self.excused)
        self.fatal = len(self.mail.complaints())
        if not self.ledger.acked_count:
            self.faults.append("no message was acknowledged: the run shows nothing")
        good = self.passed()
        if not good:
            self.mail.keep = True
        self.close()
        if good and not self.o.keep:
            shutil.rmtree(self.work)
        return good

    armed = False
    fatal = 0

    def on_progress(self):
        """Called between cycles: totals() may be saved."""

    def passed(self):
        if self.method.lies:
            return self.noticed is not None
        return not (self.lost or self.stuck or self.faults or self.complaints or self.ledger.altered or self.ledger.foreign or self.ledger.unexplained)

    def verdict(self):
        if self.method.lies:
            return f"noticed at cut {self.noticed}" if self.noticed else "BLIND"
        return "holds" if self.passed() else "FAILS"

    def totals(self):
        """What totals of several runs are added up from."""
        ledger = self.ledger
        return {"method": self.method.name, "system": self.o.target, "cycles": self.cycles, "kills": self.kills, "acknowledged": ledger.acked_count,
                "deliveries": ledger.deliveries, "bounces": ledger.bounces, "lost": len(self.lost), "stuck": len(self.stuck),
                "altered": len(ledger.altered) + len(ledger.foreign), "duplicates": ledger.duplicates, "unexplained": len(ledger.unexplained),
                "repeated_bounces": ledger.repeated_bounces, "refused": ledger.refused_count, "fatal": self.fatal,
                "complaints": len(self.complaints), "faults": len(self.faults), "slowest": self.slowest_start, "seconds": self.seconds,
                "verdict": self.verdict()}

    def row(self):
        return row(self.totals())

    def report(self):
        for title, items in (("lost", self.lost), ("stuck", self.stuck), ("altered", self.ledger.altered), ("foreign", self.ledger.foreign),
                             ("duplicate without a reason", self.ledger.unexplained), ("needs a hand", self.faults),
                             ("complaint", self.complaints), ("note", self.notes)):
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


HEAD = ("| method | system | cycles | kills | acknowledged | deliveries | bounces | lost | stuck | altered | duplicates (without a reason) | "
        "bounces repeated | refused | fatal lines (without a reason) | needs a hand | slowest start s | s a cycle | verdict |\n|" + " --- |" * 18)


def row(t):
    return (f"| {t['method']} | {t['system']} | {t['cycles']} | {t['kills']} | {t['acknowledged']} | {t['deliveries']} | {t['bounces']} | {t['lost']} | "
            f"{t['stuck']} | {t['altered']} | {t['duplicates']} ({t['unexplained']}) | {t['repeated_bounces']} | {t['refused']} | "
            f"{t['fatal']} ({t['complaints']}) | {t['faults']} | {t['slowest']:.1f} | {t['seconds'] / max(1, t['cycles']):.2f} | {t['verdict']} |")
