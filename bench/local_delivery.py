#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Delivery to mailboxes on this host, Postern beside Debian's Postfix: rate and CPU.

usage: local_delivery.py [--count 2000] [--members 10000] [--runs 1] [--what mbox,maildir,alias] [--targets postfix,postern,dovecot] [-- settings]

mbox, maildir: 20 SMTP sessions, 4 KiB messages, a user for each. alias: one message to an alias of --members local users, to mboxes.
Both sync each message before it counts. The queues lie in /tmp and in $PEERS/postfix/srv, the mailboxes beside them. Figures: messages (or
deliveries) a second from the first connection to the last log line, CPU of all processes of the mail system for each. Runs of the
targets are interleaved; only ratios of one run mean anything on a shared machine. Needs root, cgroup v1 (cpuacct), smtp-source
from the tree $PEERS/postfix. Users exist in the run's own mount namespace only: install no package meanwhile, which would replace /etc/passwd.

The target dovecot (Maildir only) is Dovecot's LMTP server ($DOVECOT_BENCH: the script that starts it from a tree of its own, processes kept), which
gets the same messages without an MTA before it; it is asked for by name.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{TOP}/tests")

from harness import Instance, send  # noqa: E402

PEERS = os.environ.get("PEERS", "/tmp/peers")
GROUP = "/sys/fs/cgroup/cpuacct/bench-local"
SESSIONS = 20


def enter():
    if not os.environ.get("LOCAL_BENCH_INSIDE"):
        os.environ["LOCAL_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, os.path.abspath(__file__), *sys.argv[1:]])


def make_users(root, members):
    scratch = f"/tmp/bench-passwd-{os.getpid()}"
    with open(f"{root}/etc/passwd") as f:
        lines = f.read().splitlines()
    lines += [f"b{i}:x:{30000 + i}:30000::/nonexistent:/bin/sh" for i in range(SESSIONS + 1)]
    lines += [f"m{i}:x:{31000 + i}:30000::/nonexistent:/bin/sh" for i in range(members)]
    with open(scratch, "w") as f:
        f.write("\n".join(lines) + "\n")
    os.chmod(scratch, 0o644)
    subprocess.run(["mount", "--bind", scratch, f"{root}/etc/passwd"], check=True)
    os.unlink(scratch)


def sent(mail):
    try:
        with open(mail.log_file, "rb") as f:
            return f.read().count(b"status=sent (delivered to m")
    except FileNotFoundError:
        return 0


def cpu(usage=f"{GROUP}/cpuacct.usage"):
    with open(usage) as f:
        return int(f.read()) / 1e9


def in_group(group):
    with open(f"{group}/cgroup.procs", "w") as f:
        f.write(str(os.getpid()))


def load(port, count, options=(), recipient="b{}@local.test"):
    env = dict(os.environ, LD_LIBRARY_PATH=f"{PEERS}/postfix/usr/lib/postfix:{PEERS}/postfix/usr/lib/x86_64-linux-gnu")
    jobs = [subprocess.Popen([f"{PEERS}/postfix/usr/sbin/smtp-source", *options, "-d", "-s", "1", "-l", "4096", "-m",
                              str(count // SESSIONS), "-f", "a@src.test", "-t", recipient.format(i + 1), f"inet:127.0.0.1:{port}"], env=env) for i in range(SESSIONS)]
    for job in jobs:
        job.wait()


def run_dovecot(args):
    script = [os.environ["DOVECOT_BENCH"]]
    subprocess.run([*script, "start", "tuned"], check=True)
    try:
        name = subprocess.run([*script, "cg"], check=True, capture_output=True, text=True).stdout.strip()
        usage = f"/sys/fs/cgroup/cpuacct/{name}/cpuacct.usage"
        port, total = int(os.environ.get("LMTP_PORT", "1124")), args.count // SESSIONS * SESSIONS
        load(port, SESSIONS, ["-L"], "u{}")
        before, begin = cpu(usage), time.monotonic()
        load(port, args.count, ["-L"], "u{}")  # LMTP answers when it has stored
        return total / (time.monotonic() - begin), (cpu(usage) - before) / total * 1e6
    finally:
        subprocess.run([*script, "stop"], check=True)
        subprocess.run([*script, "wipe"], check=True)


def run(target, what, args):
    if target == "dovecot":
        return run_dovecot(args)
    root = "" if target == "postern" else f"{PEERS}/{target}"
    place = f"/tmp/bench-mail-{os.getpid()}" if not root else f"/srv/bench-mail-{os.getpid()}"
    os.makedirs(root + place)
    os.chmod(root + place, 0o1777)
    settings = {"mydestination": "local.test", "myorigin": "local.test", "mail_spool_directory": place + ("/" if what == "maildir" else ""),
                "local_recipient_maps": "", "biff": "no", "alias_maps": f"hash:{place}/aliases", "mailbox_size_limit": "0", "forward_path": "",
                "virtual_alias_expansion_limit": "20000", "in_flow_delay": "1s"}
    settings.update(s.split("=", 1) for s in args.settings)
    with open(f"{root}{place}/aliases", "w") as f:
        f.write("all: " + ", ".join(f"m{i}" for i in range(args.members)) + "\n" if what == "alias" else "none: none\n")
    mail = Instance(target=target, settings=settings, start=False)
    try:
        mail.command("postalias", f"hash:{place}/aliases")
        os.makedirs(GROUP, exist_ok=True)
        in_group(GROUP)
        try:
            mail.start()
        finally:
            in_group("/sys/fs/cgroup/cpuacct")
        send("a@src.test", ["b0@local.test"], b"Subject: warm\r\n\r\n", port=mail.port)
        mail.wait(lambda: sent(mail) == 1, 20, "warm")
        total = args.members if what == "alias" else args.count // SESSIONS * SESSIONS
        before, begin = cpu(), time.monotonic()
        if what == "alias":
            send("a@src.test", ["all@local.test"], b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 56, port=mail.port)
        else:
            load(mail.port, args.count)
        mail.wait(lambda: sent(mail) >= total + 1, 600, "all is delivered", step=0.1)
        seconds, used = time.monotonic() - begin, cpu() - before
        return total / seconds, used / total * 1e6
    finally:
        mail.kill_all()
        mail.close()
        shutil.rmtree(root + place, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--members", type=int, default=10000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--what", default="mbox,maildir,alias")
    parser.add_argument("--targets", default="postfix,postern")
    parser.add_argument("settings", nargs="*")
    args = parser.parse_args()
    enter()
    targets = args.targets.split(",")
    for target in set(targets) - {"dovecot"}:
        make_users("" if target == "postern" else f"{PEERS}/{target}", args.members if "alias" in args.what else 0)
    for what in args.what.split(","):
        figures = {t: [] for t in targets}
        for _ in range(args.runs):
            for target in targets:
                figures[target].append(run(target, what, args))
        base = [statistics.median(f[i] for f in figures[targets[0]]) for i in (0, 1)]
        for target in targets:
            rate, us = [statistics.median(f[i] for f in figures[target]) for i in (0, 1)]
            print(f"{what:8} {target:8} {rate:8.0f}/s ({rate / base[0]:.1f}x)  {us:8.0f} us CPU ({base[1] / us:.1f}x less)", flush=True)


if __name__ == "__main__":
    main()
