#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A mixed load of IMAP sessions on any server: commands a second, and the server's CPU for each.

    bench/imap_mixed.py --port 1143 --user u%d --users 50 --clients 50 --seconds 15 --cgroup NAME | --pid ROOT

Each session logs in as one of the users and gives LIST, SELECT, FETCH (of one, seldom of all), STORE, COPY, APPEND, EXPUNGE, SEARCH and
FETCH BODY[] by chance, on INBOX and a mailbox Copies. The client is two processes; it measures with ../shared/bench/imap_bench.py."""
import argparse
import collections
import json
import os
import random
import socket
import sys
import threading
import time

CHOICES = {"LIST": 5, "SELECT": 4, "FETCH": 20, "STORE": 12, "COPY": 4, "APPEND": 10, "EXPUNGE": 2, "BODY": 4, "SEARCH": 2}
FIELDS = b"(UID FLAGS ENVELOPE BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE)])"


class Session:
    def __init__(self, args, number):
        self.socket = socket.create_connection((args.host, args.port))
        self.file = self.socket.makefile("rb", 1 << 16)
        self.file.readline()
        self.exists = 0
        self.refused = 0
        user = args.user.replace("%d", str(1 + number % args.users))
        self.command(f"LOGIN {user} {args.password}".encode())

    def command(self, line, literal=None):
        more = b"" if literal is None else b" {%d+}\r\n" % len(literal) + literal
        self.socket.sendall(b"a " + line + more + b"\r\n")
        while True:
            answer = self.file.readline()
            if not answer:
                raise SystemExit(f"closed after {line[:60]!r}")
            if answer.startswith(b"a "):
                self.refused += not answer.startswith(b"a OK")
                return
            if answer.endswith(b" EXISTS\r\n"):
                self.exists = int(answer.split()[1])
            self.exists -= answer.endswith(b" EXPUNGE\r\n")
            while answer.endswith(b"}\r\n"):
                self.file.read(int(answer[answer.rfind(b"{") + 1:-3]))
                answer = self.file.readline()

    def step(self, rng, messages):
        word = rng.choices(list(CHOICES), list(CHOICES.values()))[0]
        if self.exists == 0 and word in ("FETCH", "STORE", "COPY", "BODY"):
            word = "APPEND"
        one = b"%d" % rng.randint(1, max(1, self.exists))
        if word == "STORE":
            flag = rng.choice([b"\\Seen", b"\\Flagged", b"\\Deleted", b"\\Answered"])
            self.command(b"STORE %s %sFLAGS (%s)" % (one, rng.choice([b"+", b"-"]), flag))
        elif word == "APPEND":
            self.command(b"APPEND INBOX", rng.choice(messages))
        else:
            self.command({"LIST": b'LIST "" "*"', "SELECT": b"SELECT INBOX", "COPY": b"COPY %s Copies" % one, "EXPUNGE": b"EXPUNGE",
                          "FETCH": b"FETCH %s %s" % (b"1:*" if rng.random() < 0.1 else one, FIELDS), "BODY": b"FETCH %s BODY[]" % one,
                          "SEARCH": b"SEARCH SUBJECT report"}[word])
        return word


def run(args, number, stop, messages, counts, times):
    rng = random.Random(number)
    session = Session(args, number)
    session.command(b"CREATE Copies")
    session.command(b"SELECT INBOX")
    session.refused = 0
    while time.perf_counter() < stop:
        begun = time.perf_counter()
        word = session.step(rng, messages)
        counts[word] += 1
        times[word] += time.perf_counter() - begun
    counts["refused"] += session.refused
    session.command(b"LOGOUT")


def child(args, first, messages, out):
    counts, times = collections.Counter(), collections.Counter()
    stop = time.perf_counter() + args.seconds
    threads = [threading.Thread(target=run, args=(args, n, stop, messages, counts, times)) for n in range(first, args.clients, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(out, json.dumps([counts, times]).encode())
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("host", "127.0.0.1"), ("port", 1143), ("user", "u%d"), ("password", "pass"), ("users", 50), ("clients", 50),
                          ("seconds", 15), ("pid", 0), ("cgroup", "")):
        parser.add_argument(f"--{name}", default=default, type=type(default))
    parser.add_argument("--shared", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../shared/bench"))
    args = parser.parse_args()
    sys.path.insert(0, args.shared)
    import imap_bench
    meter = imap_bench.Meter(args.cgroup, args.pid)
    mail = imap_bench.Mail(5)
    messages = [mail.message(3000) for _ in range(40)]
    counts, times, pipes = collections.Counter(), collections.Counter(), []
    cpu, begun = meter.cpu(), time.perf_counter()
    for first in range(2):
        ours, theirs = os.pipe()
        if os.fork() == 0:
            child(args, first, messages, theirs)
        os.close(theirs)
        pipes.append(ours)
    for ours in pipes:
        with os.fdopen(ours) as f:
            part = json.loads(f.read() or "[{}, {}]")
        os.wait()
        counts.update(part[0])
        times.update(part[1])
    wall, cpu = time.perf_counter() - begun, meter.cpu() - cpu
    refused = counts.pop("refused", 0)
    total = sum(counts.values())
    if not total:
        sys.exit("no command was answered")
    print(f"{total / wall:.0f} commands a second, {cpu / total * 1e6:.0f} us of CPU each, {refused} refused")
    for word in CHOICES:
        print(f"  {word:8} {counts[word]:6}  {times[word] / max(1, counts[word]) * 1e3:.1f} ms each")


if __name__ == "__main__":
    main()
