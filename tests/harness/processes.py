# SPDX-License-Identifier: Apache-2.0
"""Find and kill the processes of one mail system instance, and no others."""
import dataclasses
import os
import signal
import time


@dataclasses.dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    session: int
    start: int   # clock ticks since boot: tells a recycled pid from ours
    name: str
    state: str


def read(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            head, _, rest = f.read().rpartition(b")")
    except OSError:
        return None
    fields = rest.split()
    return Process(int(pid), int(fields[1]), int(fields[3]), int(fields[19]), head.partition(b"(")[2].decode("utf-8", "replace"), fields[0].decode())


def all_processes():
    return [p for p in (read(pid) for pid in os.listdir("/proc") if pid.isdigit()) if p]


def _below(pid, directory):
    for link in ("cwd", "root"):
        try:
            path = os.readlink(f"/proc/{pid}/{link}").removesuffix(" (deleted)")
        except OSError:
            continue
        if path == directory or path.startswith(directory + "/"):
            return True
    return False


def family(master, directory):
    """The living processes that descend from master, share its session, or work below directory (the queue); never ourselves."""
    everyone = all_processes()
    mine = {os.getpid(), os.getppid(), 1, 0}
    found, parents = {}, {}
    for p in everyone:
        parents.setdefault(p.parent, []).append(p)
    todo = [p for p in everyone if p.pid == master or (master and p.session == master) or _below(p.pid, directory)]
    while todo:
        p = todo.pop()
        if p.pid in found or p.pid in mine:
            continue
        found[p.pid] = p
        todo += parents.get(p.pid, [])
    return [p for p in found.values() if p.state != "Z"]


def kill(process, sig=signal.SIGKILL):
    """Signals it if it is still the one that was found. True if it was."""
    now = read(process.pid)
    if now is None or now.start != process.start or now.state == "Z":
        return False
    try:
        os.kill(process.pid, sig)
    except ProcessLookupError:
        return False
    return True


def kill_all(master, directory, seconds=10):
    """SIGKILL until none is left. Returns how many were killed."""
    end, killed = time.monotonic() + seconds, set()
    while True:
        found = family(master, directory)
        if not found:
            return len(killed)
        if time.monotonic() > end:
            raise TimeoutError(f"processes survive SIGKILL: {found}")
        for p in found:
            kill(p)
            killed.add(p.pid)
        time.sleep(.005)
