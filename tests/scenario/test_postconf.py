# SPDX-License-Identifier: Apache-2.0
"""postconf: what it prints, how it edits, and what it warns of. The wanted texts are those of Debian's Postfix."""
import concurrent.futures
import os
import subprocess

import pytest

from harness.instance import build_dir

MAIN = """\
# first
mydestination = a,
  b

    # in the middle
  c
mail_name = $own $$
own = x
myhostname=mail.example.com
"""

MASTER = """\
# services
smtp      inet  n       -       y       -       -       smtpd
  -o syslog_name=postfix/in
#  -o old=1
  -o { smtpd_banner = $myhostname hi }
#pickup   unix  n       -       y       60      1       pickup
smtp      unix  -       -       y       -       -       smtp
maildrop  unix  -       n       n       -       -       pipe
  flags=R user=vmail argv=/usr/bin/maildrop -d ${recipient}
"""


class Files:
    def __init__(self, directory):
        self.directory = directory
        self.program = f"{build_dir()}/tools/postconf"
        if not os.access(self.program, os.X_OK):
            found = f"{build_dir()}/usr/sbin/postconf"
            self.program = found if os.access(found, os.X_OK) else self.program
        if not os.access(self.program, os.X_OK):
            message = f"no postconf in {build_dir()}"
            pytest.fail(message) if os.environ.get("POSTERN_BUILD") else pytest.skip(message)
        self.write("main.cf", MAIN)
        self.write("master.cf", MASTER)

    def write(self, name, text):
        (self.directory / name).write_text(text)

    def read(self, name):
        return (self.directory / name).read_text()

    def run(self, *args, status=0):
        """(standard output, standard error without the program's path)."""
        done = subprocess.run([self.program, "-c", str(self.directory), *args], capture_output=True, text=True, timeout=30)
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr.replace(self.program, "postconf")

    def out(self, *args):
        return self.run(*args)[0]


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.mark.parametrize("args, want", [
    (["mail_name"], "mail_name = $own $$\n"),
    (["-x", "mail_name"], "mail_name = x $\n"),
    (["-h", "myhostname"], "mail.example.com\n"),
    (["-H", "myhostname", "own"], "myhostname\nown\n"),
    (["-d", "myhostname", "mail_version"], None),
    (["-hd", "mail_name"], "Postfix\n"),
    (["mydestination"], "mydestination = a, b c\n"),
    (["relayhost"], "relayhost =\n"),
    (["-o", "own=y", "-hx", "mail_name"], "y $\n"),
    (["-M", "smtp/unix"], "smtp       unix  -       -       y       -       -       smtp\n"),
    (["-Mf", "smtp/inet"], "smtp       inet  n       -       y       -       -       smtpd\n"
     "    -o syslog_name=postfix/in\n    -o {smtpd_banner=$myhostname hi}\n"),
    (["-F", "smtp/inet/chroot"], "smtp/inet/chroot = y\n"),
    (["-Fh", "maildrop/*/command"], "pipe flags=R user=vmail argv=/usr/bin/maildrop -d ${recipient}\n"),
    (["-P", "smtp"], "smtp/inet/smtpd_banner = $myhostname hi\nsmtp/inet/syslog_name = postfix/in\n"),
    (["-Pxh", "smtp/inet/smtpd_banner"], "mail.example.com hi\n"),
    (["maildrop_destination_recipient_limit"], "maildrop_destination_recipient_limit = $default_destination_recipient_limit\n"),
])
def test_shows(files, args, want):
    out = files.out(*args)
    if want is not None:
        assert out == want
    else:
        assert "\nmail_version = 3." in out


def test_only_set_parameters_in_the_order_of_names(files):
    names = [line.split(" ")[0] for line in files.out("-n").splitlines()]
    assert names == ["config_directory", "mail_name", "mydestination", "myhostname", "own"]


def test_all_parameters_have_a_line(files):
    lines = files.out().splitlines()
    assert len(lines) > 950 and all(" =" in line for line in lines)
    assert lines == sorted(lines, key=lambda line: line.split(" ")[0])


def test_folded_lines_read_the_same(files):
    files.run("mydestination = " + ", ".join(f"domain{i}.example.com" for i in range(30)))
    whole = files.out("-n")
    folded = files.out("-nf")
    assert max(len(line) for line in folded.splitlines()) <= 80
    files.write("main.cf", "\n".join(l for l in folded.splitlines() if not l.startswith("config_directory")) + "\n")
    assert files.out("-n") == whole


@pytest.mark.parametrize("args, main", [
    (["own = y  z"], MAIN.replace("own = x", "own = y  z")),
    (["-e", "own=y", "new = 1", "own=z"], MAIN.replace("own = x", "own = z") + "new = 1\n"),
    (["relayhost="], MAIN + "relayhost = \n"),
    (["mydestination = q"], MAIN.replace("mydestination = a,\n  b\n", "mydestination = q\n").replace("  c\n", "")),
    (["-#", "mydestination"], MAIN.replace("mydestination", "#mydestination").replace("  b", "#  b").replace("  c", "#  c")),
    (["-X", "own", "nosuch"], MAIN.replace("own = x\n", "")),
])
def test_edits_main_cf(files, args, main):
    files.run(*args)
    assert files.read("main.cf") == main
    assert sorted(os.listdir(files.directory)) == ["main.cf", "master.cf"]


def replaced(old, new):
    assert old in MASTER
    return MASTER.replace(old, new)


SMTP_UNIX = "smtp      unix  -       -       y       -       -       smtp\n"


@pytest.mark.parametrize("args, master", [
    (["-M#", "smtp/unix"], replaced(SMTP_UNIX, "#" + SMTP_UNIX)),
    (["-MX", "smtp/unix"], replaced(SMTP_UNIX, "")),
    (["-M", "smtp/unix=smtp unix - - n - 5 smtp"],
     replaced(SMTP_UNIX, "smtp       unix  -       -       n       -       5       smtp\n")),
    (["-Me", "2525/inet=2525 inet n - n - - smtpd", "postlog/unix-dgram=postlog unix-dgram n - n - 1 postlogd"],
     MASTER + "2525       inet  n       -       n       -       -       smtpd\n"
     "postlog    unix-dgram n  -       n       -       1       postlogd\n"),
    (["-F", "smtp/unix/chroot=n"], replaced(SMTP_UNIX, "smtp       unix  -       -       n       -       -       smtp\n")),
    (["-F", "smtp/unix/command=smtp -v"], replaced(SMTP_UNIX, "smtp       unix  -       -       y       -       -       smtp -v\n")),
    (["-P", "smtp/unix/a=1"], replaced(SMTP_UNIX, "smtp       unix  -       -       y       -       -       smtp\n    -o a=1\n")),
    (["-PX", "smtp/unix/a"], replaced(SMTP_UNIX, "smtp       unix  -       -       y       -       -       smtp\n")),
    (["-M#", "nosuch/inet"], MASTER),
])
def test_edits_master_cf(files, args, master):
    files.run(*args)
    assert files.read("master.cf") == master


def test_expanded_values_of_a_service_are_its_own(files):
    files.write("main.cf", "own = main\nref = $own-$service_name-$process_name\nservice_name = nobody\n")
    files.write("master.cf", "smtp inet n - n - - smtpd -o own=one -o{a=$ref} -o { b = $own $service_name }\n"
                             "relay unix - - n - - /x/smtp -o a=$ref -o process_name=x -o b=$process_name\n"
                             "list unix - n n - - pipe flags=R argv=/x -o own=$own\n")
    assert files.out("-qPx") == ("smtp/inet/a = one-smtp-smtpd\nsmtp/inet/b = one smtp\nsmtp/inet/own = one\n"
                                 "relay/unix/a = main-relay-smtp\nrelay/unix/b = smtp\n")
    assert files.out("-qFxh", "*/*/command").splitlines() == [
        "smtpd -o own=one -o a=one-smtp-smtpd -o {b=one smtp}", "/x/smtp -o a=main-relay-smtp -o process_name=x -o b=smtp",
        "pipe flags=R argv=/x -o own=$own"]
    assert "read-only parameter assignment: service_name=nobody" in files.run("-n")[1]
    assert "read-only parameter assignment: process_name=x" in files.run("-n")[1]


def test_an_option_stands_before_what_the_service_runs(files):
    files.run("-M", "policy/unix=policy unix - n n - - spawn -o b=2 user=nobody argv=/x")
    files.run("-P", "policy/unix/a=1")
    assert files.read("master.cf").endswith("spawn\n    -o b=2\n    -o a=1\n    user=nobody argv=/x\n")


def test_all_fields_at_once_keep_arguments_and_comments(files):
    files.run("-F", "*/*/chroot=n")
    text = files.read("master.cf")
    assert "#  -o old=1\n" in text and "#pickup   unix" in text
    assert files.out("-Fh", "*/*/chroot") == "n\nn\nn\n"
    assert files.out("-Ph", "smtp/inet") == "$myhostname hi\npostfix/in\n"


@pytest.mark.parametrize("args, status, text", [
    (["-e", "a b"], 1, "postconf: fatal: missing '=' after attribute name: \"a b\"\n"),
    (["-Me", "a/b=c"], 1, "bad field count"),
    (["-Me", "a=a unix - - n - - x"], 1, "postconf: fatal: -Me, -MX or -M# requires service_name/type\n"),
    (["-F", "smtp/inet/maxproc=1"], 1, "postconf: fatal: invalid service attribute name: \"maxproc\"\n"),
    (["-F", "smtp/inet/chroot=q"], 1, "invalid chroot field \"q\""),
    (["-P#", "smtp/inet/a"], 1, "postconf: fatal: with option -P, do not specify -#\n"),
    (["-e", "-X", "a"], 1, "postconf: fatal: specify one of -e -X\n"),
    (["-M", "nosuch"], 0, "postconf: warning: unmatched request: \"nosuch\"\n"),
    (["nosuch"], 0, "postconf: warning: nosuch: unknown parameter\n"),
])
def test_says_what_is_wrong_and_changes_nothing(files, args, status, text):
    assert text in files.run(*args, status=status)[1]
    assert files.read("main.cf") == MAIN and files.read("master.cf") == MASTER


def test_warnings(files):
    files.write("main.cf", MAIN + "myhostname = other\nmisspelt = $nothing\n")
    files.write("master.cf", MASTER + "a unix - - n - - smtp\n  -o b=c -o relayhost=$d\n")
    directory = files.directory
    assert sorted(files.run("own")[1].splitlines()) == sorted([
        f"postconf: warning: {directory}/main.cf, line 10: overriding earlier entry: myhostname=mail.example.com",
        f"postconf: warning: {directory}/main.cf: undefined parameter: nothing",
        f"postconf: warning: {directory}/main.cf: unused parameter: misspelt=$nothing",
        f"postconf: warning: {directory}/master.cf: undefined parameter: d",
        f"postconf: warning: {directory}/master.cf: unused parameter: b=c",
    ])
    assert files.run("-q", "own")[1] == ""


def test_broken_files_are_named(files):
    files.write("main.cf", "a = 1\n\nb\n")
    assert files.run("own", status=1)[1] == \
        f"postconf: fatal: {files.directory}/main.cf, line 3: missing '=' after attribute name: \"b\"\n"
    files.write("main.cf", MAIN)
    files.write("master.cf", "smtp inet n\n")
    assert files.run("-M", status=1)[1] == f"postconf: fatal: file {files.directory}/master.cf: line 1: bad field count\n"


def test_a_circle_of_names_is_refused(files):
    files.write("main.cf", "mail_name = $own\nown = $mail_name\n")
    assert "fatal: macro processing error" in files.run("-x", "mail_name", status=1)[1]


def test_edits_at_the_same_time_all_arrive(files):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: files.run(f"name{i} = {i}"), range(24)))
    text = files.read("main.cf")
    assert text.startswith(MAIN) and all(f"\nname{i} = {i}\n" in text for i in range(24))


def test_a_link_stays_a_link_and_the_mode_stays(files):
    os.rename(files.directory / "main.cf", files.directory / "real")
    os.symlink("real", files.directory / "main.cf")
    os.chmod(files.directory / "real", 0o600)
    files.run("own = y")
    assert os.path.islink(files.directory / "main.cf")
    assert "own = y\n" in files.read("real") and os.stat(files.directory / "real").st_mode & 0o777 == 0o600
