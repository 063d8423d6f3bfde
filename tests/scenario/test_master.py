# SPDX-License-Identifier: Apache-2.0
"""master, lib/service, postlogd and the sandbox, with a daemon that does as it is told (testd.c)."""
import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from harness.instance import build_dir, free_port, owner

IS_ROOT = os.geteuid() == 0


def program(name):
    path = f"{build_dir()}/{name}"
    if not os.access(path, os.X_OK):
        message = f"no {name} in {build_dir()}"
        pytest.fail(message) if os.environ.get("POSTERN_BUILD") else pytest.skip(message)
    return path


def eventually(condition, seconds=10, what=""):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Session:
    def __init__(self, address, seconds=10):
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(seconds)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout=seconds)
        self.file = self.socket.makefile("rwb")

    def ask(self, line):
        """The answer; "" if the other side went away."""
        try:
            self.file.write(line.encode() + b"\n")
            self.file.flush()
            return self.file.readline().decode().strip()
        except (ConnectionResetError, BrokenPipeError):
            return ""

    def close(self):
        with contextlib.suppress(OSError):
            self.file.close()
        self.socket.close()


class Master:
    """A master with a configuration of its own; services are lines of master.cf, {port} in them is a free port."""

    def __init__(self, *services, settings=()):
        self.base = tempfile.mkdtemp(prefix="master-")
        os.chmod(self.base, 0o755)
        self.etc, self.spool, self.log_path = f"{self.base}/etc", f"{self.base}/spool", f"{self.base}/mail.log"
        self.port, self.process = free_port(), None
        self.address = ("127.0.0.1", self.port)
        user = owner()[0]
        for directory in ("etc", "data", "daemons", "spool", "spool/private", "spool/public", "spool/pid", "spool/testd"):
            os.mkdir(f"{self.base}/{directory}")
            if IS_ROOT and directory not in ("etc", "daemons"):
                os.chown(f"{self.base}/{directory}", pwd.getpwnam(user).pw_uid, -1)
        os.symlink(program("tests/scenario/testd"), f"{self.base}/daemons/testd")
        os.symlink(program("postlogd/postlogd"), f"{self.base}/daemons/postlogd")
        with open(f"{self.etc}/main.cf", "w") as f:
            f.write(f"compatibility_level = 3.6\nqueue_directory = {self.spool}\ndata_directory = {self.base}/data\n"
                    f"daemon_directory = {self.base}/daemons\nmail_owner = {user}\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n"
                    f"maillog_file = {self.log_path}\nmaillog_file_prefixes = {self.base}\nservice_throttle_time = 2s\n"
                    f"service_drain_time = 2s\nmyhostname = mail.test\n" + "".join(f"{s}\n" for s in settings))
        self.configure(*services)

    def configure(self, *services):
        with open(f"{self.etc}/master.cf", "w") as f:
            f.write("".join(line.format(port=self.port) + "\n" for line in services))

    def start(self):
        count = self.log().count("daemon started")
        self.process = subprocess.Popen([program("master/master"), "-c", self.etc, "-d"], stdin=subprocess.DEVNULL)
        eventually(lambda: self.log().count("daemon started") > count, what="start")
        return self

    def log(self):
        with contextlib.suppress(FileNotFoundError), open(self.log_path) as f:
            return f.read()
        return ""

    def wait_log(self, pattern, seconds=10):
        return eventually(lambda: re.search(pattern, self.log()), seconds, f"{pattern} in\n{self.log()[-3000:]}")

    def session(self, address=None):
        return Session(address or self.address)

    def ask(self, line, address=None):
        session = self.session(address)
        try:
            return session.ask(line)
        finally:
            session.close()

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self):
        count = self.log().count("reload --")
        self.signal(signal.SIGHUP)
        eventually(lambda: self.log().count("reload --") > count, what="reload")

    def wait_end(self, seconds=15):
        return self.process.wait(seconds)

    def children(self):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            return [int(pid) for pid in f.read().split()]
        return []

    def close(self):
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.wait_end()
            except subprocess.TimeoutExpired:
                for pid in self.children():
                    os.kill(pid, signal.SIGKILL)
                self.process.kill()
                self.process.wait()
                raise
        shutil.rmtree(self.base)


@pytest.fixture
def make_master():
    made = []

    def make(*services, start=True, **options):
        made.append(Master(*services, **options))
        return made[-1].start() if start else made[-1]
    yield make
    for master in made:
        master.close()


ONE = "{port} inet n - n - - testd"


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.split(":", 1) for line in f.read().splitlines())


def is_gone(pid):
    """Also if nobody has asked for its status yet."""
    try:
        return "Z" in status(pid)["State"]
    except (FileNotFoundError, ProcessLookupError):
        return True


# --- start, crash, throttle -------------------------------------------------------------------------------------------

def test_process_starts_on_demand_and_stays(make_master):
    master = make_master(ONE, "echo unix - - n - - testd", "poke unix n - n - - testd")
    before = len(master.children())
    pids = {master.ask("pid") for _ in range(3)}
    assert len(pids) == 1
    assert int(pids.pop()) in master.children()
    assert len(master.children()) == before + 1
    assert master.ask("name", f"{master.spool}/private/echo").startswith("echo ")
    assert master.ask("name", f"{master.spool}/public/poke").startswith("poke ")


def test_crashed_process_is_replaced_within_a_second(make_master):
    """G7: a parser process that crashes takes only its own sessions with it."""
    master = make_master(ONE, "echo unix - - n - - testd")
    other = master.session(f"{master.spool}/private/echo")
    other_pid = other.ask("pid")
    for _ in range(8):
        pid = master.ask("pid")
        assert master.ask("crash") == ""
        begin = time.monotonic()
        assert master.ask("pid") not in ("", pid)
        assert time.monotonic() - begin < 1
    assert other.ask("pid") == other_pid
    other.close()
    master.wait_log(r"warning: process \S*/testd pid \d+ killed by signal 6")
    assert "throttling" not in master.log()


def test_failed_start_is_throttled_until_it_works(make_master):
    master = make_master("{port} inet n - n - - testd fail")
    session = master.session()
    master.wait_log("fatal: told to fail")
    master.wait_log(r"warning: process \S+/testd pid \d+ exit status 1")
    master.wait_log(r"warning: \S+/testd: bad command startup -- throttling")
    time.sleep(1)
    assert master.log().count("told to fail") == 1
    master.configure(ONE)
    master.reload()
    assert session.ask("name").startswith(str(master.port))
    session.close()


def test_program_that_ends_before_it_serves_is_throttled(make_master):
    """Also if it says that all is well: else it would be started again and again."""
    master = make_master("{port} inet n - n - - testd quit")
    session = master.session()
    master.wait_log(r"warning: process \S+/testd pid \d+ exit status 0")
    master.wait_log(r"warning: \S+/testd: bad command startup -- throttling")
    time.sleep(0.5)
    assert master.log().count("exit status 0") == 1
    session.close()


def test_missing_program_is_throttled(make_master):
    master = make_master("{port} inet n - n - - nosuch")
    master.session().close()
    master.wait_log("cannot execute .*/nosuch: No such file")


def test_loaded_service_gets_another_process(make_master):
    master = make_master(ONE, settings=["worker_processes_limit = 2"])
    sessions = [master.session()]
    first = sessions[0].ask("pid")
    sessions[0].ask("load 400")

    def other_pid():
        sessions.append(master.session())
        return sessions[-1].ask("pid") != first
    eventually(other_pid, what="a second process")
    assert sessions[-1].ask("load 400") == "0 ok"
    time.sleep(0.5)
    assert len({session.ask("pid") for session in sessions}) == 2  # the limit
    for session in sessions:
        session.close()


def test_number_of_sessions_is_limited_by_maxproc(make_master):
    master = make_master("{port} inet n - n - 3 testd")
    sessions = [master.session() for _ in range(3)]
    assert sessions[0].ask("name") == f"{master.port} 3"
    assert all(s.ask("pid") for s in sessions)
    fourth = master.session()
    fourth.socket.settimeout(0.5)
    with pytest.raises(OSError):
        fourth.ask("pid")
    sessions[0].close()
    fourth.socket.settimeout(10)
    assert fourth.socket.recv(100)  # what was asked is answered now
    for session in sessions[1:] + [fourth]:
        session.close()


def test_without_maxproc_there_are_as_many_sessions_as_fit(make_master):
    """More would be no session too many but the end of the process: each task's stack takes two mappings."""
    master = make_master(ONE, "many unix - - n - 500000 testd")
    with open("/proc/sys/vm/max_map_count") as f:
        most = int(f.read()) // 4
    limit = int(master.ask("name").split()[1])
    assert 100 < limit <= most
    assert int(master.ask("name", f"{master.spool}/private/many").split()[1]) == limit


def test_max_use_replaces_the_process(make_master):
    master = make_master(ONE, settings=["max_use = 3"])
    pids = [master.ask("pid") for _ in range(9)]
    assert all(pids)
    assert len(set(pids)) >= 3


def test_idle_process_ends(make_master):
    master = make_master(ONE, settings=["max_idle = 1s"])
    pid = int(master.ask("pid"))
    eventually(lambda: pid not in master.children(), what="the idle process gone")
    assert master.ask("pid")


def test_addresses_of_inet_services(make_master):
    master = make_master("[::1]:{port} inet n - n - - testd", ONE, f"127.0.0.2:{free_port()} inet n - n - - testd",
                         settings=["inet_protocols = all"])
    try:
        assert master.ask("name", ("::1", master.port)).startswith(f"[::1]:{master.port} ")
    except OSError:
        pytest.skip("no IPv6 here")
    assert master.ask("name").startswith(f"{master.port} ")


def test_more_addresses_than_one_would_think(make_master):
    hosts = [f"127.0.0.{n}" for n in range(1, 91)]
    master = make_master(ONE, settings=["inet_interfaces = " + ", ".join(hosts)])
    for host in (hosts[0], hosts[-1]):
        assert master.ask("name", (host, master.port)).startswith(f"{master.port} ")


def test_fifos_and_datagrams_reach_their_service(make_master):
    master = make_master("pipe fifo n - n - - testd", "box unix-dgram - - n - - testd")
    with open(f"{master.spool}/public/pipe", "w") as f:
        f.write("through the pipe")
    master.wait_log("read through the pipe")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(b"in a datagram", f"{master.spool}/private/box")
    master.wait_log("read in a datagram")


def hand_over(path, count=1):
    """Passes a connection to a service of type pass; our end of it. count: descriptors, of which one is wanted."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        socket.send_fds(s, [b"\0"], [theirs.fileno()] * count)
    theirs.close()
    return ours


def test_connections_are_passed_to_a_service(make_master):
    master = make_master("handed pass - - n - - testd")
    path = f"{master.spool}/private/handed"

    def pid_and_descriptors(count):
        with hand_over(path, count) as s:
            s.sendall(b"pid\n")
            pid = int(s.recv(100))
            return pid, len(os.listdir(f"/proc/{pid}/fd")) if IS_ROOT else 0
    first = pid_and_descriptors(1)
    assert first[0] in master.children()
    assert {pid_and_descriptors(2) for _ in range(3)} == {first}  # what is too much is closed


def test_service_wakes_up(make_master):
    master = make_master("woken unix n - n 1 - testd", "pipe fifo n - n 1 - testd", "handed pass - - n 1 - testd",
                         f"127.0.0.1:{free_port()} inet n - n 1 - testd", "unused unix n - n 1? - testd", start=False)
    master.start()
    eventually(lambda: len(master.children()) == 5, what="postlogd and the services that are woken")
    master.wait_log("read W")
    time.sleep(1.2)
    assert len(master.children()) == 5  # 1?: nobody used it


@pytest.mark.skipif(not IS_ROOT, reason="only root's master changes owners")
def test_what_lies_in_a_sockets_place_is_not_changed(make_master):
    """T12: public/ and private/ are mail_owner's, who may put links there."""
    master = make_master("box unix-dgram - - n - - testd", "pipe fifo - - n - - testd", start=False)
    own = f"{master.base}/root-only"
    with open(own, "w"):
        os.chmod(own, 0o600)
    private = f"{master.spool}/private"

    def start():
        return subprocess.run([program("master/master"), "-c", master.etc, "-d"], capture_output=True, text=True, timeout=10)
    os.symlink(own, f"{private}/box")
    assert "private/box: Address already in use" in start().stderr
    os.unlink(f"{private}/box")
    os.mkfifo(f"{private}/pipe")
    os.link(f"{private}/pipe", f"{private}/other")
    assert "private/pipe: something else was put in its place" in start().stderr
    os.unlink(f"{private}/pipe")
    os.symlink(own, f"{private}/pipe")
    master.start()
    assert os.stat(f"{private}/pipe").st_uid == os.stat(f"{private}/box").st_uid == pwd.getpwnam(owner()[0]).pw_uid
    assert (os.stat(own).st_uid, os.stat(own).st_mode & 0o777) == (0, 0o600)


@pytest.mark.skipif(not IS_ROOT, reason="an /etc of its own needs root")
def test_resolver_is_replaced_when_the_systems_name_servers_change(make_master):
    """A host may get its network long after its mail system has started."""
    master = make_master(start=False)
    os.symlink(program("resolver/resolver"), f"{master.base}/daemons/resolver")
    etc = f"{master.base}/system"
    os.mkdir(etc)
    for name in ("passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache"):
        if os.path.exists(f"/etc/{name}"):
            shutil.copy(f"/etc/{name}", etc)
    with open(f"{etc}/resolv.conf", "w") as f:
        f.write("nameserver 127.0.0.1\n")
    master.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", f"mount --bind {etc} /etc && "
                                       f"exec {program('master/master')} -c {master.etc} -d"], stdin=subprocess.DEVNULL)
    master.wait_log("daemon started")
    master.session(f"{master.spool}/private/resolver").close()
    first = eventually(lambda: [p for p in master.children() if status(p)["Name"].strip() == "resolver"], what="resolver")
    eventually(lambda: status(first[0])["NoNewPrivs"].strip() == "1", what="the resolver in its sandbox")
    with open(f"{etc}/resolv.conf.new", "w") as f:
        f.write("nameserver 127.0.0.2\n")
    os.rename(f"{etc}/resolv.conf.new", f"{etc}/resolv.conf")
    master.wait_log("/etc/resolv.conf or /etc/hosts has changed -- restarting")
    eventually(lambda: first[0] not in master.children(), what="the old resolver gone")


# --- processes that hang ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["spin", "sleep 100000"])
def test_process_that_stands_still_ends_itself_and_is_replaced(make_master, how):
    master = make_master(ONE, settings=["daemon_timeout = 2s"])
    pid = master.ask("pid")
    stuck = master.session()
    stuck.socket.settimeout(60)
    assert stuck.ask(how) == ""
    master.wait_log(rf"testd\[{pid}\]: fatal: watchdog timeout", 30)
    assert eventually(lambda: master.ask("pid"), 30) != pid
    assert "killed" not in master.log()


def test_stopped_process_is_killed_and_replaced(make_master):
    master = make_master(ONE, settings=["daemon_timeout = 2s"])
    pid = master.ask("pid")
    os.kill(int(pid), signal.SIGSTOP)
    master.wait_log(rf"process \S*/testd pid {pid}: watchdog timeout: killed", 30)
    assert eventually(lambda: master.ask("pid"), 30) != pid


def test_process_that_waits_or_was_stopped_for_a_moment_is_left_alone(make_master):
    master = make_master(ONE, settings=["daemon_timeout = 10s"])
    session = master.session()
    pid = session.ask("pid")
    for _ in range(3):
        os.kill(int(pid), signal.SIGSTOP)
        time.sleep(4)
        os.kill(int(pid), signal.SIGCONT)
        assert session.ask("pid") == pid
    session.close()
    assert "watchdog" not in master.log()


# --- reload -----------------------------------------------------------------------------------------------------------

def test_reload_drops_no_session_and_refuses_no_connection(make_master):
    master = make_master(ONE)
    held = master.session()
    pid = held.ask("pid")
    failures, ends = [], threading.Event()

    def knock():
        while not ends.is_set():
            try:
                if not master.ask("pid"):
                    failures.append("no answer")
            except OSError as problem:
                failures.append(problem)
    knocker = threading.Thread(target=knock)
    knocker.start()
    for _ in range(5):
        master.reload()
        time.sleep(0.1)
    ends.set()
    knocker.join()
    assert failures == []
    assert held.ask("pid") == pid      # the old process serves it to its end
    assert master.ask("pid") != pid    # a new one serves the rest
    held.close()
    eventually(lambda: int(pid) not in master.children(), what="the old process gone")


def test_reload_starts_new_services_and_ends_old_ones(make_master):
    master = make_master(ONE, "old unix - - n - - testd")
    old = f"{master.spool}/private/old"
    pid = int(master.ask("pid", old))
    master.configure(ONE, "new unix - - n - - testd")
    master.reload()
    assert master.ask("name", f"{master.spool}/private/new").startswith("new ")
    eventually(lambda: pid not in master.children(), what="the old service's process gone")
    assert not os.path.exists(old)


def test_reload_with_a_broken_configuration_changes_nothing(make_master):
    master = make_master(ONE)
    master.configure(ONE, "broken unix - - n")
    master.signal(signal.SIGHUP)
    master.wait_log("error: reload: .*master.cf")
    assert master.ask("pid")


def test_arguments_and_overrides_reach_the_process(make_master):
    master = make_master("{port} inet n - n - - testd -o syslog_name=postfix/submission")
    assert master.ask("log hello\x07there") == "0 ok"
    master.wait_log(r"postfix/submission/testd\[\d+\]: hello\?there\n")


# --- stop -------------------------------------------------------------------------------------------------------------

def test_stop_ends_all_and_removes_the_pid_file(make_master):
    master = make_master(ONE)
    with open(f"{master.spool}/pid/master.pid") as f:
        assert f.read() == f"{master.process.pid:10d}\n"
    test = [program("master/master"), "-c", master.etc, "-t"]
    assert subprocess.run(test).returncode == 1
    held = master.session()
    pid = int(held.ask("pid"))
    begin = time.monotonic()
    master.signal(signal.SIGTERM)
    assert master.wait_end() == 0
    assert time.monotonic() - begin < 5  # service_drain_time and a margin
    held.close()
    assert not os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(f"{master.spool}/pid/master.pid")
    assert subprocess.run(test).returncode == 0
    assert "terminating on signal 15" in master.log()


def test_abort_kills_at_once(make_master):
    master = make_master(ONE)
    held = master.session()
    held.ask("pid")
    begin = time.monotonic()
    master.signal(signal.SIGABRT)
    assert master.wait_end() == 0
    assert time.monotonic() - begin < 1
    held.close()


def test_second_master_is_refused(make_master):
    master = make_master(ONE)
    second = subprocess.run([program("master/master"), "-c", master.etc, "-d"], capture_output=True, text=True, timeout=10)
    assert second.returncode == 1
    assert master.ask("pid")


def test_processes_end_when_master_is_gone(make_master):
    master = make_master(ONE)
    held = master.session()
    pid = int(held.ask("pid"))
    master.process.kill()
    master.process.wait()
    master.start()
    eventually(lambda: is_gone(pid), 0.5, "the old process gone")  # the new master waited for it
    assert master.ask("pid")
    held.close()


def test_start_waits_until_it_serves(make_master):
    master = make_master(ONE, start=False)
    assert subprocess.run([program("master/master"), "-c", master.etc, "-w"], timeout=10).returncode == 0
    with open(f"{master.spool}/pid/master.pid") as f:
        pid = int(f.read())
    try:
        assert master.ask("pid")
        assert os.getsid(pid) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not os.path.exists(f"/proc/{pid}"), what="master gone")


def test_failed_start_is_told(make_master):
    master = make_master(ONE, start=False)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(master.address)
        taken.listen()
        result = subprocess.run([program("master/master"), "-c", master.etc, "-w"], capture_output=True, text=True, timeout=10)
    assert result.returncode == 1
    assert f"bind 127.0.0.1 port {master.port}: Address already in use" in result.stderr


@pytest.mark.skipif(not IS_ROOT, reason="a process name space needs root")
def test_as_process_1_it_reaps_orphans(make_master):
    master = make_master(ONE, start=False)
    master.process = subprocess.Popen(["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c",
                                       f"(sleep 0.3 & exec sleep 0.1) & exec {program('master/master')} -c {master.etc} -i"])
    try:
        master.wait_log("daemon started")
        assert master.ask("pid")
        inner = int(subprocess.check_output(["pgrep", "-P", str(master.process.pid)]).split()[0])
        time.sleep(0.6)
        with open(f"/proc/{inner}/task/{inner}/children") as f:
            states = [status(pid)["State"] for pid in f.read().split()]
        assert not [s for s in states if "zombie" in s]
    finally:
        os.kill(inner, signal.SIGTERM)
        master.process.wait(15)


# --- the log ----------------------------------------------------------------------------------------------------------

def test_log_lines_are_whole_and_complete(make_master):
    master = make_master(ONE)
    sessions = [master.session() for _ in range(5)]
    for i in range(200):
        for n, session in enumerate(sessions):
            assert session.ask(f"log line {n} {i} {'x' * 100}") == "0 ok"
    eventually(lambda: master.log().count("x" * 100 + "\n") == 1000, what="1000 lines")
    line = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ postfix/\w+\[\d+\]: .*")
    assert all(line.fullmatch(text) for text in master.log().splitlines())
    for session in sessions:
        session.close()


def test_log_file_is_opened_anew_after_reload(make_master):
    master = make_master(ONE)
    master.ask("log before")
    master.wait_log("before")
    os.rename(master.log_path, master.log_path + ".1")
    master.signal(signal.SIGHUP)  # what comes before the old postlogd has ended may still go to the old file
    eventually(lambda: master.ask("log after") and "testd" in master.log(), what="lines in the new file")
    assert "before" not in master.log()


def test_log_file_gets_the_mode_that_is_configured(make_master):
    master = make_master(ONE, settings=["maillog_file_permissions = 0644"])
    assert os.stat(master.log_path).st_mode & 0o777 == 0o644


def test_foreign_bytes_make_one_line_each(make_master):
    """What a local program writes to the postlog socket can't forge lines with control characters."""
    master = make_master(ONE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(b"x" * 100_000, f"{master.spool}/public/postlog")  # RELIABILITY section 3: more than a line, and no end
        for text in (b"plain", b"bell\x07 and \x1b[31m colour\n", b"", b"\x00" * 10, b"two\nlines"):
            s.sendto(text, f"{master.spool}/public/postlog")
    master.wait_log("plain\nbell\\? and \\?\\[31m colour\n\\?{10}\ntwo\nlines\n")


@pytest.mark.skipif(not IS_ROOT, reason="nobody else to be")
def test_unprivileged_master_says_what_it_gives_up(make_master):
    master = make_master(ONE, start=False)
    user = pwd.getpwnam("nobody")
    subprocess.run(["chown", "-R", "nobody", master.base], check=True)
    master.process = subprocess.Popen([program("master/master"), "-c", master.etc, "-d"], user=user.pw_uid, group=user.pw_gid,
                                      extra_groups=[])
    master.wait_log("warning: not started by root: ")
    pid = int(master.ask("pid"))
    assert status(pid)["NoNewPrivs"].strip() == "1"


# --- the sandbox ------------------------------------------------------------------------------------------------------

def sanitized():
    try:
        with open(f"{build_dir()}/config.h") as f:
            return re.search(r"^#define POSTERN_SANITIZERS 1", f.read(), re.M) is not None
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("command", ["fork", "exec /bin/true", "kill 1", "ptrace", "executable", "socket inet", "socket unix", "thread"])
def test_forbidden_call_kills_the_process(make_master, command):
    if sanitized():
        pytest.skip("a build with sanitizers has no filter")
    master = make_master(ONE)
    assert master.ask(command) == ""
    master.wait_log("killed by signal 31")


def test_files_are_out_of_reach(make_master):
    if sanitized():
        pytest.skip("a build with sanitizers has no filter")
    master = make_master(ONE, "files unix - - n - - testd files")
    assert master.ask("open /etc/passwd") == "-1 Permission denied"
    files = f"{master.spool}/private/files"
    assert master.ask("write testd/x", files) == "1 ok"
    if os.path.exists("/sys/kernel/security/landlock") or master.ask("open /etc/passwd", files).startswith("-1"):
        assert master.ask("write y", files) == "-1 Permission denied"
        assert master.ask("open /etc/passwd", files) == "-1 Permission denied"


def test_privileges_are_given_up(make_master):
    """RELIABILITY section 6: no capabilities, no new privileges, a filter; nothing to be won back."""
    master = make_master("{port} inet n - y - - testd")
    pid = master.ask("pid")
    held = status(pid)
    assert held["NoNewPrivs"].strip() == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") + (("CapBnd",) if IS_ROOT else ()):
        assert int(held[name], 16) == 0, name
    if not sanitized():
        assert held["Seccomp"].strip() == "2"
    if IS_ROOT:
        uid = pwd.getpwnam(owner()[0]).pw_uid
        assert held["Uid"].split() == [str(uid)] * 4
        assert held["Groups"].split() == [str(pwd.getpwnam(owner()[0]).pw_gid)]
        assert os.readlink(f"/proc/{pid}/root") == master.spool


def test_each_set_allows_what_it_says(make_master):
    if sanitized():
        pytest.skip("a build with sanitizers has no filter")
    master = make_master("threads unix - - n - - testd threads", "connect unix - - n - - testd connect")
    assert master.ask("thread", f"{master.spool}/private/threads") == "1 ok"
    assert master.ask("socket inet", f"{master.spool}/private/connect").endswith(" ok")


def test_no_descriptor_is_left_open(make_master):
    """T32: only what the service needs."""
    master = make_master(ONE)
    session = master.session()
    pid = session.ask("pid")
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")] if IS_ROOT else []
    assert [link for link in links if link.startswith(master.base)] in ([], [f"{master.base}/data/master.lock"])
    session.close()


def test_services_are_given_what_import_environment_names(make_mail, sink, monkeypatch):
    monkeypatch.setenv("TEST_KEPT", "kept")
    monkeypatch.setenv("TEST_DROPPED", "dropped")
    mail = make_mail(relay=sink, settings={"import_environment": "TEST_KEPT, { TEST_SET = a  b } TEST_GONE LANG=C"})
    for process in mail.processes("qmgr"):
        with open(f"/proc/{process.pid}/environ") as f:
            given = f.read().split("\0")
        assert {"TEST_KEPT=kept", "TEST_SET=a  b", "LANG=C", f"MAIL_CONFIG={mail.etc}"} <= set(given)
        assert not any(pair.startswith(("TEST_DROPPED=", "TEST_GONE=", "HOME=")) for pair in given)
        break
    else:
        pytest.fail("no qmgr")
