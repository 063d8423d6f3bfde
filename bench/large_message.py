#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A message of 50 MiB: how long until it is acknowledged, and until the next host has it, beside `cp` with fsync of as many bytes on the
same disk; and how much memory each process had at most, beside what it had after a message of 4 KiB.

    POSTERN_BUILD=DIR bench/large_message.py [--mib N] [--rounds N] [--real-time]

--real-time (root): what is measured, `cp` too, goes before all else that the machine does, for one that is not quiet.
"""
import argparse
import os
import socket
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests"))
from harness import Instance, Sink  # noqa: E402

LINE = b"x" * 70 + b"\r\n"
END = b".\r\n"


def submit(port, content):
    """Seconds from DATA's reply to the reply to the last dot, which content has."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as s, s.makefile("rb") as replies:
        def say(text, code):
            if text:
                s.sendall(text)
            line = b"----"
            while line[3:4] == b"-":
                line = replies.readline()
            assert line.startswith(code), line
        say(b"", b"220")
        say(b"EHLO bench.test\r\n", b"250")
        say(b"MAIL FROM:<a@src.test>\r\n", b"250")
        say(b"RCPT TO:<b@far.test>\r\n", b"250")
        say(b"DATA\r\n", b"354")
        begin = time.monotonic()
        say(content, b"250")
        return time.monotonic() - begin


def copy(directory, content):
    """What `cp` with fsync of a file that is in memory costs."""
    with tempfile.NamedTemporaryFile(dir=directory) as source, tempfile.NamedTemporaryFile(dir=directory) as target:
        source.write(content)
        source.flush()
        os.fsync(source.fileno())
        source.seek(0)
        begin = time.monotonic()
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 20):
            pass
        os.fsync(target.fileno())
        return time.monotonic() - begin


def peaks(mail):
    found = {}
    for p in mail.processes():
        try:
            with open(f"/proc/{p.pid}/status", encoding="ascii", errors="replace") as f:
                peak = next((int(line.split()[1]) for line in f if line.startswith("RssAnon:")), 0)
        except OSError:
            continue
        found[p.name] = max(found.get(p.name, 0), peak)
    return found


def go_first(mail):
    for pid in [os.getpid(), *(p.pid for p in mail.processes())]:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(5))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mib", type=int, default=50)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--real-time", action="store_true")
    options = options.parse_args()
    content = b"Subject: large\r\n\r\n" + LINE * (options.mib * (1 << 20) // len(LINE)) + END
    sink = Sink(keep=False).start()
    accepted, delivered, copied = [], [], []
    with Instance(relay=sink, settings={"message_size_limit": "0"}) as mail:
        submit(mail.port, b"Subject: small\r\n\r\n" + LINE * 56 + END)
        sink.wait_count(1)
        before, most = peaks(mail), {}
        if options.real_time:
            go_first(mail)
        for n in range(options.rounds):
            copied.append(copy(mail.spool, content))
            begin = time.monotonic()
            accepted.append(submit(mail.port, content))
            while sink.accepted < n + 2:
                for name, size in peaks(mail).items():
                    most[name] = max(most.get(name, 0), size)
                time.sleep(0.02)
            delivered.append(time.monotonic() - begin)
    sink.stop()
    base = statistics.median(copied)
    for what, times in (("cp with fsync", copied), ("accepted", accepted), ("delivered to a sink in Python", delivered)):
        median = statistics.median(times)
        print(f"{what}: median {median:.3f} s ({median / base:.2f} times), {min(times):.3f} to {max(times):.3f}")
    for name in sorted(most):
        print(f"{name}: {before.get(name, 0)} KiB of its own after 4 KiB, at most {most[name]} later")


main()
