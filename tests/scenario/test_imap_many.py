# SPDX-License-Identifier: Apache-2.0
"""Very many sessions in IDLE: they are parked, cost little memory, and each is told of its delivery. IDLE_SESSIONS=10000 is the long form; with -s
it prints what it measured."""
import os
import re
import resource
import select
import socket
import time

from reading import PASSWORD, Reading

COUNT = int(os.environ.get("IDLE_SESSIONS", "200"))
SESSION_KIB = 20  # of memory for each, kernel memory aside


def proportional_kib(server):
    total = 0
    for p in server.processes():
        try:
            with open(f"/proc/{p.pid}/smaps_rollup", encoding="ascii") as f:
                total += int(re.search(r"^Pss: +(\d+)", f.read(), re.M)[1])
        except OSError:  # it has ended, or we may not look
            continue
    return total


def user_processes(server):
    """Those that serve somebody now."""
    found = 0
    for p in server.processes("imap-session"):
        try:
            with open(f"/proc/{p.pid}/cmdline", "rb") as f:
                found += f.read().startswith(b"imap-session: u")
        except OSError:
            continue
    return found


def idle(server, n):
    """A connection of user n in IDLE."""
    s = socket.create_connection(("127.0.0.1", server.imap_port), 120)
    f = s.makefile("rb")
    f.readline()
    for command in (f'a LOGIN u{n}@read.test "{PASSWORD}"', "b SELECT INBOX", "c IDLE"):
        s.sendall(command.encode() + b"\r\n")
        while not (line := f.readline()).startswith((b"+ ", command[:2].encode())):
            assert line
        assert line.startswith((b"+ ", command[:2].encode() + b"OK")), line
    f.detach()  # nothing is buffered: the server waits for us
    s.setblocking(False)
    return s


class News:
    """How long each delivery took to be told: times[n] in seconds."""
    def __init__(self, sockets):
        self.sockets, self.poll, self.names = sockets, select.poll(), {s.fileno(): n for n, s in sockets.items()}
        self.since, self.seen, self.times = {}, {}, {}
        for fd in self.names:
            self.poll.register(fd, select.POLLIN)

    def take(self, milliseconds):
        for fd, _ in self.poll.poll(milliseconds):
            n = self.names[fd]
            got = self.sockets[n].recv(4096)
            assert got, f"the session of u{n} has ended"
            self.seen[n] = self.seen.get(n, b"") + got
            if n not in self.times and b" EXISTS\r\n" in self.seen[n]:
                self.times[n] = time.monotonic() - self.since[n]


def test_many_sessions_in_idle_cost_little_and_are_told_of_their_mail():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with Reading(users=COUNT, settings={"imap_park_time": "1s", "login_client_connection_limit": "0", "auth_client_failure_limit": "0",
                                        "virtual_mailbox_maps": r"regexp:{{/^(u[0-9]+)@read\.test$$/ $$1/}}"}) as server:
        before = proportional_kib(server)
        sockets = {n: idle(server, n) for n in range(1, COUNT + 1)}
        server.wait(lambda: user_processes(server) == 0, 300, "all sessions are parked", 0.5)
        after = proportional_kib(server)
        print(f"{COUNT} sessions: {after - before} KiB more than before, {after / 1024:.1f} MiB in all")
        assert after - before < SESSION_KIB * COUNT + 4096
        news = News(sockets)
        for n in sockets:
            news.since[n] = time.monotonic()
            server.put(n, b"Subject: news\r\n\r\nx\r\n")
            news.take(0)
        end = time.monotonic() + 300
        while len(news.times) < COUNT and time.monotonic() < end:
            news.take(1000)
        times = sorted(news.times.values())
        assert len(times) == COUNT
        print(f"told after: median {times[COUNT // 2] * 1000:.0f} ms, slowest {times[-1] * 1000:.0f} ms")
        for s in sockets.values():
            s.close()
