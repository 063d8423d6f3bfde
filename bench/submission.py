#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Mail of scripts: how many messages a second go from sendmail's start to the queue (cleanup has it, the maildrop file is gone).

    POSTERN_BUILD=DIR PEERS=DIR bench/submission.py [--count N] [target ...]        targets: postern, postfix

For each target and for 1 and 20 scripts at a time: messages a second, in rounds that alternate between the targets; the median
counts. Mail goes to discard:.
"""
import argparse
import os
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests"))
from harness import Instance  # noqa: E402

TEXT = b"Subject: bench\n\n" + b"x" * 70 * 2 + b"\n" + (b"y" * 70 + b"\n") * 55


def script(mail, count):
    argv = [f"{mail.commands}/sendmail", "-f", "a@src.test", "b@far.test"]
    if mail.root:
        argv = ["chroot", mail.root, "/usr/sbin/sendmail", "-f", "a@src.test", "b@far.test"]
    env = {"PATH": "/usr/sbin:/usr/bin:/bin", "MAIL_CONFIG": mail.inside(mail.etc)}
    for _ in range(count):
        subprocess.run(argv, input=TEXT, check=True, env=env)


def measure(mail, scripts, count):
    before = len(mail.log(r"uid=\d+ from=<a@src"))
    threads = [threading.Thread(target=script, args=(mail, count // scripts)) for _ in range(scripts)]
    begin = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    exits = time.monotonic()
    mail.wait(lambda: not mail.queue_files("maildrop")["maildrop"], 120, "maildrop is empty", step=0.005)
    end = time.monotonic()
    mail.wait(lambda: len(mail.log(r"uid=\d+ from=<a@src")) - before >= count // scripts * scripts, 60, "all are logged")
    return count / (exits - begin), count / (end - begin)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("target", nargs="*", default=["postern", "postfix"])
    args = parser.parse_args()
    mails = {t: Instance(target=t, settings={"default_transport": "discard", "relayhost": ""}) for t in args.target}
    rates = {}
    try:
        for mail in mails.values():
            mail.start(seconds=120)
            measure(mail, 1, 5)
        for _ in range(args.rounds):
            for scripts in (1, 20):
                for target, mail in mails.items():
                    rates.setdefault((scripts, target), []).append(measure(mail, scripts, args.count))
        for (scripts, target), values in sorted(rates.items()):
            print(f"{scripts:2} scripts, {target:8}: {statistics.median(v[0] for v in values):7.1f} messages/s to sendmail's end, "
                  f"{statistics.median(v[1] for v in values):7.1f} to the queue")
    finally:
        for mail in mails.values():
            mail.close()


if __name__ == "__main__":
    main()
