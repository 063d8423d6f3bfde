# SPDX-License-Identifier: Apache-2.0
"""Delivery to outside commands: what they get, as whom they run, and what their end means."""
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from harness import Client, instance, send

HEAD = b"From: a@src.test\r\nTo: b@far.test\r\nSubject: x\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@src.test>\r\n\r\n"
SHOW = r"""#!/bin/sh
# Keeps its arguments, environment, ids, descriptors and input.
d=@DIR@/$$
mkdir $d.new
for a; do printf '%s\n' "[$a]"; done >$d.new/args
env >$d.new/env; id >$d.new/id; ls -l /proc/self/fd >$d.new/fds; pwd >$d.new/cwd
cat >$d.new/input
mv $d.new $d.done
"""


def user():
    return "nobody" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def place():
    """A directory for what commands leave behind, and a way to make commands; ask for it before make_mail, so that it outlives the daemons."""
    class Place:
        base = tempfile.mkdtemp(prefix="pipe-")
        out = f"{base}/out"

        def script(self, name, text):
            path = f"{self.base}/{name}"
            with open(path, "w") as f:
                f.write(text.replace("@DIR@", self.out))
            os.chmod(path, 0o755)
            return path

        def runs(self):
            return [f"{self.out}/{n}" for n in sorted(os.listdir(self.out)) if n.endswith(".done")]

        def read(self, run, name):
            with open(f"{run}/{name}", "rb") as f:
                return f.read()

        def args(self, run):
            return re.findall(r"^\[(.*)\]$", self.read(run, "args").decode("utf-8", "replace"), re.M)

    os.chmod(Place.base, 0o755)  # commands run as somebody else
    os.mkdir(Place.out)
    os.chmod(Place.out, 0o777)
    yield Place()
    shutil.rmtree(Place.base, ignore_errors=True)


def piped(make_mail, attributes, settings=None, **kw):
    return make_mail(settings={"default_transport": "out", "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
                               **(settings or {})}, services=[f"out unix - n n - 10 pipe {attributes}"], **kw)


def test_command_gets_message_arguments_and_nothing_else(place, make_mail):
    show = place.script("show", SHOW)
    mail = piped(make_mail, f"flags=FRq user={user()} directory=/usr argv={show} -f $sender ${{queue_id}} $(nexthop) $$x {{ two words }} "
                 "<${recipient}> $user:$extension@$domain", {"recipient_delimiter": "+", "export_environment": "TZ LANG=C { X = a b }"})
    body = b"one\r\nFrom here\r\n..dots\r\n\xe4\x00end\r\n"
    assert send('"a b"@src.test', ["c+ext@far.test", "d@far.test"], HEAD + body, port=mail.port).code == 250
    line, = mail.wait_log(r"to=<d@far\.test>, relay=out, .*dsn=2\.0\.0, status=sent \(delivered via out service\)")
    run = place.runs()[0]
    args = place.args(run)
    assert args[:3] == ["-f", '"a b"@src.test', line.queue_id]
    assert args[3:] == ["far.test", "$x", "two words", "<c+ext@far.test>", "<d@far.test>", "c:ext@far.test", "d:@far.test"]
    text = place.read(run, "input")
    assert re.match(rb'From "a b"@src\.test  \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\nReturn-Path: <"a b"@src\.test>\nReceived: ', text)
    assert text.endswith(body.replace(b"\r\n", b"\n")) and b"\r" not in text
    env = dict(line.split("=", 1) for line in place.read(run, "env").decode().splitlines() if "=" in line)
    assert env.pop("X") == "a b" and env.pop("LANG") == "C" and env.pop("PATH")
    assert not set(env) - {"PWD", "OLDPWD", "SHLVL", "_", "TZ"}, env
    if not os.geteuid():
        who = pwd.getpwnam("nobody")
        assert place.read(run, "id").decode().startswith(f"uid={who.pw_uid}(nobody) gid={who.pw_gid}(")
        assert "groups=" not in place.read(run, "id").decode() or f"groups={who.pw_gid}(" in place.read(run, "id").decode()
    # 0, 1 and 2, and the one that ls reads the directory with
    assert len(re.findall(r"^l", place.read(run, "fds").decode(), re.M)) == 4
    assert place.read(run, "cwd") == b"/usr\n"
    assert not mail.complaints()


def test_flags_shape_the_message(place, make_mail):
    show = place.script("show", SHOW)
    mail = piped(make_mail, f"flags=BDOhu.> user={user()} eol=\\r\\n null_sender= argv={show} -f $sender -- $recipient $original_recipient",
                 {"out_destination_recipient_limit": "1"})
    assert send("", ["C.D@FAR.test"], HEAD + b"From me\r\nFro\r\n..x\r\nFrom\r\n", port=mail.port).code == 250
    mail.wait_log(r"status=sent")
    run = place.runs()[0]
    assert place.args(run) == ["-f", "", "--", "c.d@far.test", "c.d@far.test"]
    text = place.read(run, "input")
    assert text.startswith(b"X-Original-To: C.D@FAR.test\r\nDelivered-To: C.D@FAR.test\r\nReceived: ")
    assert text.endswith(b"\r\n>From me\r\nFro\r\n...x\r\nFrom\r\n\r\n")


def test_delivered_to_stops_loops_and_wants_one_recipient(place, make_mail):
    show = place.script("show", SHOW)
    mail = piped(make_mail, f"flags=D user={user()} argv={show}")
    assert send("", ["b@far.test"], b"delivered-to:  B@far.test\r\n" + HEAD, port=mail.port).code == 250
    mail.wait_log(r"to=<b@far\.test>.*dsn=5\.4\.6, status=bounced \(mail forwarding loop for b@far\.test\)")
    assert send("", ["b@far.test", "c@far.test"], HEAD, port=mail.port).code == 250
    mail.wait_log(r"pipe flag `D' requires out_destination_recipient_limit = 1")
    mail.wait_log(r"dsn=4\.3\.5, status=deferred \(mail system configuration error\)")
    assert not place.runs()


@pytest.mark.parametrize("script, result", [
    ("exit 0", r"dsn=2\.0\.0, status=sent \(delivered via out service\)"),
    ("cat >/dev/null; echo kept as 7", r"dsn=2\.0\.0, status=sent \(delivered via out service \(kept as 7\)\)"),
    ("cat >/dev/null; echo ' no such  user '; exit 67", r"dsn=5\.1\.1, status=bounced \(user unknown\. Command output: no such  user\)"),
    ("echo 4.2.2 mailbox full; exit 1", r"dsn=4\.2\.2, status=deferred \(mailbox full\)"),
    ("echo 5.7.1 spam; exit 75", r"dsn=5\.7\.1, status=bounced \(spam\)"),
    ("exit 75", r"dsn=4\.3\.0, status=deferred \(temporary failure\)"),
    ("exit 3", r'dsn=5\.3\.0, status=bounced \(Command died with status 3: "/\S+/end"\)'),
    ("echo x; kill -9 $$", r'dsn=4\.3\.0, status=deferred \(Command died with signal 9: "/\S+/end"\. Command output: x\)'),
    ("sleep 100 & sleep 100", r'dsn=5\.3\.0, status=bounced \(Command time limit exceeded: "/\S+/end"\)'),
    ("printf 'a\\033\\nb\\200'; exit 1", r'Command output: a_ b_\)'),
])
def test_end_of_the_command_decides(script, result, place, make_mail):
    end = place.script("end", f"#!/bin/sh\n{script}\n")
    mail = piped(make_mail, f"user={user()} argv={end}", {"out_time_limit": "2s" if "sleep" in script else "60s"})
    assert send("", ["b@far.test"], HEAD + b"x" * 900 + b"\r\n", port=mail.port).code == 250
    mail.wait_log(result)
    assert not [line for line in mail.complaints() if "panic" in line or "fatal" in line]


@pytest.mark.parametrize("script, code", [("echo not here; exit 67", "not here"), ("exit 67", "user unknown"), ("exit 3", "unknown mail system error 3"),
                                          ("echo 5.2.1 closed for good; exit 1", "closed for good")])
def test_the_report_quotes_the_command(script, code, place, make_mail, make_sink):
    sink = make_sink()
    end = place.script("end", f"#!/bin/sh\n{script}\n")
    mail = piped(make_mail, f"user={user()} argv={end}", {"default_transport": "smtp", "transport_maps": "inline:{far.test=out:}"}, relay=sink)
    assert send("a@src.test", ["b@far.test"], HEAD, port=mail.port).code == 250
    notice = sink.wait(lambda m: m.sender == "").content
    assert f"\r\nDiagnostic-Code: x-unix; {code}\r\n".encode() in notice, notice
    assert b"Content-Type: message/rfc822\r\n\r\nReturn-Path: <a@src.test>\r\nReceived: " in notice


def test_the_report_quotes_4096_bytes_of_output(place, make_mail, make_sink):
    sink = make_sink()
    end = place.script("end", "#!/bin/sh\nhead -c 10000 /dev/zero | tr '\\0' Q; exit 69\n")
    mail = piped(make_mail, f"user={user()} argv={end}", {"default_transport": "smtp", "transport_maps": "inline:{far.test=out:}"}, relay=sink)
    assert send("a@src.test", ["b@far.test"], HEAD, port=mail.port).code == 250
    notice = sink.wait(lambda m: m.sender == "").content
    for part in (rb"Command output:\s+(Q[\sQ]*)\r\n\r\n--", rb"Diagnostic-Code: x-unix;\s+(Q[\sQ]*)\r\n\r\n--"):
        assert re.search(part, notice)[1].count(b"Q") == 4096
    assert not mail.complaints()


SAMPLES = {  # as they stand in the master.cf of distributions and in manuals, but for the program
    "maildrop": ("flags=DRXhu user=@ argv=@ -d ${recipient}", ["-d", "joe+box@far.test"]),
    "uucp": ("flags=Fqhu user=@ argv=@ -r -n -z -a$sender - $nexthop!rmail ($recipient)", ["-r", "-n", "-z", '-a"a b"@src.test', "-", "next.hop!rmail", "(joe+box@far.test)"]),
    "ifmail": ("flags=F user=@ argv=@ -r $nexthop ($recipient)", ["-r", "Next.Hop", "(Joe+Box@Far.test)"]),
    "bsmtp": ("flags=Fq. user=@ argv=@ -t$nexthop -f$sender $recipient", ["-tNext.Hop", '-f"a b"@src.test', "Joe+Box@Far.test"]),
    "scalemail": ("flags=R user=@ argv=@ ${nexthop} ${user} ${extension}", ["Next.Hop", "Joe", "Box"]),
    "mailman": ("flags=FRX user=@ argv=@ ${nexthop} ${user}", ["Next.Hop", "Joe"]),
    "cyrus": ("flags=R user=@ argv=@ -e -r ${sender} -m ${extension} ${user}", ["-e", "-r", "a b@src.test", "-m", "Box", "Joe"]),
    "dovecot": ("flags=DRhu user=@ argv=@ -f ${sender} -a ${original_recipient} -d ${user}@${domain}",
                ["-f", "a b@src.test", "-a", "joe+box@far.test", "-d", "joe@far.test"]),
    "filter": ("flags=Rq null_sender= user=@ argv=@ -f ${sender} -- ${recipient}", ["-f", '"a b"@src.test', "--", "Joe+Box@Far.test"]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_of_real_master_cf_files(name, place, make_mail):
    attributes, wanted = SAMPLES[name]
    attributes = attributes.replace("user=@", f"user={user()}").replace("argv=@", f"argv={place.script('show', SHOW)}")
    mail = piped(make_mail, attributes, {"default_transport": "error:none", "transport_maps": "inline:{far.test=out:Next.Hop}", "recipient_delimiter": "+",
                                         "out_destination_recipient_limit": "1"})
    assert send('"a b"@src.test', ["Joe+Box@Far.test"], HEAD + b".dot\r\n", port=mail.port).code == 250
    run, = mail.wait(place.runs, 20, "the command has run")
    assert place.args(run) == wanted
    flags, text = re.match(r"flags=(\S+)", attributes)[1], place.read(run, "input")
    assert text.startswith(b'From "a b"@src.test  ' if "F" in flags else b'Return-Path: <"a b"@src.test>\n')
    assert (b"\n..dot\n" in text) == ("." in flags) and (b"Return-Path: <" in text) == ("R" in flags)
    assert (b"Delivered-To: Joe+Box@Far.test\n" in text) == ("D" in flags)  # u and h are for arguments
    mail.wait_log(r"relay=out, .*status=sent \(delivered via out service\)")


def test_dovecots_delivery_agent_by_pipe(place, make_mail):
    agent = "/usr/lib/dovecot/dovecot-lda"
    if os.geteuid() or not os.path.exists(agent):
        pytest.skip("needs root and dovecot-core")
    with open(f"{place.base}/dovecot.conf", "w") as f:
        f.write(f"base_dir = {place.base}/run\nprotocols =\nssl = no\nlog_path = {place.out}/log\nfirst_valid_uid = 1\nmail_home = {place.out}\n"
                f"mail_location = maildir:{place.out}/Maildir\npostmaster_address = postmaster@src.test\nhostname = mail.test\n")
    mail = piped(make_mail, f"flags=DRhu user=games:games argv={agent} -c {place.base}/dovecot.conf -f ${{sender}} -a ${{original_recipient}} -m INBOX",
                 {"out_destination_recipient_limit": "1"})
    assert send("a@src.test", ["Joe@Far.test"], HEAD + b"body\r\n.dot\r\n", port=mail.port).code == 250
    mail.wait_log(r"status=sent \(delivered via out service\)")
    file, = os.listdir(f"{place.out}/Maildir/new")
    text = place.read(f"{place.out}/Maildir/new", file)
    assert text.startswith(b"Return-Path: <a@src.test>\nDelivered-To: Joe@Far.test\n") and text.endswith(b"body\n.dot\n")


def test_maildrop_by_pipe(place, make_mail, sink):
    """The line of Debian's master.cf, for whom maildrop does not know; and a filter file in place of -d, which stores and refuses."""
    if os.geteuid() or not os.path.exists("/usr/bin/maildrop"):
        pytest.skip("needs root and maildrop")
    with open(f"{place.base}/filter", "w") as f:
        f.write(f'if (/^Subject: no/)\n{{\n    echo "5.7.1 not wanted"\n    EXITCODE=77\n    exit\n}}\nto "{place.out}/Maildir"\n')
    shutil.chown(f"{place.base}/filter", "games", "games")
    os.chmod(f"{place.base}/filter", 0o600)
    subprocess.run(["setpriv", "--reuid", "games", "--regid", "games", "--clear-groups", "maildirmake", f"{place.out}/Maildir"], check=True)
    mail = make_mail(relay=sink, settings={"maildrop_destination_recipient_limit": "1", "transport_maps": "inline:{unknown.test=maildrop, far.test=filter}",
                                           "filter_destination_recipient_limit": "1"},
                     services=["maildrop unix - n n - - pipe flags=DRXhu user=games argv=/usr/bin/maildrop -d ${recipient}",
                               f"filter unix - n n - - pipe flags=DRXhu user=games:games argv=/usr/bin/maildrop {place.base}/filter"])
    for to, subject in (("Joe@Unknown.test", b"x"), ("Joe@far.test", b"x"), ("Ann@far.test", b"no")):
        assert send("a@src.test", [to], HEAD.replace(b"Subject: x", b"Subject: " + subject) + b"body\r\n.dot\r\nFrom me\r\n", port=mail.port).code == 250
    mail.wait_log(r"to=<Joe@Unknown\.test>, relay=maildrop, .*dsn=5\.1\.1, status=bounced \(user unknown\. Command output: .*Invalid user specified\.\)")
    mail.wait_log(r"to=<Ann@far\.test>, relay=filter, .*dsn=5\.7\.1, status=bounced \(not wanted\)")
    mail.wait_log(r"to=<Joe@far\.test>, relay=filter, .*status=sent \(delivered via filter service\)")
    file, = os.listdir(f"{place.out}/Maildir/new")
    text = place.read(f"{place.out}/Maildir/new", file)
    assert text.startswith(b"Return-Path: <a@src.test>\n") and b"\nDelivered-To: Joe@far.test\n" in text and text.endswith(b"body\n.dot\nFrom me\n")


def test_uucp_by_pipe(place, make_mail):
    """The line of Debian's master.cf, but for a configuration of our own: the job lies in the spool for the other system."""
    if os.geteuid() or not os.path.exists("/usr/bin/uux"):
        pytest.skip("needs root and uucp")
    base = f"{place.out}/uucp"
    for name in ("", "/spool", "/pub"):
        os.mkdir(base + name)
        shutil.chown(base + name, "uucp", "uucp")
    with open(f"{place.base}/config", "w") as f:
        f.write(f"nodename here\nspool {base}/spool\npubdir {base}/pub\nlockdir {base}\nlogfile {base}/Log\nstatfile {base}/Stats\ndebugfile {base}/Debug\n"
                f"sysfile {place.base}/sys\n")
    with open(f"{place.base}/sys", "w") as f:
        f.write("system far\ntime never\n")
    mail = make_mail(settings={"transport_maps": "inline:{far.test=uucp:far}"},
                     services=[f"uucp unix - n n - - pipe flags=Fqhu user=uucp argv=uux -I {place.base}/config -r -n -z -a$sender - $nexthop!rmail ($recipient)"])
    assert send("a@src.test", ["Joe@far.test"], HEAD + b"body\r\n", port=mail.port).code == 250
    mail.wait_log(r"to=<Joe@far\.test>, relay=uucp, .*status=sent \(delivered via uucp service\)")
    job, = os.listdir(f"{base}/spool/far/C.")
    data, = os.listdir(f"{base}/spool/far/D.")
    assert place.read(f"{base}/spool/far/C.", job).endswith(b" a@src.test 0 rmail joe@far.test\n")
    text = place.read(f"{base}/spool/far/D.", data)
    assert text.startswith(b"From a@src.test  ") and text.endswith(b"\n\nbody\n")


def test_missing_command_defers(place, make_mail):
    mail = piped(make_mail, f"user={user()} argv={place.base}/none")
    assert send("", ["b@far.test"], HEAD, port=mail.port).code == 250
    mail.wait_log(r"dsn=4\.3\.0, status=deferred \(temporary failure\. Command output: pipe: fatal: execvp /\S+/none: No such file or directory\)")


def test_what_outsiders_chose_never_becomes_an_option(place, make_mail):
    show = place.script("show", SHOW)
    mail = piped(make_mail, f"user={user()} argv={show} $sender $user $extension $recipient", {"recipient_delimiter": "+"})
    with Client(mail.port) as client:
        client.ehlo()
        assert client.cmd("MAIL FROM:<-X/x@src.test>").code == client.cmd('MAIL FROM:<"-X/x"@src.test>').code == 501
        assert client.cmd("MAIL FROM:<>").code == 250
        assert client.cmd("RCPT TO:<-oQ/tmp@far.test>").code == client.cmd('RCPT TO:<"-oQ/tmp"@far.test>').code == 501
    cases = {("a@src.test", "-oQ/tmp@far.test"): "5.1.3", ("-X/x@src.test", "b@far.test"): "5.1.7", ("a@src.test", "b+-rf@far.test"): "5.1.3"}
    for (sender, rcpt), dsn in cases.items():
        subprocess.run([f"{mail.commands}/sendmail", "-C", mail.etc, "-f", sender, "--", rcpt], input=b"Subject: x\n\nx\n", check=True, timeout=60,
                       env={"MAIL_CONFIG": mail.etc, "PATH": "/usr/bin:/bin"})
        mail.wait_log(rf"to=<{re.escape(rcpt)}>.*dsn={re.escape(dsn)}, status=bounced \(bad address syntax", count=1)
    # one that is refused takes no other with it
    subprocess.run([f"{mail.commands}/sendmail", "-C", mail.etc, "-f", "ok@src.test", "--", "-oQ/tmp@far.test", "fine@far.test"], input=b"Subject: x\n\nx\n",
                   check=True, timeout=60, env={"MAIL_CONFIG": mail.etc, "PATH": "/usr/bin:/bin"})
    mail.wait_log(r"to=<fine@far\.test>.*status=sent")
    subprocess.run([f"{mail.commands}/sendmail", "-C", mail.etc, "-f", "ok@src.test", "--", "x+-rf@far.test", "well@far.test", "y+-i@far.test"],
                   input=b"Subject: x\n\nx\n", check=True, timeout=60, env={"MAIL_CONFIG": mail.etc, "PATH": "/usr/bin:/bin"})
    mail.wait_log(r"to=<(x\+-rf|y\+-i)@far\.test>.*dsn=5\.1\.3, status=bounced \(bad address syntax", count=2)
    mail.wait_log(r"to=<well@far\.test>.*status=sent")
    assert ["ok@src.test", "well", "", "well@far.test"] in [place.args(r) for r in place.runs()]
    assert not [r for r in place.runs() if not {"MAILER-DAEMON", "ok@src.test"} & set(place.args(r))]
    odd = ['"() { :;}; touch /tmp/x"@far.test', '"$(id)`id`|id"@far.test', '"a b;c"@far.test', '"+x"@far.test']
    for rcpt in odd:
        assert send("c@src.test", [rcpt], HEAD, port=mail.port).code == 250
    mail.wait(lambda: len([r for r in place.runs() if "c@src.test" in place.args(r)]) == len(odd), 20, "all are delivered")
    got = {place.args(r)[3]: place.args(r) for r in place.runs() if "c@src.test" in place.args(r)}
    assert set(got) == {"() { :;}; touch /tmp/x@far.test", "$(id)`id`|id@far.test", "a b;c@far.test", "+x@far.test"}
    assert all(len(args) == 4 for args in got.values())


@pytest.mark.parametrize("attributes, complaint", [
    ("user=root argv=/bin/true", "root privileges"), ("argv=/bin/true", "missing attribute: user"), ("user=nobody", "missing attribute: argv"),
    ("user=nobody flags=Z argv=/bin/true", "unknown flag: Z"), ("user=nobody argv=/bin/true $nonesuch", "unknown macro name"),
    ("user=no-such-user argv=/bin/true", "unknown user name"), ("user=@owner@ argv=/bin/true", "privileges of mail_owner")])
def test_bad_attributes_stop_the_service_and_keep_the_mail(attributes, complaint, place, make_mail):
    if os.geteuid() and ("root" in attributes or "@owner@" in attributes):
        pytest.skip("only root can become somebody")
    mail = piped(make_mail, attributes.replace("@owner@", instance.owner()[0]))
    assert send("a@src.test", ["b@far.test"], HEAD, port=mail.port).code == 250
    mail.wait_log(rf"fatal: .*{complaint}")
    assert not mail.log(r"status=(sent|bounced)")


def test_daemon_that_dies_shows_no_half_message(place, make_mail):
    """A command that has got a part of a message is killed with the daemon: it never sees the end of its input."""
    slow = place.script("slow", "#!/bin/sh\nhead -c 1000 >/dev/null; touch @DIR@/begun; sleep 2; cat >/dev/null; touch @DIR@/ended\n")
    mail = piped(make_mail, f"user={user()} argv={slow}", {"minimal_backoff_time": "1h", "maximal_backoff_time": "2h", "queue_run_delay": "1h"})
    assert send("a@src.test", ["b@far.test"], HEAD + (b"x" * 70 + b"\r\n") * 20000, port=mail.port).code == 250
    mail.wait(lambda: os.path.exists(f"{place.out}/begun"), 20, "the command has begun")
    for p in mail.processes("pipe"):
        os.kill(p.pid, 9)
    mail.wait(lambda: not mail.processes("exec-helper"), 20, "the helper ends")
    assert not os.path.exists(f"{place.out}/ended")


def test_spawn_serves_a_connection_with_a_command(place, make_mail):
    port = instance.free_port()
    echo = place.script("echo", "#!/bin/sh\nread a; echo \"got $a $1\"; id -un; ls /proc/self/fd | wc -l\n")
    mail = make_mail(services=[f"127.0.0.1:{port} inet n n n - 5 spawn user={user()} argv={echo} {{ x y }}"])
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.sendall(b"hello\n")
        f = s.makefile("rb")
        assert f.readline() == b"got hello x y\n" and f.readline().decode().strip() == user() and f.readline().strip() == b"4"
        assert f.read() == b""
    assert not mail.complaints()
