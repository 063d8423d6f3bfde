# SPDX-License-Identifier: Apache-2.0
"""Sessions that change one user's mailboxes and remember what was acknowledged: what the crash tests of reading share.

    account = Account(mail, dice, workers=3)
    with account.load():                   # sessions at work, which connect again when they are cut off
        strike()
    account.check()                        # a fresh session and the files say what the account says

An Item is one message in one mailbox. All sessions work on the same mailboxes; an item is changed by the session that made it. A command that was
cut off, or refused, leaves its item in doubt: it may be as before or as after, which the next check() finds out and writes down."""
import contextlib
import glob
import os
import random
import re
import socket
import threading
import time
import zlib

from reading import PASSWORD

FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "Work", "$Label1"]
SHARED = ["INBOX", "Other", "Deep.Box"]
ITEMS = 25       # of a session, about; so what is written stays bounded
BROKEN = (OSError, EOFError)
LETTERS = {"D": "\\Draft", "F": "\\Flagged", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}


class Imap:
    """A session that says exactly what it is told."""

    def __init__(self, port, user):
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.sock.settimeout(60)
        self.file = self.sock.makefile("rb")
        self.number, self.selected = 0, None
        try:
            self.line()
            if self.command(f'LOGIN {user} "{PASSWORD}"')[0] != "OK":
                raise ConnectionError("no login")
        except BaseException:
            self.close()
            raise

    def close(self):
        self.file.close()
        self.sock.close()

    def line(self):
        """A response, with its literals."""
        whole = b""
        while True:
            line = self.file.readline()
            if not line.endswith(b"\r\n"):
                raise EOFError
            whole += line
            size = re.search(rb"\{(\d+)\}\r\n$", line)
            if not size:
                return whole
            data = self.file.read(int(size[1]))
            if len(data) < int(size[1]):
                raise EOFError
            whole += data

    def command(self, text, literal=None):
        """(OK, NO or BAD; its text; untagged responses)"""
        self.number += 1
        tag = b"a%d " % self.number
        data = tag + text.encode()
        if literal is not None:
            data += b" {%d+}\r\n" % len(literal) + literal
        self.sock.sendall(data + b"\r\n")
        untagged = []
        while True:
            line = self.line()
            if line.startswith(tag):
                status, _, rest = line[len(tag):].decode("utf-8", "replace").strip().partition(" ")
                return status, rest, untagged
            if line.startswith(b"* BYE"):
                raise EOFError
            untagged.append(line)


class Item:
    """places: (mailbox, UID or None: not known) where it may be; sure: it is in one of them. flags: the sets that it may have."""

    def __init__(self, cid, places, flags, sure=True):
        self.cid, self.places, self.flags, self.sure = cid, list(places), {frozenset(f) for f in flags}, sure

    def is_settled(self):
        return self.sure and len(self.places) == 1 and self.places[0][1] is not None and len(self.flags) == 1

    def __repr__(self):
        return f"{self.cid} at {self.places} {[sorted(f) for f in self.flags]}{'' if self.sure else ' perhaps'}"


def text_of(cid):
    size = zlib.crc32(cid.encode()) % (20000 if cid.endswith("7") else 1500)
    return f"From: a@t.test\r\nMessage-ID: <{cid}@t.test>\r\nSubject: {cid}\r\n\r\n".encode() + (b"y" * 70 + b"\r\n") * (size // 72) + f"end {cid}\r\n".encode()


class Worker:
    def __init__(self, account, number, seed):
        self.account, self.number, self.dice, self.serial = account, number, random.Random(seed), 0
        self.items, self.boxes, self.subscribed = [], {}, {}   # boxes, subscribed: True, False, None in doubt
        self.c = None

    def run(self):
        while not self.account.end.is_set():
            try:
                self.c = Imap(self.account.mail.imap_port, self.account.user)
                while not self.account.end.is_set() and self.account.budget > 0:
                    self.account.budget -= 1
                    self.step()
                if self.account.budget <= 0:
                    self.account.end.wait(0.05)
            except BROKEN:
                self.account.end.wait(0.03)
            except Exception as e:  # noqa: BLE001  the test tells of it
                self.account.errors.append(repr(e))
                return
            finally:
                if self.c:
                    self.c.close()
                    self.c = None

    def do(self, kind, text, done, doubt, literal=None):
        """A command; done(answer) if it was acknowledged, doubt() if not."""
        try:
            status, answer, untagged = self.c.command(text, literal)
        except BROKEN:
            doubt()
            self.account.count(f"{kind} cut off")
            raise
        if self.account.is_off:  # a machine without power acknowledges nothing
            doubt()
            self.account.count(f"{kind} cut off")
            raise EOFError
        if status == "OK":
            done(" ".join([answer] + [u.decode("utf-8", "replace") for u in untagged if u.startswith(b"* OK [COPYUID")]))
            self.account.count(kind)
        elif status == "NO":
            doubt()
            self.account.count(f"{kind} NO")
            self.account.refused(answer)
        else:
            raise AssertionError(f"{text}: {status} {answer}")
        return status == "OK"

    def step(self):
        settled = [i for i in self.items if i.is_settled()]
        if len(settled) < 4:
            kind = "append"
        else:
            kind = self.dice.choices(["append", "store", "copy", "move", "expunge", "box", "subscribe"],
                                     [5, 7, 2, 3, 3 if len(settled) < ITEMS else 12, 1, 1])[0]
        if kind in ("store", "copy", "move", "expunge"):
            item = self.dice.choice([i for i in settled if i.places[0][0] == self.c.selected] or settled)
            if not self.select(item.places[0][0]):
                return
            getattr(self, kind)(item)
        else:
            getattr(self, kind)()

    def select(self, box):
        if self.c.selected == box:
            return True
        self.c.selected = None
        status, answer, _ = self.c.command(f"SELECT {box}")
        if status == "OK":
            self.c.selected = box
        else:
            self.account.count("select NO")
            self.account.refused(answer)
        return status == "OK"

    def some_box(self, but=None):
        return self.dice.choice([b for b in SHARED + [b for b, there in self.boxes.items() if there] if b != but])

    def some_flags(self):
        return frozenset(self.dice.sample(FLAGS, self.dice.randrange(4)))

    def append(self):
        self.serial += 1
        cid, box, flags = f"{self.number}-{self.serial}", self.some_box(), self.some_flags()

        def done(answer):
            code = re.search(r"\[APPENDUID (\d+) (\d+)\]", answer)
            if code:
                self.account.name(box, code[1], code[2], cid)
            self.items.append(Item(cid, [(box, int(code[2]) if code else None)], [flags]))
        self.do("append", f"APPEND {box} ({' '.join(flags)})", done, lambda: self.items.append(Item(cid, [(box, None)], [flags], sure=False)), text_of(cid))

    def store(self, item):
        old = next(iter(item.flags))
        some, how = self.some_flags(), self.dice.choice(["", "+", "-"])
        new = {"": some, "+": old | some, "-": old - some}[how]

        def done(_):
            item.flags = {new}
        item.flags = {old, new}
        self.do("store", f"UID STORE {item.places[0][1]} {how}FLAGS{self.dice.choice(['', '.SILENT'])} ({' '.join(some)})", done, lambda: None)

    def copy(self, item):
        target = self.some_box(item.places[0][0])

        def done(answer):
            code = re.search(r"\[COPYUID (\d+) (\d+) (\d+)\]", answer)
            if code:
                self.account.name(target, code[1], code[3], item.cid)
            self.items.append(Item(item.cid, [(target, int(code[3]) if code else None)], item.flags))
        self.do("copy", f"UID COPY {item.places[0][1]} {target}", done, lambda: self.items.append(Item(item.cid, [(target, None)], item.flags, sure=False)))

    def move(self, item):
        target, old = self.some_box(item.places[0][0]), item.places[0]

        def done(answer):
            code = re.search(r"\[COPYUID (\d+) (\d+) (\d+)\]", answer)
            if code:
                self.account.name(target, code[1], code[3], item.cid)
            item.places = [(target, int(code[3]) if code else None)]
        item.places = [old, (target, None)]
        self.do("move", f"UID MOVE {old[1]} {target}", done, lambda: None)

    def expunge(self, item):
        uid, old = item.places[0][1], next(iter(item.flags))
        item.flags = {old, old | {"\\Deleted"}}

        def flagged(_):
            item.flags = {old | {"\\Deleted"}}
        if not self.do("store", f"UID STORE {uid} +FLAGS (\\Deleted)", flagged, lambda: None):
            return
        item.sure = False
        self.do("expunge", f"UID EXPUNGE {uid}", lambda _: self.items.remove(item), lambda: None)

    def box(self):
        """CREATE, RENAME or DELETE of one of its own."""
        there = [b for b, t in self.boxes.items() if t]
        kind = "create" if not there else self.dice.choice(["create", "rename", "delete"])
        absent = [b for b in (f"w{self.number}{x}" for x in "abc") if self.boxes.get(b) is False or b not in self.boxes]
        if kind != "delete" and not absent:
            return
        new = absent and self.dice.choice(absent)
        if kind == "create":
            self.boxes[new] = None
            self.do(kind, f"CREATE {new}", lambda _: self.boxes.update({new: True}), lambda: None)
            return
        old = self.dice.choice(there)
        if any(not i.is_settled() for i in self.items if any(p[0] == old for p in i.places)):
            return
        if self.c.selected == old and not self.select("INBOX"):
            return
        inside = [i for i in self.items if i.places[0][0] == old]
        self.boxes[old] = None
        if kind == "delete":
            def deleted(_):
                self.boxes[old] = False
                self.account.validity.pop(old, None)
                for i in inside:
                    self.items.remove(i)
            for i in inside:
                i.sure = False
            self.do(kind, f"DELETE {old}", deleted, lambda: self.account.validity.pop(old, None))
            return

        def renamed(_):
            self.boxes[old], self.boxes[new] = False, True
            self.account.validity.pop(new, None)
            if old in self.account.validity:
                self.account.validity[new] = self.account.validity.pop(old)
            for i in inside:
                i.places = [(new, i.places[0][1])]

        def doubt():
            self.account.validity.pop(old, None)
            self.account.validity.pop(new, None)
        self.boxes[new] = None
        for i in inside:
            i.places = [i.places[0], (new, i.places[0][1])]
        self.do(kind, f"RENAME {old} {new}", renamed, doubt)

    def subscribe(self):
        box, on = self.dice.choice([f"w{self.number}{x}" for x in "abc"]), self.dice.random() < 0.5
        self.subscribed[box] = None
        self.do("subscribe", f"{'' if on else 'UN'}SUBSCRIBE {box}", lambda _: self.subscribed.update({box: on}), lambda: None)


class Account:
    def __init__(self, mail, dice, workers=3, user="u1@read.test"):
        self.mail, self.user, self.dice = mail, user, dice
        self.workers = [Worker(self, n, dice.random()) for n in range(workers)]
        self.end, self.lock = threading.Event(), threading.Lock()
        self.ever = {}       # (mailbox, UIDVALIDITY, UID): message, for ever
        self.validity = {}   # of each mailbox
        self.is_off = False
        self.counts, self.refusals, self.errors, self.budget, self.checks, self.twice = {}, set(), [], 0, 0, 0

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def refused(self, answer):
        """Why, without names. A disk that is full is no reason to ask a thousand times a second."""
        self.refusals.add(re.sub(r"\S*/\S*|\S*\d{5}\S*", "...", answer))
        time.sleep(0.005)

    def name(self, box, validity, uid, cid):
        """The server said that this UID is that message."""
        with self.lock:
            before = self.ever.setdefault((box, int(validity), int(uid)), cid)
        if before != cid:
            self.errors.append(f"{box}: UID {uid} of {validity} was {before} and is {cid}")

    def prepare(self):
        c = Imap(self.mail.imap_port, self.user)
        for box in SHARED[1:]:
            c.command(f"CREATE {box}")
        c.close()

    @contextlib.contextmanager
    def load(self, commands=400):
        """Sessions at work; commands: at most so many."""
        self.budget, self.is_off = commands, False
        self.end.clear()
        threads = [threading.Thread(target=w.run) for w in self.workers]
        for t in threads:
            t.start()
        try:
            yield
        finally:
            self.end.set()
            for t in threads:
                t.join(120)
        assert not any(t.is_alive() for t in threads), "a session hangs"
        assert not self.errors, self.errors

    # What is there

    def connect(self, seconds=60):
        def try_it():
            try:
                return Imap(self.mail.imap_port, self.user)
            except BROKEN:
                return None
        return self.mail.wait(try_it, seconds, "a login works again", 0.1)

    def look(self):
        """({mailbox: (UIDVALIDITY, {UID: (message, flags)})}, subscriptions) as IMAP tells."""
        c = self.connect()
        found = {}
        for line in c.command('LIST "" *')[2]:
            box = listed(line)
            # The lock file of a killed process is seen to be one once a second.
            for _ in range(60):
                status, answer, untagged = c.command(f"EXAMINE {box}")
                if "[INUSE]" not in answer:
                    break
                time.sleep(0.5)
            assert status == "OK", f"{box}: {answer}"
            validity = int(re.search(rb"\[UIDVALIDITY (\d+)\]", b"".join(untagged))[1])
            messages = {}
            status, answer, untagged = c.command("UID FETCH 1:* (UID FLAGS BODY.PEEK[])")
            assert status == "OK", answer
            for item in untagged:
                if b"FETCH" not in item.partition(b"\r\n")[0]:
                    continue
                uid, flags = re.search(rb"UID (\d+)", item), re.search(rb"FLAGS \(([^)]*)\)", item)
                body = re.search(rb"BODY\[\] \{(\d+)\}\r\n", item)
                assert uid and flags and body, item[:300]
                message = whole(item[body.end():body.end() + int(body[1])], f"{box} {uid[1]}")
                assert int(uid[1]) not in messages, "a UID stands for two messages"
                messages[int(uid[1])] = message, frozenset(flags[1].decode().split()) - {"\\Recent"}
            found[box] = validity, messages
        names = {listed(line) for line in c.command('LSUB "" *')[2]}
        c.close()
        return found, names

    def check(self):
        found, names = self.look()
        self.checks += 1
        for box, (validity, messages) in found.items():
            if not messages and box not in self.validity:
                continue  # a new mbox gets it with its first message
            assert self.validity.setdefault(box, validity) == validity, f"UIDVALIDITY of {box} was {self.validity[box]}, is {validity}"
            for uid, (cid, _) in messages.items():
                self.name(box, validity, uid, cid)
        left = {(box, uid): m for box, (_, messages) in found.items() for uid, m in messages.items()}
        for w in self.workers:
            self.settle(w, found, names, left)
        assert not left, f"came back, or are there twice: {left}"
        assert not self.errors, self.errors
        for where in self.files():
            for box, (validity, messages) in where.items():
                if validity is None and not messages and box in found:
                    where[box] = found[box]
            assert where == found, f"files say {difference(where, found)}"

    def settle(self, w, found, names, left):
        there, todo = {i: [] for i in w.items}, []
        for item in w.items:
            for box, uid in item.places:
                if uid is None:
                    todo.append((item, box))
                elif (box, uid) in left and left[box, uid][0] == item.cid:
                    there[item].append((box, uid, left.pop((box, uid))[1]))
        for item, box in sorted(todo, key=lambda t: bool(there[t[0]]) or not t[0].sure):  # first who has to be somewhere
            at = next((place for place, m in left.items() if place[0] == box and m[0] == item.cid and m[1] in item.flags), None)
            if at:
                there[item].append((*at, left.pop(at)[1]))
        items = []
        for item, places in there.items():
            assert places or not item.sure, f"lost: {item}; not accounted for: {[(p, m) for p, m in left.items() if m[0] == item.cid]}"
            self.twice += len(places) == 2
            for box, uid, flags in places:
                assert flags in item.flags, f"flags: {item} has {sorted(flags)}"
                items.append(Item(item.cid, [(box, uid)], [flags]))
        w.items = items
        for box, state in w.boxes.items():
            assert state is None or state == (box in found), f"mailbox {box}: {state} was acknowledged"
            w.boxes[box] = box in found
            if box not in found:
                self.validity.pop(box, None)
        for box, state in w.subscribed.items():
            assert state is None or state == (box in names), f"subscription of {box}: {state} was acknowledged"
            w.subscribed[box] = box in names

    def files(self):
        """The same, read out of the mailboxes' files."""
        if os.path.isdir(self.mail.maildir(1)):
            yield read_maildirs(self.mail.maildir(1))
        else:
            yield read_mboxes(self.mail.mbox(1))

    def summary(self):
        return f"{self.checks} checks, {self.twice} messages twice after a move was cut off, " + ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items()))


def listed(line):
    """The mailbox that a LIST response names."""
    return re.search(rb'"\." "?([^"\r\n]*)"?\r\n$', line)[1].decode()


def whole(text, where):
    """The message's name; it has to be all there."""
    text = text.replace(b"\r\n", b"\n")
    cid = re.search(rb"(?m)^Message-ID: <([^@]+)@t.test>$", text)
    assert cid, f"{where}: no message of ours: {text[:200]}"
    cid = cid[1].decode()
    body = text_of(cid).replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    assert text.partition(b"\n\n")[2] == body, f"{where}: not whole: {text[:100]}...{text[-100:]}"
    return cid


def difference(a, b):
    return {box: (a.get(box), b.get(box)) for box in {*a, *b} if a.get(box) != b.get(box)}


def read_maildirs(root):
    found = {}
    for path in [root] + sorted(glob.glob(f"{glob.escape(root)}/.[!.]*/")):
        box = os.path.basename(path.rstrip("/")).removeprefix(".") if path != root else "INBOX"
        if not os.path.isdir(f"{path}/cur"):
            continue
        names, keywords, messages = {}, {}, {}
        with open(f"{path}/dovecot-uidlist") as f:
            validity = int(re.search(r" V(\d+)", f.readline())[1])
            for line in f:
                head, _, name = line.rstrip("\n").partition(":")
                names[name.partition(":")[0]] = int(head.split()[0])
        if os.path.exists(f"{path}/dovecot-keywords"):
            with open(f"{path}/dovecot-keywords") as f:
                keywords = {chr(ord("a") + int(line.split()[0])): line.split()[1] for line in f}
        for name in glob.glob(f"{glob.escape(path)}/cur/*"):
            base, _, info = os.path.basename(name).partition(":2,")
            with open(name, "rb") as f:
                cid = whole(f.read(), name)
            messages[names[base]] = cid, frozenset(LETTERS.get(x) or keywords[x] for x in info)
        assert not os.listdir(f"{path}/new")
        found[box] = validity, messages
    return found


def read_mboxes(inbox):
    found = {}
    names = sorted(n for n in glob.glob(f"{inbox}.d/*") if os.path.isfile(n))
    for path in [inbox] + names:
        box = "INBOX" if path == inbox else os.path.relpath(path, f"{inbox}.d")
        messages = {}
        with open(path, "rb") as f:
            text = f.read()
        validity = re.search(rb"(?m)^X-IMAP(?:base)?: (\d+)", text)
        for message in re.split(rb"(?m)^From .*\n", text)[1:]:
            head = message.partition(b"\n\n")[0].decode() + "\n"
            own = {name: (re.search(rf"(?m)^{name}:(.*)$", head) or ("", ""))[1].split() for name in ("X-UID", "Status", "X-Status", "X-Keywords")}
            flags = {"\\Seen"} if "R" in "".join(own["Status"]) else set()
            flags |= {{"A": "\\Answered", "F": "\\Flagged", "T": "\\Draft", "D": "\\Deleted"}[x] for x in "".join(own["X-Status"])}
            if "X-IMAP" in head and "FOLDER INTERNAL DATA" in head:
                continue
            messages[int(own["X-UID"][0])] = whole(message[:-1], path), frozenset(flags | set(own["X-Keywords"]))
        if validity:
            found[box] = int(validity[1]), messages
        else:
            mark = os.getxattr(path, "user.postern.imapbase") if "user.postern.imapbase" in os.listxattr(path) else b""
            found[box] = int(mark.split()[0]) if mark else None, messages
    return found
