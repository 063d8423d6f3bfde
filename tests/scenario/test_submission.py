# SPDX-License-Identifier: Apache-2.0
"""Mail of local programs: sendmail, postdrop, pickup."""
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading

import pytest
from harness import disk as disks
from harness import inject
from harness.disk import Disk


MESSAGE = b"From: a@src.test\nTo: b@far.test\nSubject: x\n\nhi\n"


def login():
    return pwd.getpwuid(os.getuid()).pw_name


def sendmail(mail, *args, stdin=MESSAGE, name="sendmail", env=None, check=True, **options):
    """Runs sendmail; returns (exit status, what it wrote)."""
    done = subprocess.run([f"{mail.commands}/{name}", *([] if name != "sendmail" else ["-C", mail.etc]), *args], input=stdin, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={"PATH": "/usr/bin:/bin", "MAIL_CONFIG": mail.etc, **(env or {})}, **options)
    text = done.stdout.decode("utf-8", "replace")
    if check:
        assert done.returncode == 0, text
    return done.returncode, text


def postdrop(mail, records, **options):
    return sendmail(mail, "-r", stdin=records, name="postdrop", check=False, **options)


def record(kind, data):
    out, n = kind.encode(), len(data)
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n]) + data


GOOD = record("S", b"a@src.test") + record("R", b"b@far.test") + record("M", b"") + record("N", b"Subject: x") + record("X", b"") + record("E", b"")


def dropped(mail):
    return mail.queue_files("maildrop")["maildrop"]


def test_message_of_a_script_is_delivered(mail, sink):
    status, text = sendmail(mail, "-f", "joe@src.test", "b@far.test", "<c@far.test>, d@far.test")
    assert text == ""
    sink.wait_count(1)
    message = sink.messages[0]
    assert message.sender == "joe@src.test" and sorted(message.recipients) == ["b@far.test", "c@far.test", "d@far.test"]
    assert re.match(rb"Received: by mail\.test \(Postfix, from userid %d\)\r\n\tid [0-9A-F]+; " % os.getuid(), message.content)
    assert b"\r\nFrom: a@src.test\r\nTo: b@far.test\r\nSubject: x\r\n" in message.content and message.content.endswith(b"\r\n\r\nhi\r\n")
    line, = mail.wait_log(rf"uid={os.getuid()} from=<joe@src\.test>$")
    assert line.service == "pickup" and line.queue_id
    mail.wait(lambda: not dropped(mail), 10, "the file is removed")
    assert not mail.complaints()


def test_sender_and_headers_are_completed(make_mail, sink):
    mail = make_mail(relay=sink, settings={"myorigin": "src.test"})
    sendmail(mail, "-F", "Joe \"X\" User", "b@far.test", stdin=b"Subject: y\n\nhi\n")
    sink.wait_count(1)
    message = sink.messages[0]
    assert message.sender == f"{login()}@src.test"
    assert re.search(rb"(?m)^From: .*Joe.*<?%s@src\.test>?\r$" % login().encode(), message.content), message.content
    assert re.search(rb"(?m)^Date: ", message.content) and re.search(rb"(?mi)^Message-Id: <", message.content)


def test_recipients_come_from_the_header(mail, sink):
    text = (b"From joe Mon Jan  1 00:00:00 2024\nTo: \"x, y\" <b@far.test> (c, d@no.test), e@far.test\nCc: list: f@far.test,\n g@far.test;\n"
            b"Bcc: \"h i\"@far.test\nSubject: z\n\nTo: no@far.test\n")
    sendmail(mail, "-t", "-f", "a@src.test", "k@far.test", stdin=text)
    sink.wait_count(1)
    message = sink.messages[0]
    assert sorted(message.recipients) == ['"h i"@far.test', "b@far.test", "e@far.test", "f@far.test", "g@far.test", "k@far.test"]
    assert b"\r\nBcc:" not in message.content and b"From joe" not in message.content
    sendmail(mail, "-t", "-f", "a@src.test", stdin=b"To: no@far.test\nResent-To: yes@far.test\nResent-Cc: yes2@far.test\n\n")
    sink.wait_count(2)
    assert sorted(sink.messages[1].recipients) == ["yes2@far.test", "yes@far.test"]
    status, text = sendmail(mail, "-t", stdin=b"Subject: x\n\n", check=False)
    assert status and "No recipient addresses found in message header" in text
    status, text = sendmail(mail, stdin=b"", check=False)
    assert status == 64 and "Recipient addresses must be specified" in text


@pytest.mark.parametrize("args, text, body", [
    ([], b"\na\n.\nb\n", b"\r\na\r\n"),
    (["-i"], b"\na\n.\n..\nb\n", b"\r\na\r\n.\r\n..\r\nb\r\n"),
    (["-oi"], b"\n.\nb", b"\r\n.\r\nb\r\n"),
    (["-i"], b"\r\na\r\nb\rc\r\n", b"\r\na\r\nb c\r\n"),
    (["-i"], b"\n" + b"x" * 5000 + b"\n" + b"y" * 2048 + b"\n\xff\x80\n", b"\r\n" + b"x" * 5000 + b"\r\n" + b"y" * 2048 + b"\r\n\xff\x80\r\n"),
])
def test_content_is_kept(args, text, body, mail, sink):
    sendmail(mail, *args, "-f", "a@src.test", "b@far.test", stdin=b"Subject: x\n" + text)
    content = mail.wait(lambda: sink.messages and sink.messages[0].content, 15, "delivery")
    if b"x" * 5000 in body:  # what is longer than 998 bytes is broken on the way out
        content, body = content.replace(b"\r\n ", b""), body.replace(b"\r\n ", b"")
    assert content.endswith(b"\r\n" + body)


def test_large_message_of_a_script(make_mail, sink):
    mail = make_mail(relay=sink)
    body = b"".join(b"%06d 0123456789abcdef\n" % n for n in range(100000))
    sendmail(mail, "-f", "a@src.test", "b@far.test", stdin=b"Subject: x\n\n" + body)
    sink.wait_count(1, 30)
    assert sink.messages[0].content.endswith(body.replace(b"\n", b"\r\n"))
    status, text = sendmail(mail, "b@far.test", stdin=b"Subject: x\n\n" + body * 6, check=False)
    assert status == 69 and "message file too big" in text and not dropped(mail)


def test_mail_waits_while_the_system_is_down(make_mail, sink):
    mail = make_mail(relay=sink)
    mail.stop()
    for n in range(5):
        sendmail(mail, "-f", "a@src.test", f"r{n}@far.test")
    files = dropped(mail)
    assert len(files) == 5
    for path in files:
        st = os.stat(path)
        assert stat.S_IMODE(st.st_mode) == 0o744 and st.st_uid == os.getuid()
        assert re.fullmatch(rf"[0-9A-F]{{5}}{st.st_ino:X}", os.path.basename(path))
        with open(path, "rb") as f:
            data = f.read()
        assert re.match(rb"T.\d+ \d+A", data) and data.endswith(b"X\x00E\x00") and b"S\x0aa@src.test" in data
    mail.start()
    sink.wait_count(5)
    mail.wait(lambda: not dropped(mail), 10, "all are taken")


def test_notify_return_and_envelope_id_go_along(make_mail, sink):
    sink.extra = ["DSN"]
    mail = make_mail(relay=sink)
    sendmail(mail, "-N", "success,delay", "-R", "hdrs", "-V", "id+1", "-B", "8BITMIME", "-f", "a@src.test", "b@far.test")
    sink.wait_count(1)
    message = sink.messages[0]
    assert {"RET=HDRS", "ENVID=id+2B1", "BODY=8BITMIME"} <= set(message.mail_parameters.split())
    assert "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@far.test" in str(message.recipient_parameters)
    for bad in (["-N", "maybe"], ["-N", "never,delay"], ["-R", "some"], ["-B", "BINARY"], ["-V", "a b"], ["-bx"], ["-qSx"], ["-qx"]):
        status, text = sendmail(mail, *bad, "b@far.test", check=False)
        assert status == 64, (bad, text)


def test_ignored_options_do_no_harm(mail, sink):
    sendmail(mail, "-Am", "-Ac", "-n", "-m", "-U", "-h", "17", "-L", "x", "-o7", "-o8", "-oem", "-oep", "-om", "-odb", "-O", "x=y", "-X", "/dev/null", "-G",
             "-f", "a@src.test", "--", "b@far.test")
    sink.wait_count(1)


def test_other_names_and_modes(mail, sink):
    assert "Mail queue is empty" in sendmail(mail, "-bp", stdin=b"")[1]
    os.symlink(os.path.realpath(f"{mail.commands}/sendmail"), f"{mail.base}/mailq")
    done = subprocess.run([f"{mail.base}/mailq"], env={"MAIL_CONFIG": mail.etc, "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, timeout=30)
    assert b"Mail queue is empty" in done.stdout
    sendmail(mail, "-q", stdin=b"")
    sendmail(mail, "-bh", stdin=b"")
    assert sendmail(mail, "-q1h", "-f", "a@src.test", "b@far.test") == (0, "") and not dropped(mail)  # how often the queue is run is a setting
    for args in (["-bp", "x"], ["-bi", "x"], ["-bs", "x"], ["-bd", "x"], ["-qRfar.test", "x"], ["-qIABCDEF", "x"], ["-v", "-bv", "x"], ["-t", "-bv"], ["-t", "-bp"]):
        assert sendmail(mail, *args, stdin=b"", check=False)[0] == 64, args
    status, text = sendmail(mail, "-qIno_such_id!", stdin=b"", check=False)
    assert status


def test_who_may_submit_look_and_flush(make_mail, sink):
    mail = make_mail(relay=sink, settings={"authorized_submit_users": f"!{login()}, static:all"})
    status, text = sendmail(mail, "b@far.test", check=False)
    assert status == 77 and f"User {login()}({os.getuid()}) is not allowed to submit mail" in text
    assert not dropped(mail)


def test_which_sender_a_user_may_be(make_mail, sink):
    own = f"{login()}, {login()}@src.test"
    mail = make_mail(relay=sink, settings={
        "local_login_sender_maps": "inline:{ { nobody = * } }, pcre:{{/^uid:|^" + login() + "$$/ " + own + " @list.test}}", "recipient_delimiter": "+"})
    n = 0
    for sender in ([], ["-f", f"{login()}@src.test"], ["-f", f"{login().upper()}+x@SRC.test"], ["-f", "any+thing@list.test"]):
        sendmail(mail, *sender, "b@far.test")
        n += 1
    sink.wait_count(n)
    for sender in ("other@src.test", f"{login()}@other.test", "a@sub.list.test", "", "<>"):
        status, text = sendmail(mail, "-f", sender, "b@far.test", check=False)
        assert status == 77 and f"User {login()}({os.getuid()}) is not allowed to send mail as <" in text, (sender, text)
    mail.settings |= {"local_login_sender_maps": "static:{<>}"}
    mail.write_config()
    sendmail(mail, "-f", "", "b@far.test")
    sink.wait(lambda m: m.sender == "")
    mail.settings |= {"local_login_sender_maps": "lmdb:/no/such/table"}
    mail.write_config()
    status, text = sendmail(mail, "-f", "a@src.test", "b@far.test", check=False)
    assert status == 75 and "local_login_sender_maps" in text and not dropped(mail)


def test_who_may_look_and_flush(make_mail):
    if os.geteuid():
        pytest.skip("needs another user")
    user = pwd.getpwnam("daemon")
    mail = make_mail(settings={"authorized_mailq_users": "!daemon, static:all", "authorized_flush_users": "root"})
    os.chmod(f"{mail.spool}/public", 0o755)  # as a set-group-id postqueue finds it

    def ask(*args):
        return sendmail(mail, *args, stdin=b"", check=False, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/")

    for option, what in (("-bp", "view"), ("-q", "flush"), ("-qRfar.test", "flush"), ("-qIABCDEF", "flush")):
        status, text = ask(option)
        assert status == 77 and f"User daemon({user.pw_uid}) is not allowed to {what} the mail queue" in text, (option, status, text)
    assert "Mail queue is empty" in sendmail(mail, "-bp", stdin=b"")[1]
    sendmail(mail, "-q", stdin=b"")
    mail.settings |= {"authorized_mailq_users": "daemon", "authorized_flush_users": "static:anyone"}
    mail.write_config()
    assert ask("-bp") == (0, "Mail queue is empty\n")
    assert ask("-q") == (0, "")


# ---- sendmail -bs ----

DIALOGUE = (b"EHLO me.test\r\nMAIL FROM:<a@src.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=e+2B1\r\n"
            b"RCPT TO:<b@far.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@far.test\r\nRCPT TO:<c@far.test>\r\nDATA\r\n"
            b"From: a@src.test\r\nSubject: x\r\n\r\n..dot\r\n%s\r\nno \xff end\r\n.\r\nQUIT\r\n" % (b"x" * 5000))


def speak(mail, text=DIALOGUE, user=None, **options):
    """The lines that a whole dialogue brings, all that the client says written at once, through pipes."""
    program = [f"{mail.commands}/sendmail", "-C", mail.etc, "-bs"]
    done = subprocess.run(program, input=text, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"}, user=user, **options)
    assert done.stderr == b"", done.stderr
    return done.stdout.decode().split("\r\n")[:-1]


def codes(lines):
    return [line[:3] for line in lines if line[3:4] != "-"]


@pytest.fixture
def by_hand(make_mail, sink):
    """A mail system whose owner is not who runs the test."""
    if os.geteuid():
        pytest.skip("sendmail -bs as mail_owner is a server like any other")
    sink.extra = ["DSN"]
    return make_mail(relay=sink)


def test_smtp_of_a_local_program(by_hand, sink):
    lines = speak(by_hand)
    assert codes(lines) == ["220", "250", "250", "250", "250", "354", "250", "221"], lines
    offered = {line[4:] for line in lines if line.startswith("250-") or line.startswith("250 CHUNKING")}
    assert {"PIPELINING", "SIZE 10240000", "8BITMIME", "DSN", "CHUNKING"} <= offered and not {"STARTTLS"} & offered
    assert not [line for line in offered if line.startswith(("AUTH", "XCLIENT", "XFORWARD"))]
    sink.wait_count(1)
    message = sink.messages[0]
    assert message.sender == "a@src.test" and sorted(message.recipients) == ["b@far.test", "c@far.test"]
    assert {"RET=HDRS", "ENVID=e+2B1", "BODY=8BITMIME"} <= set(message.mail_parameters.split())
    assert "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@far.test" in str(message.recipient_parameters)
    content = message.content.replace(b"\r\n ", b"") if b"x" * 5000 not in message.content else message.content
    assert content.endswith(b"\r\n\r\n.dot\r\n" + b"x" * 5000 + b"\r\nno \xff end\r\n")
    assert re.search(rb"Received: by mail\.test \(Postfix, from userid \d+\)", message.content)
    assert re.search(rb"Received: from me\.test \(localhost \[127\.0\.0\.1\]\)\r\n\tby mail\.test \(Postfix\) with ESMTP;", message.content)


def test_a_local_program_has_no_mail_tried(by_hand):
    """As in Postfix: the session reaches no daemon. `sendmail -qR` and `postqueue -s` do."""
    lines = speak(by_hand, b"EHLO me.test\r\nETRN far.test\r\nETRN @far.test\r\nETRN a b\r\nQUIT\r\n")
    assert lines[-4:] == ["458 Unable to queue messages"] * 3 + ["221 2.0.0 Bye"], lines


def test_smtp_of_a_user_while_the_system_is_down(by_hand, sink):
    """As a user who can reach no daemon's socket: only postdrop's rights are needed, here those of a directory for all."""
    by_hand.stop()
    os.chmod(f"{by_hand.spool}/maildrop", 0o1777)
    user = pwd.getpwnam("daemon")
    for _ in range(2):
        lines = speak(by_hand, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/")
        assert codes(lines)[-2:] == ["250", "221"], lines
    assert [os.stat(path).st_uid for path in dropped(by_hand)] == [user.pw_uid] * 2
    os.chmod(f"{by_hand.spool}/maildrop", 0o1730)
    by_hand.start()
    sink.wait_count(2)


def test_smtp_of_a_local_program_reads_files_and_sockets(by_hand, sink):
    path = f"{by_hand.base}/dialogue"
    with open(path, "wb") as f:
        f.write(DIALOGUE)
    program, env = [f"{by_hand.commands}/sendmail", "-bs"], {"PATH": "/usr/bin:/bin", "MAIL_CONFIG": by_hand.etc}
    with open(path, "rb") as f, open(f"{path}.out", "wb") as out:
        subprocess.run(program, stdin=f, stdout=out, env=env, check=True, timeout=60)
    with open(f"{path}.out") as f:
        assert codes(f.read().split("\n")[:-1])[-2:] == ["250", "221"]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        p = subprocess.Popen(program, stdin=theirs, stdout=theirs, env=env)
        ours.settimeout(30)
        lines = ours.makefile("rb")
        assert lines.readline().startswith(b"220 ")
        for command, code in ((b"HELO me", b"250"), (b"MAIL FROM:<>", b"250"), (b"RCPT TO:<b@far.test>", b"250"), (b"BDAT 4", b"503"), (b"DATA", b"354")):
            ours.sendall(command + b"\r\n" + (b"a\r\n\r" if command.startswith(b"BDAT ") else b""))
            assert lines.readline().startswith(code if not command.startswith(b"BDAT") else b"250"), command
            if command.startswith(b"BDAT"):
                ours.sendall(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@far.test>\r\n")
                assert [lines.readline()[:3] for _ in range(3)] == [b"250"] * 3
        ours.sendall(b"Subject: two\r\n\r\nhi\r\n.\r\nQUIT\r\n")
        assert lines.readline().startswith(b"250 2.0.0 Ok: queued") and lines.readline().startswith(b"221 ")
        assert p.wait(20) == 0
    sink.wait_count(2)
    assert {m.sender for m in sink.messages} == {"a@src.test", ""}


def test_smtp_of_a_local_program_with_errors(by_hand, sink):
    begin = b"EHLO me\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@far.test>\r\nDATA\r\n"
    assert codes(speak(by_hand, b"")) == ["220"]
    assert codes(speak(by_hand, b"VRFY\r\nFOO\r\nDATA\r\nRCPT TO:<x@far.test>\r\nMAIL FROM:<x\r\nMAIL FROM:<a@b> SIZE=99999999\r\nSTARTTLS\r\nAUTH PLAIN\r\n"
                                b"XCLIENT NAME=x\r\nQUIT\r\n")) == ["220", "501", "502", "503", "503", "501", "552", "502", "503", "550", "221"]
    assert codes(speak(by_hand, begin + b"half a message")) == ["220", "250", "250", "250", "354"]
    assert codes(speak(by_hand, b"X" * 70000 + b"\r\nNOOP\r\n"))[:2] == ["220", "500"]
    by_hand.settings |= {"message_size_limit": "5000", "smtpd_recipient_limit": "1"}
    by_hand.write_config()
    big = begin.replace(b"DATA", b"RCPT TO:<c@far.test>\r\nDATA") + b"x\r\n" * 3000 + b".\r\nQUIT\r\n"
    assert codes(speak(by_hand, big)) == ["220", "250", "250", "250", "452", "354", "552", "221"]
    by_hand.settings |= {"message_size_limit": "500000", "authorized_submit_users": "!root"}
    by_hand.write_config()
    lines = speak(by_hand)
    assert codes(lines)[-2:] == ["550", "221"] and "5.7.1 User root(0) is not allowed to submit mail" in lines[-2]
    by_hand.settings |= {"authorized_submit_users": "static:all", "local_login_sender_maps": "static:root"}
    by_hand.write_config()
    assert "5.7.1 User root(0) is not allowed to send mail as <a@src.test>" in speak(by_hand)[-2]
    os.rename(f"{by_hand.commands}/postdrop", f"{by_hand.commands}/postdrop.away")
    assert codes(speak(by_hand))[-2:] == ["451", "221"]
    assert dropped(by_hand) == [] and not sink.messages


# ---- programs that people send with ----

def client(program, folder, *args, text=b"body\n.\nend\n", **env):
    """Runs a mail program with a home of its own."""
    if not shutil.which(program):
        pytest.skip(f"no {program}")
    done = subprocess.run([program, *args], input=text, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8", **env})
    assert done.returncode == 0, done.stdout


def test_mutt_sends(mail, sink, tmp_path):
    rc = tmp_path / "muttrc"
    rc.write_text(f'set sendmail="{mail.commands}/sendmail -C {mail.etc} -oem -oi"\nset from="m@src.test"\nset use_envelope_from=yes\nset copy=no\n'
                  'set dsn_notify="failure,delay"\nset dsn_return=hdrs\n')
    (tmp_path / "attached").write_bytes(bytes(range(256)) * 20)
    client("mutt", tmp_path, "-F", str(rc), "-s", "fr\xf6m mutt", "-a", "attached", "-b", "hidden@far.test", "--", "b@far.test")
    message = sink.wait_count(1)[0]
    assert message.sender == "m@src.test" and sorted(message.recipients) == ["b@far.test", "hidden@far.test"]
    assert b"body\r\n.\r\nend\r\n" in message.content and b"\r\nSubject: =?" in message.content and b"hidden@" not in message.content
    mail.wait_log(r"status=sent", count=2)


def test_mailx_sends(mail, sink, tmp_path):
    (tmp_path / ".mailrc").write_text(f"set sendmail={mail.commands}/sendmail\n")
    client("bsd-mailx", tmp_path, "-s", "from mail", "-c", "c@far.test", "-a", "X-More: yes", "-r", "m@src.test", "b@far.test",
           text=b"body\n\xc3\xb6\nFrom me\n", MAIL_CONFIG=mail.etc)
    message = sink.wait_count(1)[0]
    assert message.sender == "m@src.test" and sorted(message.recipients) == ["b@far.test", "c@far.test"]
    assert b"\r\nSubject: from mail\r\n" in message.content and b"\r\nX-More: yes\r\n" in message.content
    assert re.search(rb"(?m)^To: .*b@far\.test", message.content) and b"\r\nFrom me\r\n" in message.content


def test_msmtp_speaks_to_sendmail_behind_inetd(by_hand, sink, tmp_path):
    """As inetd or a socket unit starts it: the connection is its standard input and output."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, ended = listener.getsockname()[1], []

        def serve():
            connection, _ = listener.accept()
            with connection:
                ended.append(subprocess.run([f"{by_hand.commands}/sendmail", "-bs"], stdin=connection, stdout=connection, timeout=60,
                                            env={"PATH": "/usr/bin:/bin", "MAIL_CONFIG": by_hand.etc}).returncode)

        server = threading.Thread(target=serve)
        server.start()
        try:
            client("msmtp", tmp_path, "--host=127.0.0.1", f"--port={port}", "--from=m@src.test", "--auth=off", "--tls=off", "b@far.test", "c@far.test",
                   text=b"Subject: x\n\nbody\n.\n..\n" + b"\xff" * 3000 + b"\n")
        finally:
            server.join(60)
    assert ended == [0]
    message = sink.wait_count(1)[0]
    assert message.sender == "m@src.test" and sorted(message.recipients) == ["b@far.test", "c@far.test"]
    assert b"body\r\n.\r\n..\r\n" in message.content


# ---- postdrop and what it is given ----

@pytest.mark.parametrize("records", [
    b"", b"S", b"\x00" * 100, b"\xff" * 100, GOOD[:-2], GOOD[:-1], GOOD[5:], GOOD.replace(b"a@src", b"a\nsrc"), GOOD.replace(b"a@src", b"a\x00src"),
    b"S\xff\xff\xff\xff\x7f" + b"x" * 100, record("S", b"x" * 70000) + GOOD, record("p", b"%15d" % 0) + GOOD, record("D", b"x") + GOOD,
    record("L", b"smtp:x") + GOOD, record("A", b"novalue") + GOOD, record("C", b"%15d " % 1 * 6) + GOOD, GOOD.replace(record("N", b"Subject: x"), record("R", b"x")),
    b"A" * 1000000], ids=lambda v: v[:12].hex() + f"-{len(v)}")
def test_malformed_records_leave_nothing(records, make_mail):
    mail = make_mail(start=False)
    mail.command("postfix", "check")
    status, text = postdrop(mail, records)
    assert status in (65, 69) and "malformed input" in text or "too big" in text, text
    assert os.listdir(f"{mail.spool}/maildrop") == []


def test_only_harmless_attributes_pass(make_mail):
    mail = make_mail(start=False)
    mail.command("postfix", "check")
    attributes = b"".join(record("A", a) for a in (b"log_client_name=evil", b"sasl_username=root", b"encoding=8bit", b"trace_flags=1024"))
    status, text = postdrop(mail, attributes + GOOD)
    assert status == 0 and "log_client_name" in text
    path, = dropped(mail)
    with open(path, "rb") as f:
        data = f.read()
    assert b"evil" not in data and b"sasl_username" not in data and b"encoding=8bit" in data and b"trace_flags=1024" in data


def test_hostile_surroundings(make_mail):
    """Limits, closed descriptors, environment, signals: a message is whole or it is not there."""
    mail = make_mail(start=False)
    mail.command("postfix", "check")
    program = f"{mail.commands}/postdrop -c {mail.etc}"
    with open(f"{mail.base}/good", "wb") as f:
        f.write(GOOD)
    with open(f"{mail.base}/long", "wb") as f:
        f.write(GOOD.replace(record("N", b"Subject: x"), record("N", b"x" * 2000) * 500))
    good, large = f"{mail.base}/good", f"{mail.base}/long"
    cases = [f"ulimit -f 1; {program} <{large}", f"ulimit -n 4; {program} <{large}", f"ulimit -v 20000; {program} <{large}", f"{program} <&-",
             f"{program} <{good} >&- 2>&-", f"{program} <{large} >/dev/full 2>/dev/full", f"env -i {program} <{good}",
             f"MAIL_CONFIG=/nonexistent LD_PRELOAD=/x PATH= {program} <{good}", f"ulimit -t 1; {program} <{good}", f"trap '' HUP INT TERM; {program} <{good}",
             f"umask 777; {program} <{good}", f"exec 0<>{good} 1<&- 2<&-; {program}"]
    for case in cases:
        done = subprocess.run(["bash", "-c", case], timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        files = os.listdir(f"{mail.spool}/maildrop")
        assert len(files) == (done.returncode == 0), (case, done.returncode, files)
        for name in files:
            path = f"{mail.spool}/maildrop/{name}"
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o744, case
            with open(path, "rb") as f:
                assert f.read().endswith(record("X", b"") + record("E", b"")), case
            os.unlink(path)


@pytest.mark.parametrize("sig", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_signal_in_the_midst_leaves_nothing(sig, make_mail):
    mail = make_mail(start=False)
    mail.command("postfix", "check")
    p = subprocess.Popen([f"{mail.commands}/postdrop", "-c", mail.etc], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         preexec_fn=lambda: signal.signal(sig, signal.SIG_DFL))
    p.stdin.write(GOOD[:20])
    p.stdin.flush()
    mail.wait(lambda: os.listdir(f"{mail.spool}/maildrop"), 10, "the file is begun")
    p.send_signal(sig)
    assert p.wait(10) != 0
    p.stdin.close()
    assert os.listdir(f"{mail.spool}/maildrop") == []


def test_full_disk_is_said(make_mail):
    if os.geteuid():
        pytest.skip("mounting needs root")
    mail = make_mail(start=False)
    mail.command("postfix", "check")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "none", f"{mail.spool}/maildrop"], check=True)
    try:
        status, text = sendmail(mail, "b@far.test", stdin=b"Subject: x\n\n" + b"x" * 70 * 2000, check=False)
        assert status == 69 and "No space left on device" in text
        assert os.listdir(f"{mail.spool}/maildrop") == []
    finally:
        subprocess.run(["umount", f"{mail.spool}/maildrop"], check=True)


# ---- pickup and what it finds ----

@pytest.fixture
def disk(tmp_path):
    if disks.unavailable() or inject.unavailable():
        pytest.skip(disks.unavailable() or inject.unavailable())
    one = Disk(f"{tmp_path}/queue.img", size_mib=64)
    yield one
    one.remove()


def test_no_power_cut_leaves_a_file_that_says_ready_without_its_content(disk, make_mail):
    """Section 5, P1. The mode is on disk before postdrop's sync has begun: another program's sync takes it there."""
    mail = make_mail(disk=disk)
    mail.stop()
    trace = f"{mail.base}/trace"
    slow = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=60s", f"{mail.commands}/sendmail", "-C", mail.etc, "b@far.test"],
                            stdin=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", "MAIL_CONFIG": mail.etc}, start_new_session=True)
    slow.stdin.write(MESSAGE + b"x" * 70000)
    slow.stdin.close()

    def ready():
        return [path for path in mail.queue_files("maildrop", unfinished=True)["maildrop"] if os.stat(path).st_mode & 0o100]
    mail.wait(ready, 20, "the mode says ready")
    with open(f"{mail.spool}/other", "wb") as f:
        os.fsync(f.fileno())
    disk.cut()
    os.killpg(slow.pid, signal.SIGKILL)
    slow.wait()
    disk.mount_again()
    path, = ready()
    with open(path, "rb") as f:
        data = f.read()
    assert data.startswith(b"T") and data.count(b"x") >= 70000 and data.endswith(b"E\0"), (len(data), data[:20])


def test_what_pickup_has_removed_stays_removed_after_a_power_cut(disk, make_mail, sink):
    """Section 5, P1: the submissions of the last moments alone may come twice."""
    mail = make_mail(relay=sink, disk=disk, wrap=["pickup"], start=False)
    inject.arm(mail, "pickup", "-e trace=unlinkat,fsync")
    mail.start()
    for _ in range(3):
        sendmail(mail, "b@far.test")
    sink.wait_count(3)
    mail.wait(lambda: not dropped(mail), 10, "the files are removed")

    def synced_last():
        lines = []
        for path in inject.logs(mail, "pickup"):
            with open(path) as f:
                lines += [line for line in f if re.search(r"(unlinkat|fsync).* = 0", line)]
        return lines and "fsync" in lines[-1]
    mail.wait(synced_last, 20, "the directory is synced behind the last removal")
    disk.cut()
    mail.kill_all()
    disk.mount_again()
    assert not dropped(mail)


def plant(mail, name, data, mode=0o744):
    path = f"{mail.spool}/maildrop/{name}"
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    if not os.geteuid():
        os.chown(path, pwd.getpwnam("daemon").pw_uid, -1)
    return path


def poke(mail):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{mail.spool}/public/pickup")
        s.sendall(b"W")


def test_odd_files_harm_nobody(mail, sink):
    """Each kind of thing that somebody might have put into maildrop/: no message is made of it, and those beside it are delivered."""
    drop = f"{mail.spool}/maildrop"
    secret = f"{mail.base}/secret"
    with open(secret, "wb") as f:
        f.write(GOOD)
    os.chmod(secret, 0o744)
    os.symlink(secret, f"{drop}/ABCDE1")
    os.link(secret, f"{drop}/ABCDE2")
    os.mkfifo(f"{drop}/ABCDE3", 0o777)
    os.mkdir(f"{drop}/ABCDE4")
    unfinished = plant(mail, "ABCDE5", GOOD, 0o644)
    broken = {"ABCDE6": b"", "ABCDE7": b"garbage", "ABCDE8": GOOD[:-2], "ABCDE9": GOOD.replace(record("R", b"b@far.test"), b""),
              "ABCDEA": GOOD.replace(record("S", b"a@src.test"), b""), "ABCDEB": record("p", b"%15d" % 0) + GOOD,
              "ABCDEC": GOOD.replace(record("N", b"Subject: x"), record("N", b"x") + record("R", b"q@far.test")), "ABCDED": b"S\xff\xff\xff\x7fx"}
    for name, data in broken.items():
        plant(mail, name, data)
    plant(mail, "bad.name", GOOD)
    good = plant(mail, "ABCDEF", record("A", b"log_client_name=evil") + record("A", b"sasl_username=evil") + record("L", b"discard:x") +
                 GOOD.replace(record("N", b"Subject: x"), record("N", b"Subject: good")))
    poke(mail)
    sink.wait_count(1)
    mail.wait(lambda: not os.path.exists(good), 10, "the good one is taken")
    mail.wait(lambda: set(broken) <= set(os.listdir(f"{mail.spool}/corrupt")), 10, "broken ones are set aside")
    assert b"Subject: good" in sink.messages[0].content and len(sink.messages) == 1
    assert os.path.exists(secret) and os.path.lexists(f"{drop}/ABCDE1") and os.path.exists(unfinished)
    mail.wait_log(r"maildrop/ABCDE2 has 2 links")
    assert not mail.complaints()
    sendmail(mail, "-f", "a@src.test", "c@far.test")
    sink.wait_count(2)


def test_message_of_a_user_that_is_refused_comes_back(make_mail, sink):
    mail = make_mail(relay=sink, settings={"hopcount_limit": "5"})
    sendmail(mail, "-f", "a@src.test", "b@far.test", stdin=b"Received: x\n" * 10 + MESSAGE)
    mail.wait_log(r"not accepted: 5\.4\.\d too many hops|not accepted: .*too many hops")
    sink.wait(lambda m: m.recipients == ["a@src.test"])
    mail.wait(lambda: not dropped(mail), 10, "the file is removed")


def test_killed_daemons_lose_nothing(make_mail, sink):
    mail = make_mail(relay=sink)
    for n in range(30):
        sendmail(mail, "-f", "a@src.test", f"r{n}@far.test")
        if n % 5 == 2:
            mail.kill("pickup")
        if n % 7 == 3:
            mail.kill("cleanup")
    mail.wait(lambda: {r for m in sink.messages for r in m.recipients} == {f"r{n}@far.test" for n in range(30)}, 90, "all arrive")


def test_requeued_message_is_delivered(make_mail, make_sink):
    sink = make_sink()
    mail = make_mail(settings={"relayhost": "[127.0.0.1]:1"})
    sendmail(mail, "-f", "a@src.test", "b@far.test")
    mail.wait(lambda: mail.queue_files("deferred")["deferred"], 20, "it is deferred")
    mail.settings["relayhost"] = f"[{sink.host}]:{sink.port}"
    mail.write_config()
    mail.reload()
    mail.command("postsuper", "-r", "ALL")
    poke(mail)
    sink.wait_count(1, 30)
    assert sink.messages[0].content.count(b"Received: ") == 2
    mail.wait_log(r"uid=\d+ from=<a@src\.test> orig_id=")
