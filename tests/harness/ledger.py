# SPDX-License-Identifier: Apache-2.0
"""The account of messages: what was sent, what was acknowledged, what arrived, and what is therefore missing.

Each message begins with the header `X-Account: ID SHA256`, ID being CLIENT.SEQUENCE; the digest covers every byte after that line.
So whoever finds the bytes anywhere (a sink, a queue file, a bounce that returns the message) can say which message it is
and whether it is whole; trace headers that the mail system puts before the line don't matter.

For each recipient of an acknowledged message the account wants a delivery at the sink or a bounce; more than one delivery is a
duplicate. A fault explains a duplicate if the delivery before it was under way when the fault came: fault() is told when one
begins and for how long before that a delivery counts as being under way. Duplicates that no fault explains are in unexplained.
A bounce that comes twice is counted in repeated_bounces. The log file (one line an event: S sent, A acknowledged, R refused, D delivered, B bounced) is written before the
event has consequences, and synced by sync(); Ledger.replay() rebuilds an account from it, so a run can be judged again later.
All methods may be called from any thread.
"""
import binascii
import hashlib
import os
import random
import re
import threading
import time

MARK = re.compile(rb"(?m)^X-Account: (\d+\.\d+) ([0-9a-f]{64})\r?\n")
NEVER = "never"   # local part of recipients that the sink refuses for good


class Message:
    def __init__(self, ident, sender, recipients, content):
        self.id, self.sender, self.recipients, self.content = ident, sender, recipients, content


class Entry:
    __slots__ = ("digest", "state", "when", "cycle", "delivered", "bounced", "size", "last")

    def __init__(self, digest, recipients, cycle, size):
        self.digest, self.state, self.when, self.cycle, self.size = digest, "sent", 0.0, cycle, size
        self.delivered = dict.fromkeys(recipients, 0)
        self.bounced = set()
        self.last = {}       # recipient: when the last delivery came

    def missing(self):
        return [r for r, n in self.delivered.items() if not n and r not in self.bounced]


class Ledger:
    def __init__(self, path=None, run=None):
        """run: a number that no other ledger of the same queue uses."""
        self.run = run if run is not None else random.randrange(1, 1 << 40)
        self.path = path
        self.entries = {}
        self.open = {}       # acknowledged and not yet accounted for
        self.cycle = 0
        self.dark = False    # see power_off()
        self.altered = []    # (id, where): bytes differ
        self.foreign = []    # ids that nobody sent
        self.other_mail = 0  # mail without the mark: notices to postmaster and so on
        self.bounces = 0
        self.sent_count = self.acked_count = self.refused_count = self.deliveries = self.duplicates = self.unacked_delivered = 0
        self.unexplained = []
        self.repeated_bounces = 0
        self.faults = []     # [begin - under way, end or None]
        self.lock = threading.Condition(threading.RLock())
        self.log = open(path, "ab", buffering=0) if path else None

    def close(self):
        if self.log:
            self.sync()
            self.log.close()
            self.log = None

    def sync(self):
        if self.log:
            os.fsync(self.log.fileno())

    def power_off(self):
        """From now on, until power_on(), nothing that a machine without power could not have done counts: no acknowledgement, no
        delivery. To be called right before Disk.cut(): ext4 lets an fsync that is under way during the shutdown
        succeed although its transaction is dropped, and processes live on for some milliseconds until they are killed."""
        with self.lock:
            self.dark = True

    def power_on(self):
        with self.lock:
            self.dark = False

    def fault(self, under_way):
        """A fault begins, in which deliveries may be repeated: those that end while it lasts, those of so many seconds before,
        and those that were under way then, which the next host may see the end of only later. It lasts until fault_over()."""
        with self.lock:
            self.fault_over()
            self.faults.append([time.monotonic() - under_way, None])

    def fault_over(self, slack=1):
        """slack: seconds until the next host has taken what had been sent to it."""
        with self.lock:
            if self.faults and self.faults[-1][1] is None:
                self.faults[-1][1] = time.monotonic() + slack

    def _is_explained(self, before):
        return any(begin <= before and (end is None or before <= end) for begin, end in reversed(self.faults))

    def was_doubled(self, entry):
        """May there have been two of the message in the queue?"""
        return False

    def _write(self, *fields):
        if self.log:
            self.log.write((" ".join(fields) + "\n").encode())

    # The client's side

    def choose(self, rng, ident):
        """(recipients, the names under which deliveries are booked)."""
        recipients = make_recipients(rng, ident)
        return recipients, recipients

    def make(self, client, sequence, rng, largest=3 << 20):
        """A new message; sizes and contents vary with rng."""
        ident = f"{self.run * 1000 + client}.{sequence}"
        recipients, places = self.choose(rng, ident)
        sender = f"s{client}@src.test"
        rest = make_rest(rng, ident, sender, largest)
        digest = hashlib.sha256(rest).hexdigest()
        with self.lock:
            self._write("S", ident, digest, *places)
            self.entries[ident] = Entry(digest, places, self.cycle, len(rest))
            self.sent_count += 1
        return Message(ident, sender, recipients, b"X-Account: %s %s\r\n" % (ident.encode(), digest.encode()) + rest)

    def acknowledged(self, ident, refused=()):
        """The client has the 250; `refused` are recipients that were not accepted at RCPT."""
        with self.lock:
            if self.dark:
                return
            self._write("A", ident, *refused)
            entry = self.entries[ident]
            for recipient in refused:
                entry.delivered.pop(recipient, None)
            entry.state, entry.when, entry.cycle = "acked", time.time(), self.cycle
            self.acked_count += 1
            if entry.missing():
                self.open[ident] = entry

    def refused(self, ident):
        with self.lock:
            self._write("R", ident)
            self.entries[ident].state = "refused"
            self.refused_count += 1

    # The receiver's side

    def received(self, message):
        """For Sink's on_message: a delivery, or a bounce that came back."""
        if self.dark:
            return
        if message.sender == "" and b"report-type=delivery-status" in message.content[:20000]:
            self._bounce(message)
            return
        ident = self.identify(message.content, "sink")
        if ident is None:
            return
        with self.lock:
            entry = self.entries[ident]
            if entry.state != "acked":
                self.unacked_delivered += 1
            for recipient in message.recipients:
                self._write("D", ident, recipient)
                self.deliveries += 1
                if recipient in entry.delivered:
                    self._note_duplicate(ident, entry, recipient)
                    entry.delivered[recipient] += 1
                    entry.last[recipient] = time.monotonic()
                else:
                    self.foreign.append(f"{ident} for {recipient}")
            self._settle(ident, entry)

    def _note_duplicate(self, ident, entry, recipient):
        if not entry.delivered[recipient]:
            return
        self.duplicates += 1
        before = entry.last[recipient]
        if not self._is_explained(before) and not self.was_doubled(entry):
            self.unexplained.append(f"{self.describe(ident, [recipient])}: delivered {time.monotonic() - before:.2f} s ago, when no fault was near")

    def _bounce(self, message):
        found = re.search(rb"(?m)^X-Account: (\d+\.\d+) ", message.content)
        ident = found[1].decode() if found else None
        with self.lock:
            entry = self.entries.get(ident)
            if entry is None:
                self.other_mail += 1
                return
            report = message.content
            failed = re.findall(rb"(?im)^Final-Recipient: *rfc822; *(\S+)(?:\r\n(?!\r\n).*)*?\r\nAction: failed", report)
            self.bounces += 1
            for recipient in {r.decode() for r in failed} & set(entry.delivered):
                self._write("B", ident, recipient)
                self.repeated_bounces += recipient in entry.bounced
                entry.bounced.add(recipient)
            self._settle(ident, entry)

    def _settle(self, ident, entry):
        if ident in self.open and not entry.missing():
            del self.open[ident]
            self.lock.notify_all()

    def identify(self, content, where):
        """The id of a message's bytes (any line ends); None if it is none of ours. Alterations are noted."""
        found = MARK.search(content)
        with self.lock:
            if not found:
                self.other_mail += 1
                return None
            ident, digest = found[1].decode(), found[2].decode()
            entry = self.entries.get(ident)
            if entry is None:
                self.foreign.append(f"{ident} in {where}")
                return None
            rest = content[found.end():]
            if b"\r\n" not in rest[:1000]:
                rest = rest.replace(b"\n", b"\r\n")
            if digest != entry.digest or digest not in (hashlib.sha256(rest).hexdigest(), hashlib.sha256(as_8bit(rest)).hexdigest()):
                self.altered.append((ident, where))
                if self.path and len(self.altered) < 20:
                    with open(f"{self.path}.altered-{ident}", "wb") as f:
                        f.write(content)
                return None
            return ident

    def whole(self, content, mark):
        """The id, if content is from its mark (MARK's match) on what was sent, lines ending in LF; else None."""
        ident, digest = mark[1].decode(), mark[2].decode()
        entry = self.entries.get(ident)
        rest = content[mark.end():].replace(b"\n", b"\r\n")
        return ident if entry and entry.digest == digest == hashlib.sha256(rest).hexdigest() else None

    # Judgement

    def missing(self):
        """{id: [recipients]} of acknowledged messages that are neither delivered nor bounced (they may be queued)."""
        with self.lock:
            return {ident: entry.missing() for ident, entry in self.open.items()}

    def wait_settled(self, seconds, poke=None, every=2.0):
        """Waits until nothing is missing; calls poke() from time to time. True if so in time."""
        end = time.monotonic() + seconds
        while True:
            with self.lock:
                if not self.open:
                    return True
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self.lock.wait(min(left, every))
                if not self.open:
                    return True
            if poke:
                poke()

    def not_in(self, queued):
        """Of what is missing: {id: [recipients]} that are not in `queued` ({id: set of recipients still to do}) either."""
        lost = {}
        for ident, recipients in self.missing().items():
            rest = [r for r in recipients if r not in queued.get(ident, ())]
            if rest:
                lost[ident] = rest
        return lost

    def describe(self, ident, recipients=None):
        entry = self.entries[ident]
        return (f"{ident} ({entry.size} bytes, cycle {entry.cycle}, acknowledged at {time.strftime('%H:%M:%S', time.localtime(entry.when))}"
                f".{int(entry.when % 1 * 1000):03}) for {', '.join(recipients or entry.missing())}")

    @classmethod
    def replay(cls, path):
        ledger = cls()
        with open(path, encoding="utf-8") as f:
            for line in f:
                kind, ident, *rest = line.split()
                if kind == "S":
                    ledger.entries[ident] = Entry(rest[0], rest[1:], 0, 0)
                    continue
                entry = ledger.entries[ident]
                if kind == "A":
                    entry.state = "acked"
                    for recipient in rest:
                        entry.delivered.pop(recipient, None)
                elif kind == "D":
                    entry.delivered[rest[0]] = entry.delivered.get(rest[0], 0) + 1
                elif kind == "B":
                    entry.bounced.add(rest[0])
        ledger.open = {i: e for i, e in ledger.entries.items() if e.state == "acked" and e.missing()}
        return ledger


def as_8bit(rest):
    """Undoes the conversion for a next host that does not offer 8BITMIME."""
    head, blank, body = rest.partition(b"\r\n\r\n")
    for name, decode in ((b"quoted-printable", binascii.a2b_qp), (b"base64", binascii.a2b_base64)):
        label = b"Content-Transfer-Encoding: " + name
        if label in head:
            return head.replace(label, b"Content-Transfer-Encoding: 8bit") + blank + decode(body)
    return rest


def queued_messages(instance, ledger):
    """{id: recipients still to do} from an instance's queue files, and what is wrong with some of them: [(queue, file, text)]."""
    queued, bad = {}, []
    for queue, name, message in instance.queue_messages():
        if isinstance(message, Exception):
            bad.append((queue, name, str(message)))
            continue
        if queue == "corrupt":
            bad.append((queue, name, "in corrupt"))
        content = message["content"]
        envelope = message["envelope"]
        if envelope.get("sender") == "" and b"report-type=delivery-status" in content[:20000]:
            found = re.search(rb"(?m)^X-Account: (\d+\.\d+) ", content)
            if found:  # a bounce on its way stands for the recipients that it tells of
                for recipient in re.findall(rb"(?im)^Final-Recipient: *rfc822; *(\S+)", content):
                    queued.setdefault(found[1].decode(), set()).add(recipient.decode())
            continue
        ident = ledger.identify(content, f"{queue}/{name}")
        if ident:
            todo = [r["address"] for s in ("envelope", "extracted") for r in message[s].get("recipients", []) if r["status"] == "todo"]
            queued.setdefault(ident, set()).update(todo)
    return queued, bad


# Messages that vary

def make_recipients(rng, ident):
    count = 1 if rng.random() < .85 else rng.randrange(2, 8)
    local = ident.replace(".", "-")
    recipients = [f"r{n}-{local}@d{rng.randrange(6)}.test" for n in range(count)]
    if rng.random() < .02:
        recipients[-1] = f"{NEVER}-{local}@d0.test"
    return recipients


def make_size(rng, largest):
    chance = rng.random()
    if chance < .90:
        size = int(2 ** rng.uniform(6, 13))
    elif chance < .97:
        size = int(2 ** rng.uniform(13, 17))
    elif chance < .995:
        size = rng.randrange(60_000, 300_000)
    else:
        size = rng.randrange(1 << 20, 3 << 20)
    return min(size, largest)


ODD_LINES = (b"", b".", b"..", b".leading dot", b"From here", b" leading blank", b"\ttab", b"X-Account: 0.0 fake", "grüße, 8 bit".encode(), b"trailing blank ", b"-" * 998,
             b"--boundary", b"\\ and % and $x ${y}", b"\x01\x7f\xfe\xff")


def make_rest(rng, ident, sender, largest):
    """Headers after X-Account, and a body of lines up to 998 bytes, with what tends to be mistreated."""
    head = (f"From: {sender}\r\nTo: everybody@far.test\r\nSubject: message {ident}\r\nMessage-ID: <{ident}@src.test>\r\n"
            "Date: Tue, 01 Jan 2030 00:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: 8bit\r\n\r\n").encode()
    size, lines, total = make_size(rng, largest), [], 0
    block = rng.randbytes(4096).hex().encode()
    while total < size:
        line = rng.choice(ODD_LINES) if rng.random() < .1 else block[(at := rng.randrange(6000)):at + rng.randrange(1, 900)]
        lines.append(line)
        total += len(line) + 2
    return head + b"\r\n".join(lines) + b"\r\n"
