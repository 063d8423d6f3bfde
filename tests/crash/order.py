#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What may be on the disk after a power cut, on any file system, tried one state after the other.

usage: order.py [--states N] [--seed S] [--lie] [--keep] [--verbose]

A private system takes some messages; one is delivered at once, one is deferred and becomes a queue file, one is delivered after that. strace says in
what order its daemons changed files and directories of the queue, and what they synced. POSIX promises little: only what was synced is there after a
cut; of the rest, any part may be. For a cut after each change the states are made in which of what was not promised nothing is there, all, all
but one change, or one alone (the data of a file, its length, a name in a directory each count as a change). In each such state the system is started. Then every message
that had been acknowledged before the cut must have reached the next host or be in the queue, whole; nobody may panic, no file may be left over.

--states: try so many, taken at random (default: all). --lie: syncs count for nothing, so a message must be lost, else the run fails.
The states do not include torn writes, nor data that was overwritten without a sync between.
"""
import argparse
import os
import random
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import Instance, Sink, inject, reply, send  # noqa: E402
from harness.inject import _strace  # noqa: E402

DAEMONS = ("smtpd", "cleanup", "qmgr", "bounce")
CALLS = ("openat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,fallocate,fchmod,fsync,fdatasync,syncfs,rename,renameat,renameat2,unlink,unlinkat,"
         "link,linkat,mkdir,mkdirat,rmdir,sendto,sendmsg")
BODY = (b"x" * 70 + b"\r\n") * 40
LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+|\?)(.*) <(\d+\.\d+)>$", re.S)


class Change:
    """One change of a file (inode) or of a directory's names."""
    def __init__(self, begin, end, what, place, apply):
        self.begin, self.end, self.what, self.place, self.apply = begin, end, what, place, apply
        self.synced = float("inf")  # when it was promised


class Tree:
    """Names and contents below the queue directory; names point to numbers of files."""
    def __init__(self):
        self.names, self.files, self.directories = {}, {}, {}

    @classmethod
    def read(cls, top):
        tree = cls()
        for path, directories, names in os.walk(top):
            for name in directories:
                s = os.stat(f"{path}/{name}")
                tree.directories[os.path.relpath(f"{path}/{name}", top)] = (s.st_mode & 0o7777, s.st_uid, s.st_gid)
            for name in names:
                full = f"{path}/{name}"
                if os.path.isfile(full) and not os.path.islink(full):
                    s = os.stat(full)
                    with open(full, "rb") as f:
                        tree.files[s.st_ino] = (f.read(), s.st_mode & 0o7777)
                    tree.names[os.path.relpath(full, top)] = s.st_ino
        return tree

    def copy(self):
        other = Tree()
        other.names, other.directories = dict(self.names), dict(self.directories)
        other.files = dict(self.files)  # contents are never changed, only replaced
        return other

    def write(self, top, uid, gid):
        shutil.rmtree(top)
        os.mkdir(top, 0o755)
        for path, (mode, owner, group) in sorted(self.directories.items()):
            os.makedirs(f"{top}/{path}", exist_ok=True)
            os.chown(f"{top}/{path}", owner, group)
            os.chmod(f"{top}/{path}", mode)
        for path, number in self.names.items():
            data, mode = self.files[number]
            if not os.path.isdir(os.path.dirname(f"{top}/{path}")):
                continue  # the directory's own name is not there
            with open(f"{top}/{path}", "wb") as f:
                f.write(data)
            if not path.startswith("pid/"):
                os.chown(f"{top}/{path}", uid, gid)
            os.chmod(f"{top}/{path}", mode)

    def key(self):
        return hash((tuple(sorted(self.directories)), tuple(sorted(self.names.items())), tuple((n, d, m) for n, (d, m) in sorted(self.files.items()))))


def put(tree, number, offset, data):
    content, mode = tree.files[number]
    content = content.ljust(offset, b"\0")
    tree.files[number] = (content[:offset] + data + content[offset + len(data):], mode)


def cut(tree, number, length):
    content, mode = tree.files[number]
    tree.files[number] = (content[:length].ljust(length, b"\0"), mode)


def text(hexed):
    """What strace -xx shows of a string."""
    return bytes.fromhex(hexed.replace("\\x", ""))


class Reader:
    """Makes changes, syncs and acknowledgements of the lines that strace wrote."""
    def __init__(self, top, tree):
        self.top, self.start = top, tree
        self.live = tree.copy()     # as the processes saw it
        self.where = {}             # by file: position of plain writes
        self.changes, self.syncs, self.acknowledged = [], [], []
        self.next = 1 << 62

    def inside(self, path):
        path = os.path.normpath(path)
        return os.path.relpath(path, self.top) if path.startswith(self.top + "/") else None

    def add(self, begin, end, what, place, apply):
        apply(self.live)
        self.changes.append(Change(begin, end, what, place, apply))

    def name_of(self, arguments, first):
        """The path of an `at` call's arguments: a descriptor with its path, and a string; or a plain string."""
        if arguments[first].startswith('"'):
            path = os.fsdecode(text(arguments[first].strip('"')))
            return self.inside(path if path.startswith("/") else f"{self.top}/{path}"), first + 1
        directory = re.search(r"<(.*)>$", arguments[first])
        name = os.fsdecode(text(arguments[first + 1].strip('"')))
        base = os.fsdecode(text(directory[1])) if directory and directory[1].startswith("\\x") else directory[1] if directory else self.top
        return self.inside(name if name.startswith("/") else f"{base}/{name}"), first + 2

    def file_of(self, argument):
        """(path, number) of a descriptor's file in the queue, or None."""
        found = re.match(r"\d+<(.*)>$", argument)
        if not found:
            return None
        path = os.fsdecode(text(found[1])) if found[1].startswith("\\x") else found[1]
        path = self.inside(path)
        return path and (path, self.live.names.get(path))

    def line(self, begin, call, arguments, result, shown, took):
        end = begin + took
        if call in ("sendto", "sendmsg", "write", "writev") and b"250 2.0.0 Ok: queued as" in b"".join(
                text(s) for s in re.findall(r'"((?:\\x[0-9a-f]{2})+)"', arguments)):
            self.acknowledged.append(begin)
            return
        if result.startswith("-") or result == "?":
            return
        parts = split(arguments)
        getattr(self, call, self.ignore)(begin, end, parts, int(result), shown)

    def ignore(self, *_):
        pass

    def openat(self, begin, end, parts, result, shown):
        path, _ = self.name_of(parts, 0)
        if path is None:
            return
        if path in self.live.names:
            number = self.live.names[path]
            if "O_TRUNC" in parts[2] and self.live.files[number][0]:
                self.add(begin, end, f"length 0 of {path}", number, lambda t: cut(t, number, 0))
            return
        if "O_CREAT" not in parts[2]:
            return
        self.next += 1
        number, mode = self.next, int(parts[3], 8) & 0o7777 if len(parts) > 3 else 0o600
        self.start.files[number] = self.live.files[number] = (b"", mode)  # nobody's until it gets a name
        self.add(begin, end, f"create {path}", os.path.dirname(path), lambda t: t.names.__setitem__(path, number))

    def data(self, begin, end, target, offset, data):
        if not target or target[1] is None:
            return
        path, number = target
        self.add(begin, end, f"write {len(data)} at {offset} of {path}", number, lambda t: put(t, number, offset, data))

    def pwrite64(self, begin, end, parts, result, shown):
        self.data(begin, end, self.file_of(parts[0]), int(parts[3]), text(parts[1].strip('"'))[:result])

    def pwritev(self, begin, end, parts, result, shown):
        data = b"".join(text(s) for s in re.findall(r'iov_base="([^"]*)"', parts[1]))[:result]
        self.data(begin, end, self.file_of(parts[0]), int(parts[3]), data)

    def next_place(self, target, length):
        """Where a plain write goes. Queue files are written from their start; done-lists are opened for appending, maybe before we look."""
        path, number = target
        at = len(self.live.files[number][0]) if path.endswith(".done") else self.where.get(number, 0)
        self.where[number] = at + length
        return at

    def write(self, begin, end, parts, result, shown):
        target = self.file_of(parts[0])
        if target and target[1] is not None:
            self.data(begin, end, target, self.next_place(target, result), text(parts[1].strip('"'))[:result])

    def writev(self, begin, end, parts, result, shown):
        target = self.file_of(parts[0])
        if target and target[1] is not None:
            data = b"".join(text(s) for s in re.findall(r'iov_base="([^"]*)"', parts[1]))[:result]
            self.data(begin, end, target, self.next_place(target, result), data)

    def ftruncate(self, begin, end, parts, result, shown):
        target = self.file_of(parts[0])
        if target and target[1] is not None:
            self.add(begin, end, f"length {parts[1]} of {target[0]}", target[1], lambda t: cut(t, target[1], int(parts[1])))

    def fallocate(self, begin, end, parts, result, shown):
        target = self.file_of(parts[0])
        if target and target[1] is not None and parts[1] == "0":
            length = int(parts[2]) + int(parts[3])
            self.add(begin, end, f"room for {length} in {target[0]}", target[1],
                     lambda t: cut(t, target[1], max(length, len(t.files[target[1]][0]))))

    def fchmod(self, begin, end, parts, result, shown):
        target = self.file_of(parts[0])
        if target and target[1] is not None:
            mode = int(parts[1], 8) & 0o7777
            self.add(begin, end, f"mode {parts[1]} of {target[0]}", target[1], lambda t: t.files.__setitem__(target[1], (t.files[target[1]][0], mode)))

    def fsync(self, begin, end, parts, result, shown):
        target = self.file_of(parts[0])
        if target:
            self.syncs.append((begin, end, target[0] if target[1] is None else target[1]))

    fdatasync = fsync

    def syncfs(self, begin, end, parts, result, shown):
        self.syncs.append((begin, end, None))

    def rename(self, begin, end, parts, result, shown):
        old, rest = self.name_of(parts, 0)
        new, _ = self.name_of(parts, rest)
        if old is None or new is None or old not in self.live.names:
            return
        number = self.live.names[old]
        # The two directories are two changes where they differ: a file system may keep one without the other.
        if os.path.dirname(old) == os.path.dirname(new):
            def both(t):
                t.names.pop(old, None)
                t.names[new] = number
            self.add(begin, end, f"rename {old} to {new}", os.path.dirname(new), both)
        else:
            self.add(begin, end, f"name {new} for {old}", os.path.dirname(new), lambda t: t.names.__setitem__(new, number))
            self.add(begin, end, f"no name {old}", os.path.dirname(old), lambda t: t.names.pop(old, None))

    renameat = renameat2 = rename

    def unlink(self, begin, end, parts, result, shown):
        path, _ = self.name_of(parts, 0)
        if path is not None and path in self.live.names:
            self.add(begin, end, f"remove {path}", os.path.dirname(path), lambda t: t.names.pop(path, None))

    unlinkat = unlink

    def mkdir(self, begin, end, parts, result, shown):
        path, rest = self.name_of(parts, 0)
        if path is not None and path not in self.live.directories:
            s = os.stat(f"{self.top}/{path}")
            self.add(begin, end, f"directory {path}", os.path.dirname(path),
                     lambda t: t.directories.__setitem__(path, (s.st_mode & 0o7777, s.st_uid, s.st_gid)))

    mkdirat = mkdir

    def link(self, begin, end, parts, result, shown):
        old, rest = self.name_of(parts, 0)
        new, _ = self.name_of(parts, rest)
        if old in self.live.names and new is not None:
            number = self.live.names[old]
            self.add(begin, end, f"link {new}", os.path.dirname(new), lambda t: t.names.__setitem__(new, number))

    linkat = link

    def promise(self, lie):
        """Which sync promises which change: one that began when the change was made."""
        for change in self.changes:
            ends = [end for begin, end, place in self.syncs if begin >= change.end and place in (None, change.place)]
            change.synced = float("inf") if lie else min(ends, default=float("inf"))


def split(arguments):
    """At the commas outside quotes and brackets."""
    parts, depth, quoted, begin = [], 0, False, 0
    for i, c in enumerate(arguments):
        if c == '"':
            quoted = not quoted
        elif not quoted:
            depth += (c in "[{(") - (c in "]})")
            if c == "," and depth == 0:
                parts.append(arguments[begin:i].strip())
                begin = i + 1
    return parts + [arguments[begin:].strip()]


def record(mail, sink):
    """Runs the messages through; returns the tree before them, and a Reader of what was done."""
    for daemon in DAEMONS:
        with open(f"{mail.control}/{daemon}.run", "w") as f:
            f.write(f"export POSTERN_NO_SECCOMP=1\nexec {_strace(mail)} -D -ff -qq -y -xx -ttt -T -s 9999999 -e signal=none -e trace={CALLS} "
                    f"-o {mail.control}/{daemon}.$$ $R \"$@\"\n")
    mail.start()
    post(mail, "first")
    sink.wait_count(1)
    mail.wait(mail.is_empty, what="the first message gone")
    time.sleep(.5)
    before, begin = Tree.read(mail.spool), time.time()
    post(mail, "now")
    sink.wait_count(2)
    sink.on("rcpt", reply("450 4.2.0 later"), match=b"later")
    post(mail, "later")
    mail.wait_log(r"status=deferred")
    mail.wait(lambda: mail.queue_messages("deferred"), what="a queue file")
    post(mail, "last")
    sink.wait_count(3)
    time.sleep(1)
    sink.clear()
    mail.kill_all()
    reader = Reader(mail.spool, before)
    lines = []
    for name in os.listdir(mail.control):
        if not re.fullmatch(rf"({'|'.join(DAEMONS)})\.\d+\.\d+", name):
            continue
        with open(f"{mail.control}/{name}", errors="replace") as f:
            for line in f:
                found = LINE.match(line.rstrip("\n"))
                if found and float(found[1]) >= begin:
                    lines.append((float(found[1]), found[2], found[3], found[4], found[5], float(found[6])))
    for line in sorted(lines, key=lambda l: l[0] + l[5]):
        reader.line(*line)
    return reader


def post(mail, name):
    answer = send("a@src.test", [f"{name}@far.test"], f"Subject: {name}\r\n\r\n".encode() + BODY, port=mail.port)
    assert answer.code == 250, answer


def states(reader):
    """(moment, description, tree) of each state that is unlike those before it."""
    seen, tried = set(), set()
    moments = sorted({c.end for c in reader.changes} | {end for _, end, _ in reader.syncs} | set(reader.acknowledged))
    for moment in moments:
        made = [c for c in reader.changes if c.begin <= moment]
        free = [c for c in made if c.synced > moment]
        choices = [("nothing unpromised", []), ("all", free)]
        choices += [(f"all but: {c.what}", [f for f in free if f is not c]) for c in free]
        choices += [(f"only: {c.what}", [c]) for c in free]
        acknowledged = sum(when <= moment for when in reader.acknowledged)
        for what, kept in choices:
            applied = [c for c in made if c.synced <= moment or c in kept]
            same = (frozenset(map(id, applied)), acknowledged)
            if same in tried:
                continue
            tried.add(same)
            tree = reader.start.copy()
            for change in applied:
                change.apply(tree)
            key = (tree.key(), acknowledged)
            if key not in seen:
                seen.add(key)
                yield moment, acknowledged, what, tree


def judge(mail, sink, state, delivered, owner, patience):
    """Starts the system in that state; returns what is wrong."""
    moment, acknowledged, what, tree = state
    tree.write(mail.spool, *owner)
    sink.messages.clear()
    if os.path.exists(mail.log_file):
        os.unlink(mail.log_file)
    names = ["now", "later", "last"][:acknowledged]
    wanted = {n for n in names if delivered.get(n, float("inf")) > moment}
    wrong = []
    mail.start()

    def arrived():
        return {m.recipients[0].partition("@")[0] for m in sink.messages}
    try:
        mail.wait(lambda: (wanted <= arrived() and mail.is_empty()) or (mail.flush() and False), patience, "all delivered", step=1)
    except TimeoutError:
        wrong.append(f"not there: {sorted(wanted - arrived())}, queue {'empty' if mail.is_empty() else 'not empty'}")
    for message in sink.messages:
        if BODY not in message.content:
            wrong.append("a message is not whole")
    wrong += [f"log: {line}" for line in mail.complaints()]
    mail.stop()
    wrong += [f"left over: {name}" for name in mail.alien_files()]
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lie", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    o = parser.parse_args()
    bad = 0
    with Sink() as sink, Instance(relay=sink, wrap=DAEMONS, start=False, settings={"minimal_backoff_time": "300s", "journal_segment_size": "1048576"}) as mail:
        mail.keep = o.keep
        times = {}
        sink.on_message = lambda m: times.setdefault(m.recipients[0].partition("@")[0], time.time())
        reader = record(mail, sink)
        sink.on_message = None
        reader.promise(o.lie)
        if o.verbose:
            for change in reader.changes:
                print(f"{change.end:.6f} {change.what}; promised {change.synced:.6f}")
        inject.disarm(mail)
        all_states = list(states(reader))
        chosen = random.Random(o.seed).sample(all_states, min(o.states, len(all_states))) if o.states else all_states
        print(f"{len(reader.changes)} changes, {len(reader.syncs)} syncs, {len(reader.acknowledged)} acknowledged; {len(all_states)} states, {len(chosen)} tried, seed {o.seed}")
        if len(reader.acknowledged) != 3 or not reader.changes or not reader.syncs:
            sys.exit("the traces do not show what they should")
        owner = (mail.uid, -1) if not os.geteuid() else (-1, -1)
        for state in chosen:
            wrong = judge(mail, sink, state, times, owner, 8 if o.lie else 60)
            if wrong:
                bad += 1
                print(f"cut at {state[0]:.6f}, {state[1]} acknowledged, {state[2]}:", *wrong, sep="\n    ", flush=True)
                if o.lie:
                    print("the lie was noticed")
                    return
            mail.kill_all()
    print(f"{len(chosen)} states, {bad} bad")
    if o.lie or bad:
        sys.exit(1)


if __name__ == "__main__":
    main()
