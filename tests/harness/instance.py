# SPDX-License-Identifier: Apache-2.0
"""A private, running mail system: Postern from a build directory, or a peer (Debian's Postfix, a packaged Postern) in a tree.

    with Sink() as sink, Instance(relay=sink) as mail:           # started, waits until its port answers
        send("a@src.test", ["b@far.test"], b"Subject: x\\r\\n\\r\\nhi\\r\\n", port=mail.port)
        sink.wait_count(1)
        mail.wait_log(r"status=sent")
    # stopped; the directory is removed, or kept and named when an exception passes through

Instance(target="postern")   the programs of $POSTERN_BUILD (default: build/ in the project), as the user who runs the test
Instance(target="postfix")   the tree $PEERS/postfix (default PEERS=/tmp/peers), in a chroot, by root only
Instance(target="NAME")      any other tree $PEERS/NAME
The default of `target` is $HARNESS_TARGET, else postern; `unavailable(target)` says why one cannot be had, or is "".

Everything lies below instance.base: etc/ spool/ data/ log/mail.log daemons/ control/. settings={"name": "value"} go to main.cf
on top of DEFAULTS; services=["..."] are lines that replace (by name and type) or join those of the shipped master.cf.
"""
import collections
import grp
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import processes, queue_file

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PEERS = os.environ.get("PEERS", "/tmp/peers")
QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
LOGS = ("bounce", "defer", "trace", "flush", "saved")
FILE_NAME = re.compile(r"[0-9A-F]{6,}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,}z[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]+|[a-z0-9_.-]+_(?:com|test)")
DAEMONS = ("master anvil auth bounce cleanup discard error flush imapd lmtp local master oqmgr nqmgr pickup pipe pop3d postlogd postscreen proxymap "
           "qmgr qmqpd pop3-session imap-session resolver scache showq smtp smtpd spawn tlsmgr tlsproxy trivial-rewrite verify virtual postfix-script post-install "
           "postmulti-script postfix-wrapper postfix-tls-script dnsblog").split()
COMMANDS = ("postfix postconf postqueue postsuper postcat postdrop postlog postmap postalias postkick postlock postmulti sendmail mailq "
            "newaliases posttls-finger").split()
ALIASES = (("lmtp", "smtp"), ("discard", "error"), ("pop3d", "imapd"))
DEFAULTS = {
    "compatibility_level": "3.6",
    "myhostname": "mail.test",
    "mydomain": "test",
    "mydestination": "",
    "mynetworks": "127.0.0.0/8 [::1]/128",
    "local_header_rewrite_clients": "",  # what is sent arrives as it was sent
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "alias_maps": "",
    "alias_database": "",
    "smtp_tls_security_level": "none",
    "smtpd_tls_security_level": "none",
    "smtpd_peername_lookup": "no",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_error_sleep_time": "0",
    "in_flow_delay": "0",
    "service_throttle_time": "1s",
    "queue_run_delay": "3s",
    "minimal_backoff_time": "3s",
    "maximal_backoff_time": "10s",
    "smtp_connect_timeout": "5s",
}


class Failed(Exception):
    """The mail system did not do what the harness needs."""


def build_dir():
    return os.environ.get("POSTERN_BUILD") or os.path.join(TOP, "build")


def default_target():
    return os.environ.get("HARNESS_TARGET", "postern")


def unavailable(target=None):
    """Why this target cannot run here, in a few words; "" if it can."""
    target = target or default_target()
    if target == "postern":
        programs = find_programs(build_dir())
        missing = [name for name in ("master", "smtpd", "cleanup", "qmgr", "smtp", "postfix") if name not in programs]
        return f"no {', '.join(missing)} in {build_dir()}" if missing else ""
    if os.geteuid():
        return "a peer's tree needs root"
    return "" if os.path.exists(f"{PEERS}/{target}/usr/sbin/postfix") else f"no tree {PEERS}/{target}"


def find_programs(directory):
    """{name: path} of our daemons and commands, wherever below a build or installation directory they are."""
    found, wanted = {}, set(DAEMONS) | set(COMMANDS)
    for path, directories, files in os.walk(directory):
        depth = path[len(directory):].count("/")
        directories[:] = [d for d in directories if not d.startswith(".") and depth < 4 and d != "tests"]
        for name in files:
            full = os.path.join(path, name)
            if name in wanted and name not in found and os.access(full, os.X_OK) and os.path.isfile(full):
                found[name] = full
    return found


PORTS_GIVEN = collections.deque(maxlen=500)  # the system may name one again before its daemon listens


def free_port(host="127.0.0.1"):
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((host, 0))
            port = s.getsockname()[1]
        if port not in PORTS_GIVEN:
            PORTS_GIVEN.append(port)
            return port


def owner():
    """(mail_owner, setgid_group): of ours if root runs the test, else the user who does."""
    if os.geteuid():
        user = pwd.getpwuid(os.geteuid())
        return user.pw_name, grp.getgrgid(user.pw_gid).gr_name
    for user, group in (("postfix", "postdrop"), ("news", "uucp"), ("nobody", "nogroup")):
        try:
            pwd.getpwnam(user), grp.getgrnam(group)
            return user, group
        except KeyError:
            pass
    raise Failed("no user for mail_owner")


class Instance:
    def __init__(self, *, target=None, relay=None, settings=None, services=(), wrap=(), disk=None, dns=None, name="mail", start=True, home=None):
        """relay: a Sink or "host:port" that all mail goes to, None: nothing is set. wrap: daemons that start through control/NAME
        (see inject.py). disk: a Disk that is to hold the queue and data directories (mounted here, removed by close()). dns: a
        Dns that the resolver asks. start=False: don't start when entered. home: where it lives (made before), else a temporary place."""
        self.target = target or default_target()
        reason = unavailable(self.target)
        if reason:
            raise Failed(f"{self.target}: {reason}")
        self.root = "" if self.target == "postern" else f"{PEERS}/{self.target}"
        self.settings, self.services, self.wrap, self.relay, self.dns = dict(settings or {}), list(services), list(wrap), relay, dns
        self.traces = "" if self.root else os.environ.get("HARNESS_TRACES", "")
        parent = f"{self.root}/srv" if self.root else tempfile.gettempdir()
        os.makedirs(parent, exist_ok=True)
        self.base = home or tempfile.mkdtemp(prefix=f"{name}-", dir=parent)
        os.chmod(self.base, 0o755)
        self.etc, self.data, self.daemons, self.commands, self.control = (f"{self.base}/{d}" for d in ("etc", "data", "daemons", "commands", "control"))
        self.spool = f"{self.base}/spool"
        self.disk = disk
        if disk:
            disk.mount(f"{self.base}/disk")
            self.spool, self.data = f"{self.base}/disk/spool", f"{self.base}/disk/data"
        self.log_file = f"{self.base}/log/mail.log"
        self.port = free_port()
        self.master_pid = 0
        self.auto_start = start
        self.keep = bool(os.environ.get("HARNESS_KEEP"))
        self._make()

    # Making it

    def _make(self):
        for directory in (self.etc, self.data, self.daemons, self.commands, self.control, f"{self.base}/log"):
            os.makedirs(directory, exist_ok=True)
        if self.root:
            self._mount_tree()
            if self.dns:
                self._ask_dns()
            self.user, self.group = "postfix", "postdrop"
            uid = self._tree_uid("postfix")
            daemon_dir = f"{self.root}/usr/lib/postfix/sbin"
            self.programs = {n: f"{daemon_dir}/{n}" for n in os.listdir(daemon_dir)}
            self.programs |= {n: f"{self.root}/usr/sbin/{n}" for n in COMMANDS if os.path.exists(f"{self.root}/usr/sbin/{n}")}
        else:
            self.user, self.group = owner()
            uid = pwd.getpwnam(self.user).pw_uid
            self.programs = find_programs(build_dir())
        self.uid = uid
        if not os.geteuid():
            os.chown(self.data, uid, -1)
        self.make_spool()
        for name, path in self.programs.items():
            place = self.commands if name in COMMANDS else self.daemons
            if self.traces and place == self.daemons and name != "master":
                self._write_tracer(name, path)
            elif name in self.wrap:
                self._write_wrapper(name, path, f"{place}/{name}")
            elif self.root:
                os.link(path, f"{place}/{name}")  # Postfix's start complains of each symbolic link
            else:
                os.symlink(path, f"{place}/{name}")
        for alias, real in ALIASES:
            if alias not in self.programs and real in self.programs:
                os.symlink(real, f"{self.daemons}/{alias}")
        self.write_config()

    def make_spool(self):
        """Makes the queue directory's top; its subdirectories are the mail system's business."""
        os.makedirs(self.spool, exist_ok=True)
        os.chmod(self.spool, 0o755)

    def _mount_tree(self):
        for kind, args in (("dev", ["--bind", "/dev"]), ("proc", ["-t", "proc", "proc"])):
            if not os.path.ismount(f"{self.root}/{kind}"):
                subprocess.run(["mount", *args, f"{self.root}/{kind}"], check=True)

    def _ask_dns(self):
        """A tree's mail system asks the name servers of its /etc/resolv.conf, at port 53; ours lies over it until close()."""
        path = f"{self.base}/resolv.conf"
        with open(path, "w") as f:
            f.write(f"nameserver {self.dns.host}\noptions timeout:1 attempts:1\n")
        subprocess.run(["mount", "--bind", path, f"{self.root}/etc/resolv.conf"], check=True)

    def _tree_uid(self, name):
        with open(f"{self.root}/etc/passwd") as f:
            return next(int(line.split(":")[2]) for line in f if line.startswith(name + ":"))

    def _write_wrapper(self, name, real, path):
        """A script in the daemon's place that runs it as control/NAME.run says, if that is there (see inject.py)."""
        control = self.inside(f"{self.control}/{name}.run")
        with open(path, "w") as f:
            f.write(f'#!/bin/sh\nR={self.inside(real)}\n[ -s {control} ] && . {control}\nexec $R "$@"\n')
        os.chmod(path, 0o755)

    def _write_tracer(self, name, real):
        """The same, but what runs unless control/NAME.run says otherwise is traced: $HARNESS_TRACES is the directory for that (see
        tests/measure_calls). Links give the daemon its name, and those that it has besides."""
        names = f"{self.control}/names"
        os.makedirs(names, exist_ok=True)
        for link in [name] + [alias for alias, program in ALIASES if program == name and alias not in self.programs]:
            os.symlink(real, f"{names}/{link}")
        control, path = f"{self.control}/{name}.run", f"{self.daemons}/{name}"
        with open(path, "w") as f:
            f.write(f'#!/bin/sh\nR={names}/${{0##*/}}\n[ -s {control} ] && . {control}\n'
                    f'exec strace -D -f -qq -s 0 -e signal=none -o {self.traces}/${{0##*/}}.{os.path.basename(self.base)}.$$.strace $R "$@"\n')
        os.chmod(path, 0o755)

    def inside(self, path):
        """The path as the mail system sees it (a peer's tree is its root)."""
        return path.removeprefix(self.root) if self.root else path

    def write_config(self):
        """Writes main.cf and master.cf anew from settings and services; a running instance needs reload()."""
        main = dict(DEFAULTS)
        main.update({
            "queue_directory": self.inside(self.spool), "data_directory": self.inside(self.data),
            "daemon_directory": self.inside(self.daemons), "maillog_file": self.inside(self.log_file),
            "maillog_file_prefixes": self.inside(self.base), "mail_owner": self.user, "setgid_group": self.group,
        })
        if not self.root:
            main["command_directory"] = self.commands
            main["sendmail_path"] = f"{self.commands}/sendmail"
            main["default_privs"] = self.user if os.geteuid() else "nobody"
            if self.dns:
                main["resolver_nameservers"] = f"{self.dns.host}@{self.dns.port}"
        if self.relay is not None:
            host, port = (self.relay.host, self.relay.port) if hasattr(self.relay, "port") else self.relay.rsplit(":", 1)
            main["relayhost"] = f"[{host}]:{port}"
            if self.root:
                main["disable_dns_lookups"] = "yes"
        main.update(self.settings)
        self.main = main
        with open(f"{self.etc}/main.cf", "w") as f:
            f.writelines(f"{name} = {value}\n" for name, value in main.items())
        with open(f"{self.etc}/master.cf", "w") as f:
            f.writelines(entry + "\n" for entry in self._services())

    def _services(self):
        shipped = f"{self.root}/etc/postfix/master.cf" if self.root else f"{TOP}/conf/master.cf"
        entries = {}
        for entry in read_entries(shipped):
            fields = entry.split()
            entries[tuple(fields[:2])] = entry
        entries.pop(("smtp", "inet"), None)
        own = [f"127.0.0.1:{self.port} inet n - n - - smtpd", "postlog unix-dgram n - n - 1 postlogd"]
        for entry in own + self.services:
            entries[tuple(entry.split()[:2])] = entry
        result = []
        for entry in entries.values():
            fields = entry.split(None, 8)
            name = fields[7]
            if name not in self.programs and name not in ("lmtp", "discard", "pop3d"):
                continue  # a service of a later issue
            if self.root and fields[4] == "y":
                fields[4] = "n"  # chroot inside of the chroot would need Debian's copies of libraries
            result.append(" ".join(fields))
        return result

    # Running it

    def command(self, name, *args, seconds=60, check=True, stdin=None):
        """Runs one of its commands; returns the CompletedProcess (stdout and stderr together, as text)."""
        program = self.inside(self.programs[name]) if self.root else f"{self.commands}/{name}"
        argv = [program, "-c", self.inside(self.etc), *args]
        if self.root:
            argv = ["chroot", self.root, *argv]
        # Output goes to a file, not a pipe: daemons keep inherited descriptors open.
        with tempfile.TemporaryFile() as out:
            try:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL if stdin is None else None, input=stdin, stdout=out, stderr=out,
                                      timeout=seconds, env=dict(os.environ, MAIL_CONFIG=self.inside(self.etc)))
            finally:
                out.seek(0)
                text = out.read().decode("utf-8", "replace")
        done.stdout = text
        if check and done.returncode:
            raise Failed(f"{name} {' '.join(args)}: exit {done.returncode}: {text.strip()[-500:]}\n{self.tail()}")
        return done

    def start(self, seconds=30, wait=True):
        """`postfix start`; then waits until SMTP answers."""
        self.command("postfix", "start", seconds=seconds)
        self._read_master()
        if wait:
            self.wait_port(self.port, seconds)
        return self

    def _read_master(self):
        try:
            with open(f"{self.spool}/pid/master.pid") as f:
                self.master_pid = int(f.read().strip() or 0)
        except (OSError, ValueError):
            self.master_pid = 0

    def stop(self, seconds=30):
        """A clean stop; fails if a process stays."""
        if self.running():
            self.command("postfix", "stop", seconds=seconds, check=False)
        self.wait(lambda: not self.processes(), seconds, "all processes end after postfix stop")
        self.master_pid = 0

    def reload(self):
        self.command("postfix", "reload")

    def flush(self):
        """Deliver all now; no failure when the mail system is not there."""
        if "postqueue" not in self.programs:
            return None  # the next queue run will do it
        return self.command("postqueue", "-f", check=False)

    def is_empty(self):
        """Nothing queued, neither in files nor in what only the running system knows of."""
        if self.queue_messages("incoming", "active", "deferred", "maildrop"):
            return False
        return "postqueue" not in self.programs or "queue is empty" in self.command("postqueue", "-p", check=False).stdout

    def running(self):
        p = processes.read(self.master_pid) if self.master_pid else None
        return p is not None and p.state != "Z"

    def processes(self, name=None):
        return [p for p in processes.family(self.master_pid, self.spool) if name is None or p.name == name]

    def kill(self, name=None, sig=signal.SIGKILL):
        """Signals the processes of that name (all: None) once. Returns those that were there."""
        return [p for p in self.processes(name) if processes.kill(p, sig)]

    def kill_all(self):
        """SIGKILL until nothing is left. Returns the number of processes killed."""
        n = processes.kill_all(self.master_pid, self.spool)
        self.master_pid = 0
        return n

    def __enter__(self):
        if self.auto_start:
            try:
                self.start()
            except BaseException:
                self.keep = True
                self.close()
                raise
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.keep = True
        try:
            if kind is None and self.running():
                self.stop()
        finally:
            self.close()

    def close(self):
        """Kills what still runs; removes the directory unless keep is set."""
        self.kill_all()
        if self.root and self.dns:
            subprocess.run(["umount", f"{self.root}/etc/resolv.conf"], check=False)
        if self.disk:
            self.disk.remove(keep_image=self.keep)
        if self.keep:
            print(f"kept: {self.base}")
        else:
            shutil.rmtree(self.base, ignore_errors=True)

    # Waiting and looking

    def wait(self, condition, seconds=15, what="condition", step=0.02):
        """condition()'s first true value; TimeoutError with the log's tail if there is none in time."""
        end = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {what}\n{self.tail()}")
            time.sleep(step)

    def wait_port(self, port, seconds=15, host="127.0.0.1"):
        """Until a connection is greeted."""
        def answers():
            try:
                with socket.create_connection((host, port), 2) as s:
                    if s.recv(4)[:3] != b"220":
                        return False
                    s.sendall(b"QUIT\r\n")
                    while s.recv(1000):
                        pass
                    return True
            except OSError:
                return False
        self.wait(answers, seconds, f"port {port} answers")

    def log(self, pattern=None):
        """The log's lines as LogLine, those whose text matches the regular expression."""
        try:
            with open(self.log_file, encoding="utf-8", errors="replace") as f:
                lines = [LogLine.parse(line.rstrip("\n")) for line in f]
        except FileNotFoundError:
            return []
        return [line for line in lines if line and (pattern is None or re.search(pattern, line.text))]

    def wait_log(self, pattern, seconds=15, count=1):
        """Waits until that many lines match; returns them."""
        return self.wait(lambda: len(found := self.log(pattern)) >= count and found, seconds, f"log line /{pattern}/")

    def complaints(self, excused=()):
        """Log lines that tell of a bug: panics, fatal errors, sanitizer reports. excused: ranges of the log file's bytes
        [(begin, end)], in which a fault was at work: it explains lines with "fatal", nothing else."""
        found, at = [], 0
        with open(self.log_file if os.path.exists(self.log_file) else os.devnull, "rb") as f:
            for line in f:
                text = line.decode("utf-8", "replace").rstrip("\n")
                if re.search(r"(?i)\bpanic\b:|AddressSanitizer|runtime error:|killed by signal (4|6|7|8|11|31)\b", text) or (
                        re.search(r"(?i)\bfatal\b:", text) and not any(begin <= at < end for begin, end in excused)):
                    found.append(LogLine.parse(text))
                at += len(line)
        return found

    def tail(self, lines=15):
        try:
            with open(self.log_file, encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def queue_files(self, *queues, unfinished=False):
        """{queue: [path]} of the regular files in the queue's directories (by default all that hold messages); those that a daemon
        is still writing (*.new) only if unfinished."""
        result = {}
        for queue in queues or QUEUES:
            result[queue] = [os.path.join(path, name) for path, _, names in os.walk(f"{self.spool}/{queue}") for name in names
                             if unfinished or not name.endswith(".new")]
        return result

    def queued(self):
        """How many message files there are, whatever their state."""
        return sum(map(len, self.queue_files().values()))

    def queue_messages(self, *queues):
        """[(queue, id, message as queue_file.parse gives it or the error)] of finished files; those that vanish meanwhile are left out."""
        result = []
        for queue, paths in self.queue_files(*queues).items():
            for path in paths:
                if "." in os.path.basename(path):
                    continue  # a temporary name: no reader takes it
                try:
                    if not os.stat(path).st_mode & 0o100:
                        continue  # not finished: nobody was told that it is there
                    with open(path, "rb") as f:
                        data = f.read()
                except FileNotFoundError:
                    continue
                try:
                    result.append((queue, os.path.basename(path), queue_file.parse(data)))
                except queue_file.QueueFileError as e:
                    result.append((queue, os.path.basename(path), e))
        return result

    def log_size(self):
        try:
            return os.stat(self.log_file).st_size
        except FileNotFoundError:
            return 0

    def alien_files(self):
        """Files in the spool, relative to it, that no mail system which has stopped in order should have left there."""
        known = set(QUEUES + LOGS) | {"journal", "index", "pid", "public", "private", "etc", "lib", "lib64", "usr", "dev", "run", "tlstrace",
                                      "lost+found"}
        found = [name for name in os.listdir(self.spool) if name not in known]
        for queue, paths in self.queue_files(*QUEUES, *LOGS, unfinished=True).items():
            known = re.compile(FILE_NAME.pattern + (r"|\d+\.\d+" if queue == "maildrop" else ""))  # of a postdrop that was killed
            found += [path.removeprefix(f"{self.spool}/") for path in paths if not known.fullmatch(os.path.basename(path))]
        if os.path.isdir(f"{self.spool}/journal"):
            found += [f"journal/{name}" for name in os.listdir(f"{self.spool}/journal") if name != "ids"]
        return sorted(found)


class LogLine:
    """One line of the mail log: .program ("postfix/smtpd"), .service ("smtpd"), .pid, .text, .queue_id ("" if none)."""
    FORM = re.compile(r"^(?:\w{3} [ \d]\d [\d:]{8}|\d{4}-\d\d-\d\dT\S+) (\S+ )?([\w./-]+)\[(\d+)\]: (.*)$")

    def __init__(self, program, pid, text):
        self.program, self.pid, self.text = program, pid, text
        self.service = program.rpartition("/")[2]
        found = re.match(r"([0-9A-F]{6,}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{11,}): ", text)
        self.queue_id = found[1] if found else ""

    @classmethod
    def parse(cls, line):
        found = cls.FORM.match(line)
        return cls(found[2], int(found[3]), found[4]) if found else cls("", 0, line)

    def __repr__(self):
        return f"{self.program}[{self.pid}]: {self.text}"


def read_entries(path):
    """master.cf's logical lines."""
    entries = []
    try:
        with open(path) as f:
            for line in f:
                line = line.rstrip()
                if not line or line.lstrip().startswith("#"):
                    continue
                if line[0].isspace() and entries:
                    entries[-1] += " " + line.strip()
                else:
                    entries.append(line)
    except FileNotFoundError:
        pass
    return entries
