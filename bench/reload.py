#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a reload costs those who send meanwhile, Postern beside Debian's Postfix.

usage: reload.py [--targets postfix,postern] [--runs 3] [--seconds 10]

Four clients send small messages, a connection for each, while one delivery waits for a host that answers after nine seconds. Printed for each run: the longest
session before and after a reload, the longest time from a client's connection to the arrival at the next host, and how often the slow message was begun and
delivered. Runs of the targets are interleaved. Postfix needs root and the tree $PEERS/postfix.
"""
import argparse
import os
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{TOP}/tests")

from harness import Instance, Sink, delay, send  # noqa: E402

CLIENTS, SLOW = 4, 9


class Clients:
    def __init__(self, port, sink):
        self.port, self.begun, self.arrived, self.sessions, self.stopping = port, {}, {}, [], False
        sink.on_message = lambda m: self.arrived.setdefault(m.recipients[0], time.monotonic())
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _run(self, n):
        i = 0
        while not self.stopping:
            recipient, begin = f"c{n}-{i}@far.test", time.monotonic()
            self.begun[recipient] = begin
            answer = send("a@src.test", [recipient], b"Subject: x\r\n\r\nx\r\n", port=self.port)
            if answer.code != 250:
                raise SystemExit(f"refused: {answer}")
            self.sessions.append((begin, time.monotonic() - begin))
            i += 1
            time.sleep(.02)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()

    def longest_session(self, begin, end):
        return max(seconds for at, seconds in self.sessions if begin <= at < end)

    def longest_way(self, begin):
        return max(self.arrived[r] - at for r, at in self.begun.items() if at >= begin and r in self.arrived)


def run(target, seconds):
    with Sink() as sink, Instance(target=target, relay=sink) as mail:
        sink.on("rcpt", delay(SLOW), match=b"slow@")
        send("a@src.test", ["slow@far.test"], b"Subject: x\r\n\r\nx\r\n", port=mail.port)
        mail.wait(lambda: any("slow@" in line for _, line in sink.transcript), what="the slow delivery")
        clients = Clients(mail.port, sink)
        time.sleep(2)
        cut = time.monotonic()
        mail.reload()
        time.sleep(seconds)
        clients.stop()
        mail.wait(lambda: len(clients.arrived) > len(clients.begun), 60, what="all is delivered, also the slow one")
        begun = sum("slow@" in line for _, line in sink.transcript)
        delivered = sum(m.recipients == ["slow@far.test"] for m in sink.messages)
        print(f"| {target} | {clients.longest_session(0, cut) * 1000:.0f} | {clients.longest_session(cut, cut + 1e9) * 1000:.0f} | "
              f"{clients.longest_way(cut) * 1000:.0f} | {begun} | {delivered} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--targets", default="postfix,postern")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--seconds", type=float, default=10)
    args = p.parse_args()
    print("| target | session before, ms | after | until delivered, ms | slow begun | slow delivered |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    for _ in range(args.runs):
        for target in args.targets.split(","):
            run(target, args.seconds)


if __name__ == "__main__":
    main()
