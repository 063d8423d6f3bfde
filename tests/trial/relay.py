# SPDX-License-Identifier: Apache-2.0
"""Mail to another domain: DNS, MX hosts in their order, and the queue.

A name server (nsd) says that far.test has two MX hosts: mx1 (preference 10, 127.0.0.2) and mx2 (20, 127.0.0.3); two receiving
servers ("sinks") stand for them."""
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys

from harness.instance import free_port
from harness.sink import Sink

from .screen import HOME, TOP, background, end, fail, say, show, title, wait_port


def sink(host, port, name):
    """Takes mail until it is ended; each message becomes a file in HOME/NAME/."""
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
    background(name, [sys.executable, f"{TOP}/tests/try.py", "sink", host, str(port), name])
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


def prepare():
    """Starts the other side; returns the settings that point the mail system to it."""
    dns_port, mx_port = free_port(), free_port("127.0.0.2")
    start_dns(dns_port)
    start_sink("mx1", "127.0.0.2", mx_port)
    start_sink("mx2", "127.0.0.3", mx_port)
    return {"smtp_tcp_port": str(mx_port), "resolver_nameservers": f"127.0.0.1@{dns_port}", "smtp_tls_security_level": "may"}


def swaks(port, recipient, subject):
    done = subprocess.run(["swaks", "--server", f"127.0.0.1:{port}", "--helo", "client.test", "--from", "you@here.test", "--to",
                           recipient, "--header", f"Subject: {subject}", "--body", "Hello from ./try."],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode:
        fail(f"swaks could not send:\n{done.stdout[-2000:]}{done.stderr}")
    return re.search(r"queued as (\w+)", done.stdout)[1]


def log_of(mail, queue_id):
    """The lines about a message, once it is gone; with the connection that brought it."""
    mail.wait_log(rf"^{queue_id}: removed", seconds=60)
    with open(mail.log_file) as f:
        lines = f.read().splitlines()
    first = next(i for i, line in enumerate(lines) if f"{queue_id}: client=" in line)
    process = re.search(r"\[\d+\]", lines[first])[0]
    while first and not (process in lines[first] and ": connect from" in lines[first]):
        first -= 1
    return "\n".join(line for line in lines[first:] if queue_id in line or (process in line and "connect from" in line))


def run(mail):
    title("A message from connect to removed (DNS says: far.test has mx1, preference 10, and mx2, 20)")
    show(log_of(mail, swaks(mail.port, "friend@far.test", "first")))
    say("What mx1 got:")
    with open(f"{HOME}/mx1/1.eml") as f:
        show(f.read())

    title("mx1 goes away: the next message takes mx2")
    end("mx1")
    show(log_of(mail, swaks(mail.port, "friend@far.test", "second")))
    start_sink("mx1", "127.0.0.2", int(mail.main["smtp_tcp_port"]))
