# SPDX-License-Identifier: Apache-2.0
"""What ./try prints, where it lives, and the processes that it leaves running.

HOME is $TRY_DIR, by default try.d in the project, or a folder below /var/tmp where root runs it and the project can't be entered by the users that
the daemons run as. Processes are remembered by pid and start time, so that nothing else is ever ended.
"""
import os
import signal
import socket
import stat
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def can_be_entered(path):
    while path != "/":
        if not os.stat(path).st_mode & stat.S_IXOTH:
            return False
        path = os.path.dirname(path)
    return True


HOME = os.environ.get("TRY_DIR") or (f"{TOP}/try.d" if os.geteuid() or can_be_entered(TOP) else "/var/tmp/postern-try")


def say(text=""):
    print(text, flush=True)


def title(text):
    say(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


def show(text):
    """A program's output or a file, set in."""
    for line in text.rstrip().splitlines():
        say(f"    {line}")


def fail(text):
    say(f"./try failed: {text}")
    say(f"The log is {HOME}/log/mail.log; ./try stop ends what was started.")
    sys.exit(1)


def started_at(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def remember(name, pid):
    with open(f"{HOME}/run/{name}.pid", "w") as f:
        f.write(f"{pid} {started_at(pid)}\n")


def end(name):
    path = f"{HOME}/run/{name}.pid"
    try:
        with open(path) as f:
            pid, start = f.read().split()
    except (OSError, ValueError):
        return
    if started_at(pid) == start:
        try:
            os.kill(int(pid), signal.SIGTERM)
        except PermissionError:
            sys.exit(f"process {pid} ({name}) of an earlier ./try belongs to another user, who has to run: ./try stop")
        for _ in range(600):
            try:
                os.waitpid(int(pid), os.WNOHANG)  # it may be a child of ours
            except ChildProcessError:
                pass
            if started_at(pid) != start:
                break
            time.sleep(.05)
    os.unlink(path)


def background(name, argv):
    with open(f"{HOME}/log/{name}.log", "ab") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    remember(name, process.pid)
    return process


def wait_port(host, port, what):
    for _ in range(600):
        try:
            return socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(.05)
    fail(f"{what} does not answer on {host}:{port}")
