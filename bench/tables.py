#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Look-ups and building of tables, beside Debian's Postfix: tables.py [--entries N] [--build DIR] [--peer TREE] [--plugins DIR].
Prints a line for each table type: seconds of CPU and of time of `postmap`, for both. Keys are asked with `postmap -q -`."""
import argparse
import os
import random
import resource
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--entries", type=int, default=1000000)
parser.add_argument("--build", default=os.environ.get("POSTERN_BUILD", "build"))
parser.add_argument("--peer", default="/tmp/peers/postfix")
parser.add_argument("--plugins", help="where Debian's postfix-lmdb.so and its like are, if not in the peer's tree")
parser.add_argument("--runs", type=int, default=3, help="of which the quickest counts")
parser.add_argument("--only", help="names of rows, divided by commas")
options = parser.parse_args()
plugins = options.plugins or f"{options.peer}/usr/lib/postfix"
random.seed(7)
place = tempfile.mkdtemp(prefix="bench-tables-")
with open(f"{place}/main.cf", "w") as f:
    f.write(f"compatibility_level=3.6\nmail_owner=daemon\nsetgid_group=games\nmyhostname=h.test\nshlib_directory={plugins}\n"
            f"meta_directory={place}\nqueue_directory={place}\ndata_directory={place}\nlmdb_map_size=1000000000\n")
with open(f"{place}/dynamicmaps.cf", "w") as f:
    for name in ("lmdb", "cdb"):
        f.write(f"{name} postfix-{name}.so dict_{name}_open mkmap_{name}_open\n")
    f.write("pcre postfix-pcre.so dict_pcre_open\n")


def run(which, *args, stdin=None):
    program = f"{options.build}/tools/postmap" if which == "postern" else f"{options.peer}/usr/sbin/postmap"
    env = dict(os.environ, LD_LIBRARY_PATH=f"{options.peer}/usr/lib/postfix" if which == "postfix" else "")
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(stdin or "/dev/null", "rb") as keys, open(f"{place}/out.{which}", "wb") as out:
        done = subprocess.run([program, "-c", place, *args], stdin=keys, stdout=out, stderr=subprocess.PIPE, env=env)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1) or b"fatal" in done.stderr:
        raise SystemExit(f"{which}: {done.stderr.decode()}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def best(which, *args, **kwargs):
    return min(run(which, *args, **kwargs) for _ in range(options.runs))


def row(name, keys, *args, stdin=None, files=()):
    if options.only and not any(part in name for part in options.only.split(",")):
        return
    figures = {}
    for which in ("postfix", "postern"):
        figures[which] = best(which, *args, stdin=stdin)
        if files:
            for path in files:
                os.path.exists(path) and os.unlink(path)
    same = open(f"{place}/out.postfix", "rb").read() == open(f"{place}/out.postern", "rb").read()
    a, b = figures["postfix"], figures["postern"]
    print(f"| {name} | {keys / a[0]:.0f} | {keys / b[0]:.0f} | {a[0] / b[0]:.1f} | {a[1] / b[1]:.1f} | {'same' if same else 'DIFFERENT'} |", flush=True)


def lines(name, text):
    path = f"{place}/{name}"
    with open(path, "w") as f:
        f.writelines(line + "\n" for line in text)
    return path


print("| table | Postfix, a second of CPU | Postern | times, by CPU | times, by time | answers |\n| --- | --- | --- | --- | --- | --- |")
users = [f"user{i}@domain{i % 5000}.example.com" for i in range(options.entries)]
random.shuffle(users)
big = lines("big", (f"{user} mailbox{i}@store.example.com" for i, user in enumerate(users)))
asked = lines("asked", random.sample(users, min(500000, len(users))))
for kind in ("lmdb", "cdb"):
    row(f"{kind}, making {options.entries} entries", options.entries, f"{kind}:{big}")
    row(f"{kind}, look-ups", 500000, "-q", "-", f"{kind}:{big}", stdin=asked)
    for suffix in ("lmdb", "cdb"):
        os.path.exists(f"{big}.{suffix}") and os.unlink(f"{big}.{suffix}")
os.path.exists(f"{big}.db") and os.unlink(f"{big}.db")

words = ["offer", "winner", "casino", "lottery", "viagra", "prince", "invoice", "urgent", "account", "verify"]
patterns = []
for i in range(2000):
    word = random.choice(words) + str(i)
    patterns.append(random.choice([f"/^Subject:.*{word}/ REJECT {i}", f"/^From:.*@{word}\\.example\\.(com|net)>?$/ REJECT {i}",
                                   f"/{word}[[:space:]]+(now|today)/ WARN $1", f"/^X-Mailer: ({word}|Bulk{i})/ DISCARD"]))
subjects = []
for i in range(3000):
    subjects.append(random.choice([f"Subject: the minutes of meeting {i} and what comes next week", f"From: Some Body <some.body{i}@host.example.org>",
                                   "Received: from mail.example.com (mail.example.com [192.0.2.1]) by mx.example.net with ESMTPS id 12345",
                                   f"Subject: you are a {words[i % 10]}{i % 2000} indeed", f"X-Mailer: Bulk{i % 2500}",
                                   "Content-Type: text/plain; charset=utf-8"]))
headers = lines("headers", subjects)
for kind in ("regexp", "pcre"):
    table = lines(f"patterns.{kind}", patterns)
    row(f"{kind}, 2000 patterns with text in them", 3000, "-q", "-", f"{kind}:{table}", stdin=headers)
shapes = [f"/^[a-z]{{{i % 9 + 1},{i % 9 + 4}}}[0-9]{{{i % 5 + 3},}}[._-][a-z]{{{i % 4 + 2}}}@[a-z]*[0-9]+\\.(com|net|org)$/ REJECT {i}" for i in range(2000)]
senders = lines("senders", (random.choice(["abc", "someone", "first.last", "x9"]) + f"{i}@" + random.choice(["host", "mail1", "mx22"]) + ".example.org" for i in range(1000)))
for kind in ("regexp", "pcre"):
    table = lines(f"shapes.{kind}", shapes)
    row(f"{kind}, 2000 patterns without text", 1000, "-q", "-", f"{kind}:{table}", stdin=senders)

addresses = lines("addresses", (f"{random.randrange(1, 224)}.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}" for _ in range(2000)))
for count in (1000, 10000, 100000):
    networks = lines(f"networks{count}", (f"{random.randrange(1, 224)}.{random.randrange(256)}.{random.randrange(256)}.0/24 REJECT {i}" for i in range(count)))
    row(f"cidr, {count} networks, reading the table and 2000 look-ups", 2000, "-q", "-", f"cidr:{networks}", stdin=addresses)
subprocess.run(["rm", "-r", place])
