#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What ./try does once Postern is built: try.py start | stop, and (used by itself) sink HOST PORT NAME.

Everything is below ./try.d: the instance's configuration, queue and log, a name server's (nsd), two receiving servers'
("sinks"), which stand for the MX hosts of far.test: mx1 (preference 10, 127.0.0.2) and mx2 (20, 127.0.0.3).
"""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests"))
from harness.instance import Instance, free_port  # noqa: E402
from harness.sink import Sink  # noqa: E402

HOME = f"{TOP}/try.d"


def say(text=""):
    print(text, flush=True)


def title(text):
    say(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


def fail(text):
    say(f"./try failed: {text}")
    say(f"The log is {HOME}/log/mail.log; ./try stop ends what was started.")
    sys.exit(1)


# ---- processes that stay: remembered by pid and start time, so that nothing else is ever ended ----

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
    try:
        with open(f"{HOME}/run/{name}.pid") as f:
            pid, start = f.read().split()
    except (OSError, ValueError):
        return
    if started_at(pid) == start:
        os.kill(int(pid), signal.SIGTERM)
        for _ in range(200):
            if started_at(pid) != start:
                break
            time.sleep(.05)
    os.unlink(f"{HOME}/run/{name}.pid")


def background(name, argv):
    with open(f"{HOME}/log/{name}.log", "ab") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    remember(name, process.pid)
    return process


# ---- the pieces ----

def sink(host, port, name):
    """Takes mail until it is ended; each message becomes a file in try.d/NAME/."""
    folder = f"{HOME}/{name}"
    os.makedirs(folder, exist_ok=True)
    number = len(os.listdir(folder))

    def keep(message):
        nonlocal number
        number += 1
        with open(f"{folder}/{number}.eml", "wb") as f:
            f.write(message.content)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Sink(host=host, port=int(port)) as receiver:
        receiver.keep = False
        receiver.on_message = keep
        while True:
            signal.pause()


def start_sink(name, host, port):
    background(name, [sys.executable, os.path.abspath(__file__), "sink", host, str(port), name])
    wait_port(host, port, name)


def start_dns(port):
    folder = f"{HOME}/dns"
    os.makedirs(folder)
    with open(f"{folder}/far.test.zone", "w") as f:
        f.write("$ORIGIN far.test.\n$TTL 60\n@ SOA ns. hostmaster. 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
                "@ MX 10 mx1\n@ MX 20 mx2\nmx1 A 127.0.0.2\nmx2 A 127.0.0.3\ndead MX 10 nowhere\nnowhere A 127.0.0.4\n")
    user = pwd.getpwuid(os.geteuid()).pw_name
    with open(f"{folder}/nsd.conf", "w") as f:
        f.write(f"server:\n  ip-address: 127.0.0.1@{port}\n  username: \"{user}\"\n  chroot: \"\"\n  zonesdir: \"{folder}\"\n"
                f"  zonelistfile: \"{folder}/zone.list\"\n  database: \"\"\n  xfrdfile: \"{folder}/xfrd.state\"\n  xfrdir: \"{folder}\"\n"
                f"  pidfile: \"{folder}/nsd.pid\"\n  server-count: 1\n  do-ip6: no\nremote-control:\n  control-enable: no\n"
                "zone:\n  name: far.test\n  zonefile: far.test.zone\n")
    program = shutil.which("nsd") or "/usr/sbin/nsd"
    background("nsd", [program, "-d", "-c", f"{folder}/nsd.conf"])
    wait_port("127.0.0.1", port, "nsd")


def wait_port(host, port, what):
    for _ in range(200):
        try:
            return socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(.05)
    fail(f"{what} does not answer on {host}:{port}")


def swaks(port, recipient, subject):
    done = subprocess.run(["swaks", "--server", f"127.0.0.1:{port}", "--helo", "client.test", "--from", "you@here.test", "--to",
                           recipient, "--header", f"Subject: {subject}", "--body", "Hello from ./try."],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode:
        fail(f"swaks could not send:\n{done.stdout[-2000:]}{done.stderr}")
    return re.search(r"queued as (\w+)", done.stdout)[1], done.stdout


def log_of(mail, queue_id, until, seconds=30):
    """The lines about a message, once one matches `until`; with the connection that brought it."""
    mail.wait_log(rf"{queue_id}: .*{until}" if until != "removed" else f"{queue_id}: removed", seconds=seconds)
    with open(mail.log_file) as f:
        lines = f.read().splitlines()
    first = next(i for i, line in enumerate(lines) if f"{queue_id}: client=" in line)
    process = re.search(r"\[\d+\]", lines[first])[0]
    while first and not (process in lines[first] and ": connect from" in lines[first]):
        first -= 1
    return [line for line in lines[first:] if queue_id in line or (process in line and "connect from" in line)]


def start():
    stop(quiet=True)
    shutil.rmtree(HOME, ignore_errors=True)
    for folder in ("run", "log"):
        os.makedirs(f"{HOME}/{folder}")
    dns_port, mx_port = free_port(), free_port("127.0.0.2")
    start_dns(dns_port)
    start_sink("mx1", "127.0.0.2", mx_port)
    start_sink("mx2", "127.0.0.3", mx_port)
    mail = Instance(name="try", start=False, home=HOME, settings={
        "myhostname": "mail.here.test", "mydestination": "", "smtp_tcp_port": str(mx_port),
        "resolver_nameservers": f"127.0.0.1@{dns_port}", "smtp_tls_security_level": "may"})
    mail.start()
    remember("master", mail.master_pid)

    title("A message from connect to removed (DNS says: far.test has mx1, preference 10, and mx2, 20)")
    queue_id, _ = swaks(mail.port, "friend@far.test", "first")
    for line in log_of(mail, queue_id, "removed"):
        say(line)
    title("What mx1 got")
    with open(f"{HOME}/mx1/1.eml") as f:
        say(f.read().rstrip())

    title("mx1 goes away: the next message takes mx2")
    end("mx1")
    queue_id, _ = swaks(mail.port, "friend@far.test", "second")
    for line in log_of(mail, queue_id, "removed"):
        say(line)

    title("A message that can't be delivered now stays in the queue: mailq")
    queue_id, _ = swaks(mail.port, "friend@dead.far.test", "third")
    mail.wait_log(rf"{queue_id}: .*status=deferred", seconds=60)
    mail.wait(lambda: queue_id in mail.command("postqueue", "-p").stdout, what="mailq shows the message")
    say(mail.command("postqueue", "-p").stdout.rstrip())

    start_sink("mx1", "127.0.0.2", mx_port)
    title("It is running")
    say(f"Send to it:      swaks --server 127.0.0.1:{mail.port} --from you@here.test --to friend@far.test")
    say(f"What arrives:    {HOME}/mx1/*.eml, {HOME}/mx2/*.eml")
    say(f"Its log:         {mail.log_file}")
    say(f"Its commands:    {mail.commands}/postqueue -c {mail.etc} -p    (and postconf, postfix, postsuper...)")
    say("End it:          ./try stop")


def stop(quiet=False):
    found = os.path.exists(f"{HOME}/run")
    for name in ("master", "mx1", "mx2", "nsd"):
        end(name)
    if not quiet:
        say("stopped" if found else "nothing is running")


def main(argv):
    if argv[:1] == ["sink"] and len(argv) == 4:
        sink(*argv[1:])
    elif argv == ["start"]:
        start()
    elif argv == ["stop"]:
        stop()
    else:
        sys.exit(__doc__)


main(sys.argv[1:])
