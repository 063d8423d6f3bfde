# SPDX-License-Identifier: Apache-2.0
"""postdrop and postqueue with the set-group-id bit, called by a user who may do nothing else: RELIABILITY section 3, class (e).
The user sees a file system in which /etc/postfix is the instance's; with root's rights alone the bit would change nothing."""
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess

import pytest
from harness import reply, send
from test_submission import GOOD, record

USER = "games"
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="installs set-group-id programs: needs root"),
              pytest.mark.skipif(subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode != 0, reason="no mount name spaces here")]
DEADLY = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGXCPU]
HARMLESS = [signal.SIGALRM, signal.SIGUSR1, signal.SIGPIPE]
LONG = GOOD.replace(record("N", b"Subject: x"), record("N", b"x" * 2000) * 500)
# In a mount name space of its own: /etc with links to what is there, and another postfix/.
INSIDE = 'mount --bind /etc "$0/orig" && mount --bind "$0/etc" /etc && shift 0 && exec setpriv --reuid "$1" --regid "$2" --clear-groups -- "${@:3}"'


class Others:
    """Runs programs as the user."""

    def __init__(self, mail):
        self.mail, self.top = mail, f"{mail.base}/inside"
        os.makedirs(f"{self.top}/orig")
        os.makedirs(f"{self.top}/etc")
        for name in set(os.listdir("/etc")) - {"postfix"}:
            os.symlink(f"{self.top}/orig/{name}", f"{self.top}/etc/{name}")
        os.symlink(mail.etc, f"{self.top}/etc/postfix")
        for name in ("postdrop", "postqueue"):
            path = f"{mail.commands}/{name}"
            real = os.path.realpath(path)
            os.unlink(path)
            shutil.copy(real, path)
            shutil.chown(path, "root", mail.group)
            os.chmod(path, 0o2755)
        ids = pwd.getpwnam(USER)
        self.uid, self.argv = ids.pw_uid, ["unshare", "-m", "bash", "-c", INSIDE, self.top, str(ids.pw_uid), str(ids.pw_gid)]

    def start(self, *argv, **options):
        return subprocess.Popen([*self.argv, *argv], **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options})

    def run(self, *argv, stdin=b"", env=None, **options):
        done = subprocess.run([*self.argv, *argv], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})}, **options)
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def dropped(self):
        return {name: os.stat(f"{self.mail.spool}/maildrop/{name}") for name in os.listdir(f"{self.mail.spool}/maildrop")}


@pytest.fixture
def others(make_mail, sink):
    """A mail system that is running."""
    return Others(make_mail(relay=sink))


@pytest.fixture
def idle(make_mail):
    """One that is not, so that what is dropped stays."""
    mail = make_mail(start=False)
    mail.command("postfix", "check")
    return Others(mail)


def clear(others, whole):
    """Removes what was dropped: `whole` messages of the user's, and nothing else."""
    for name, st in others.dropped().items():
        path = f"{others.mail.spool}/maildrop/{name}"
        assert stat.S_IMODE(st.st_mode) == 0o744 and st.st_uid == others.uid, (name, oct(st.st_mode), st.st_uid)
        with open(path, "rb") as f:
            assert f.read().endswith(record("X", b"") + record("E", b""))
        os.unlink(path)
        whole -= 1
    assert whole == 0


def test_a_user_without_rights_submits_and_looks(others, sink):
    mail = others.mail
    assert others.run("ls", f"{mail.spool}/maildrop")[0] != 0 and others.run("touch", f"{mail.spool}/maildrop/x")[0] != 0
    status, text = others.run(f"{mail.commands}/sendmail", "-f", "joe@src.test", "b@far.test", stdin=b"Subject: x\n\nhi\n")
    assert (status, text) == (0, "")
    sink.wait(lambda m: m.sender == "joe@src.test")
    mail.wait_log(rf"uid={others.uid} from=<joe@src\.test>")
    assert b"(Postfix, from userid %d)" % others.uid in sink.messages[0].content
    mail.wait(mail.is_empty, 20, "all is delivered")
    status, text = others.run(f"{mail.commands}/postqueue", "-p")
    assert status == 0 and "Mail queue is empty" in text
    assert others.run(f"{mail.commands}/postqueue", "-f") == (0, "")
    assert not mail.complaints()


def test_users_have_a_message_tried_unless_that_is_forbidden(make_mail, sink):
    sink.on("rcpt", reply("451 4.2.0 later"))
    mail = make_mail(relay=sink, settings={"minimal_backoff_time": "1h", "maximal_backoff_time": "2h", "authorized_flush_users": f"!{USER}, static:anyone"})
    others = Others(mail)
    assert send("a@src.test", ["b@far.test"], b"Subject: x\r\n\r\nhi\r\n", port=mail.port).code == 250
    (queue_id,) = mail.wait(lambda: [m[1] for m in mail.queue_messages("deferred")], what="a deferred message")
    status, text = others.run(f"{mail.commands}/postqueue", "-i", queue_id)
    assert status == 77 and f"User {USER}({others.uid}) is not allowed to flush the mail queue" in text
    mail.settings["authorized_flush_users"] = USER
    mail.write_config()
    sink.clear()
    assert others.run(f"{mail.commands}/postqueue", "-i", queue_id) == (0, "")
    sink.wait_count(1)


def test_no_other_configuration_is_read(idle):
    """A main.cf of the caller's own could name other directories, users and programs."""
    mail, own = idle.mail, f"{idle.mail.base}/own"
    os.mkdir(own)
    shutil.chown(own, USER, USER)
    with open(f"{own}/main.cf", "w") as f:
        f.write(f"queue_directory = {own}\nmessage_size_limit = 1\n")
    for args, env in ((["-c", own], {}), ([], {"MAIL_CONFIG": own}), (["-c", f"{mail.etc}/../own"], {}), ([], {"MAIL_CONFIG": "x" * 5000})):
        for program, more in (("postdrop", ["-r"]), ("postqueue", ["-p"])):
            status, text = idle.run(f"{mail.commands}/{program}", *args, *more, stdin=GOOD, env=env)
            assert status == 77 and "untrusted configuration directory name" in text, (program, status, text)
    clear(idle, 0)


HOSTILE = [
    "{p} <{good}", "{p} <&-", "{p} <{good} >&- 2>&-", "{p} <{good} >&-", "{p} <{good} 2>&-", "exec 0<>{good} 1>&- 2>&-; {p}", "{p} <{long} >/dev/full 2>/dev/full",
    "{p} </", "{p} <{good} 1<{good} 2<{good}", "for n in {{3..200}}; do eval \"exec $n<{good}\"; done; {p} <{good}",
    "ulimit -f 0; {p} <{good}", "ulimit -f 1; {p} <{long}", "ulimit -n 3; {p} <{good}", "ulimit -n 4; {p} <{long}", "ulimit -v 10000; {p} <{long}",
    "ulimit -t 1; {p} <{good}", "ulimit -s 64; {p} <{good}", "ulimit -c unlimited; {p} <{good}",
    "trap '' HUP INT TERM QUIT XFSZ PIPE; ulimit -f 1; {p} <{long}", "umask 777; {p} <{good}", "umask 0; {p} <{good}", "cd /proc/self/fd; {p} <{good}",
    "env -i {p} <{good}", "env -i LD_PRELOAD=/tmp/x.so LD_AUDIT=/tmp/x.so LD_LIBRARY_PATH=/tmp MALLOC_CHECK_=3 GCONV_PATH=/tmp LOCPATH=/tmp PATH= IFS=/ {p} <{good}",
    "env -i POSTERN_NO_SECCOMP=1 POSTERN_CLOCK_OFFSET=9999999999 TZ=:/dev/zero TMPDIR=/dev HOME=/dev/null LC_ALL=xx {p} <{good}",
    "X=$(head -c 100000 /dev/zero | tr '\\0' x); export X; {p} <{good}", "(exec -a '' {p}) <{good}", "(exec -a $(head -c 5000 /dev/zero | tr '\\0' '%') {p}) <{good}",
    "{p} -r -r -r <{good}", "{p} $(seq 30000) <{good}", "{p} -v -v <{good}", "{p} --help <{good}", "{p} -c <{good}", "head -c 100000000 /dev/zero | {p}",
    "yes | head -c 30000000 | {p}", "timeout -s KILL 1 {p} </dev/zero"]


def test_hostile_surroundings(idle):
    """Descriptors, limits, environment, arguments, input: the message is whole or it is not there."""
    mail = idle.mail
    for name, data in (("good", GOOD), ("long", LONG)):
        with open(f"{mail.base}/{name}", "wb") as f:
            f.write(data)
        os.chmod(f"{mail.base}/{name}", 0o666)
    passed = 0
    for case in HOSTILE:
        status, text = idle.run("bash", "-c", case.format(p=f"{mail.commands}/postdrop", good=f"{mail.base}/good", long=f"{mail.base}/long"))
        if "KILL" in case:  # what nobody can tidy up is no message
            assert all(not st.st_mode & 0o111 for st in idle.dropped().values())
            continue
        assert status not in (132, 134, 135, 136, 139), (case, text)  # no crash
        try:
            clear(idle, int(status == 0))
        except AssertionError as e:
            raise AssertionError(f"{case}: status {status}, {text}") from e
        passed += status == 0
    assert 10 < passed < len(HOSTILE) - 10


def test_signals_of_the_caller_in_the_midst(idle):
    """Those that end it take the file along; the others change nothing. Two at once are no worse."""
    for number in DEADLY + HARMLESS:
        p = idle.start(f"{idle.mail.commands}/postdrop", stdin=subprocess.PIPE)
        try:
            p.stdin.write(GOOD[:20])
            p.stdin.flush()
            idle.mail.wait(idle.dropped, 20, "the file is begun")
            for _ in range(2):  # by the user: the kernel lets him
                subprocess.run(["setpriv", f"--reuid={USER}", "--clear-groups", "kill", f"-{int(number)}", str(p.pid)], stderr=subprocess.DEVNULL)
            if number in HARMLESS:
                p.stdin.write(GOOD[20:])
                p.stdin.close()
            assert (p.wait(20) == 0) == (number in HARMLESS), number
            clear(idle, int(number in HARMLESS))
        finally:
            p.kill()
            p.wait()
            p.stdin.close()


def test_full_disk_leaves_nothing(idle):
    mail = idle.mail
    drop = f"{mail.spool}/maildrop"
    st = os.stat(drop)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=64k,mode={stat.S_IMODE(st.st_mode):o},uid={st.st_uid},gid={st.st_gid}", "none", drop], check=True)
    try:
        status, text = idle.run(f"{mail.commands}/sendmail", "b@far.test", stdin=b"Subject: x\n\n" + b"x" * 200_000)
        assert status == 69 and "No space left on device" in text, (status, text)
        clear(idle, 0)
        assert idle.run(f"{mail.commands}/sendmail", "b@far.test", stdin=b"Subject: x\n\nx\n")[0] == 0
        clear(idle, 1)
    finally:
        subprocess.run(["umount", drop], check=True)


def test_a_process_in_the_midst_can_be_neither_read_nor_traced(idle):
    """The user owns the process; what the group may do must not be his."""
    mail = idle.mail
    p = idle.start(f"{mail.commands}/postdrop", stdin=subprocess.PIPE)
    try:
        p.stdin.write(GOOD[:20])
        p.stdin.flush()
        mail.wait(idle.dropped, 20, "the file is begun")
        for path in ("mem", "environ", "fd/0", "maps"):
            assert idle.run("head", "-c1", f"/proc/{p.pid}/{path}")[0] != 0, path
        assert re.search(rf"Uid:\s+{idle.uid}\s", open(f"/proc/{p.pid}/status").read())
    finally:
        p.kill()
        p.wait()


def test_many_recipients_and_long_arguments(others, sink):
    """20,000 recipients in the header, 1,000 as arguments, an argument of 100,000 bytes: a message or a clear error."""
    mail = others.mail
    command = f"{mail.commands}/sendmail"
    assert others.run(command, "-f", "a@src.test", *[f"r{n}@far.test" for n in range(1000)], stdin=b"Subject: x\n\nhi\n") == (0, "")
    mail.wait_log(r"from=<a@src\.test>, size=\d+, nrcpt=1000 ", seconds=30)
    header = b"To: " + b",\n ".join(b"h%d@far.test" % n for n in range(20000)) + b"\nSubject: x\n\nhi\n"
    status, text = others.run(command, "-t", "-f", "t@src.test", stdin=header)
    assert status == 0, text
    mail.wait_log(r"from=<t@src\.test>, size=\d+, nrcpt=20000 ", seconds=60)
    for args in (["x" * 100_000 + "@far.test"], ["-f", "y" * 100_000 + "@src.test", "b@far.test"], ["-F", "z\n" * 40_000, "b@far.test"]):
        status, text = others.run(command, *args, stdin=b"Subject: y\n\nhi\n")
        assert status not in (134, 135, 136, 139) and "Traceback" not in text, text
    assert not mail.complaints()
