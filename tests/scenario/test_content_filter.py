# SPDX-License-Identifier: Apache-2.0
"""Filters after the queue: mail goes to them first, comes back on another port, and does not go round."""
import os
import pathlib
import pwd
import re
import shutil
import smtplib
import subprocess
import tempfile

import pytest

from harness import instance, send

HEAD = b"From: a@src.test\r\nTo: b@far.test\r\nSubject: x\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@src.test>\r\n\r\n"
BACK = ("127.0.0.1:{port} inet n - n - 10 smtpd -o content_filter= -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,"
        "no_address_mappings -o smtpd_authorized_xforward_hosts=127.0.0.0/8 -o smtpd_authorized_xclient_hosts=127.0.0.0/8")


def user():
    return "nobody" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def place():
    """A directory that whoever runs a filter may read."""
    path = tempfile.mkdtemp(prefix="filter-")
    os.chmod(path, 0o755)
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


def talk(port, *lines):
    """Sends lines one by one; returns the answers' last lines."""
    answers = []
    s = smtplib.SMTP("127.0.0.1", port, timeout=20)
    for line in lines:
        s.send(line + "\r\n")
        code, text = s.getreply()
        answers.append(f"{code} {text.decode()}")
    s.close()
    return answers


def test_smtp_filter_hears_of_the_client_and_hands_back(make_mail, make_sink):
    """The sink plays the filter: it gets XFORWARD, and what it hands back on the second port is delivered with the first client's name."""
    content_filter, sink = make_sink(), make_sink()
    content_filter.extra = ["XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"]
    port = instance.free_port()
    mail = make_mail(relay=sink, settings={"content_filter": f"scan:[{content_filter.host}]:{content_filter.port}"},
                     services=["scan unix - - n - 10 smtp -o smtp_send_xforward_command=yes", BACK.format(port=port)])
    assert send("a@src.test", ["b@far.test", "c@far.test"], HEAD + b"body\r\n", port=mail.port).code == 250
    content_filter.wait_count(1)
    assert not sink.messages
    told = [line for _, line in content_filter.transcript if line.startswith("XFORWARD")]
    assert len(told) == 2 and "ADDR=127.0.0.1" in told[0] and "NAME=" in told[0] and re.search(r"PROTO=ESMTP HELO=\S+ IDENT=[0-9A-F]+ SOURCE=REMOTE", told[1])
    answers = talk(port, "EHLO filter", "XFORWARD NAME=spike.test ADDR=192.0.2.7 PROTO=ESMTP PORT=1234", "XFORWARD HELO=spike IDENT=ABC123 SOURCE=LOCAL",
                   "MAIL FROM:<a@src.test>", "RCPT TO:<b@far.test>", "DATA", "Subject: scanned\r\n\r\nbody\r\n.", "QUIT")
    assert [a[:3] for a in answers] == ["250", "250", "250", "250", "250", "354", "250", "221"], answers
    sink.wait_count(1)
    assert b"Subject: scanned" in sink.messages[0].content
    mail.wait_log(r"client=\S+\[127\.0\.0\.1\], orig_queue_id=ABC123, orig_client=spike\.test\[192\.0\.2\.7\]")
    assert len(content_filter.messages) == 1 and not mail.complaints()


def test_nothing_passes_a_filter_before_the_queue_that_is_not_asked(make_mail, sink):
    """Ours alone: Postfix would ask the filter."""
    mail = make_mail(relay=sink, settings={"smtpd_proxy_filter": "inet:127.0.0.1:9"})
    answers = talk(mail.port, "EHLO x", "MAIL FROM:<a@src.test>", "RCPT TO:<b@far.test>")
    assert answers[1] == "451 4.3.0 Error: content filter is not available" and answers[2].startswith("503 "), answers
    mail.wait_log(r"MAIL is refused: smtpd_proxy_filter = inet:127\.0\.0\.1:9, ")


def test_xforward_and_xclient_are_for_those_who_are_named(make_mail, sink):
    port = instance.free_port()
    mail = make_mail(relay=sink, services=[BACK.format(port=port)])
    assert "XFORWARD" not in talk(mail.port, "EHLO x")[0] and "XCLIENT" not in talk(mail.port, "EHLO x")[0]
    assert talk(mail.port, "EHLO x", "XFORWARD NAME=x", "XCLIENT NAME=x")[1:] == ["550 5.7.0 Error: insufficient authorization"] * 2
    answers = talk(port, "EHLO x", "XFORWARD BAD=x", "XFORWARD NAME", "XFORWARD NAME=a+0Ab", "XFORWARD ADDR=nonsense", "XFORWARD")
    assert all(a.startswith("501 5.5.4") for a in answers[1:]), answers
    assert talk(port, "EHLO x", "MAIL FROM:<a@src.test>", "XFORWARD NAME=x")[2].startswith("503 ")


def test_xclient_counts_for_access(make_mail, sink):
    port = instance.free_port()
    mail = make_mail(relay=sink, services=[BACK.format(port=port)])
    answers = talk(port, "EHLO proxy", "XCLIENT NAME=spike.test ADDR=192.0.2.7 PORT=99", "EHLO spike.test", "MAIL FROM:<a@src.test>", "RCPT TO:<b@far.test>")
    assert answers[1].startswith("220 ") and re.match(r"[45]54 [45]\.7\.1 <b@far\.test>: Relay access denied", answers[4]), answers
    mail.wait_log(r"reject: RCPT from spike\.test\[192\.0\.2\.7\]: [45]54 [45]\.7\.1 <b@far\.test>: Relay access denied")


def test_pipe_filter_changes_the_message_once(place, make_mail, sink):
    port = instance.free_port()
    script = place / "filter"
    script.write_text(f"""#!/usr/bin/python3
import smtplib, sys
sender, *rcpts = sys.argv[1:]
text = sys.stdin.buffer.read()
if b"virus" in text:
    print("5.7.1 no viruses here"); sys.exit(69)
with smtplib.SMTP("127.0.0.1", {port}) as s:
    s.sendmail(sender, rcpts, b"X-Filter: seen\\n" + text)
""")
    script.chmod(0o755)
    mail = make_mail(relay=sink, settings={"content_filter": "filter:dummy"}, services=[
        f"filter unix - n n - 10 pipe flags=q user={user()} null_sender= argv={script} $sender $recipient", BACK.format(port=port)])
    assert send("a@src.test", ["b@far.test"], HEAD + b"fine\r\n", port=mail.port).code == 250
    sink.wait_count(1)
    assert sink.messages[0].content.count(b"X-Filter: seen") == 1
    assert send("", ["b@far.test"], HEAD + b"virus\r\n", port=mail.port).code == 250
    mail.wait_log(r"relay=filter, .*dsn=5\.7\.1, status=bounced \(no viruses here\)")
    subprocess.run([f"{mail.commands}/sendmail", "-C", mail.etc, "-f", "l@src.test", "b@far.test"], input=b"Subject: local\n\nx\n", check=True,
                   env={"MAIL_CONFIG": mail.etc, "PATH": "/usr/bin:/bin"})
    sink.wait(lambda m: m.sender == "l@src.test")
    assert all(m.content.count(b"X-Filter: seen") == 1 for m in sink.messages) and len(sink.messages) == 2


def test_filter_of_an_access_table(make_mail, make_sink):
    content_filter, sink = make_sink(), make_sink()
    mail = make_mail(relay=sink, settings={
        "smtpd_recipient_restrictions": f"check_sender_access inline:{{{{suspect@src.test=FILTER smtp:[{content_filter.host}]:{content_filter.port}}}}}, permit_mynetworks, reject"})
    assert send("suspect@src.test", ["b@far.test"], HEAD, port=mail.port).code == 250
    assert send("a@src.test", ["b@far.test"], HEAD, port=mail.port).code == 250
    content_filter.wait_count(1)
    sink.wait_count(1)
    assert content_filter.messages[0].sender == "suspect@src.test" and sink.messages[0].sender == "a@src.test"


def test_dsn_parameters_go_through(make_mail, sink):
    sink.extra = ["DSN"]
    mail = make_mail(relay=sink)
    answers = talk(mail.port, "EHLO x", "MAIL FROM:<a@src.test> RET=HDRS ENVID=a+2Bb", "RCPT TO:<b@far.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;B+2Bc@far.test",
                   "RCPT TO:<c@far.test> NOTIFY=NEVER", "RCPT TO:<d@far.test> NOTIFY=NEVER,DELAY", "DATA", "Subject: x\r\n\r\nx\r\n.")
    assert "DSN" in answers[0].split() and [a[:3] for a in answers[1:]] == ["250", "250", "250", "501", "354", "250"], answers
    sink.wait_count(1)
    message = sink.messages[0]
    assert {"RET=HDRS", "ENVID=a+2Bb"} <= set(message.mail_parameters.split())
    assert "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;B+2Bc@far.test" in message.recipient_parameters[0] and "NOTIFY=NEVER" in message.recipient_parameters[1]


def test_success_is_reported_where_nobody_behind_us_will(make_mail, sink):
    mail = make_mail(relay=sink)
    answers = talk(mail.port, "EHLO x", "MAIL FROM:<a@src.test> ENVID=id7", "RCPT TO:<b@far.test> NOTIFY=SUCCESS", "DATA", "Subject: x\r\n\r\nx\r\n.")
    assert answers[-1].startswith("250")
    report = sink.wait(lambda m: m.recipients == ["a@src.test"], 20)
    assert report.sender == "" and b"Action: relayed" in report.content and b"Original-Envelope-Id: id7" in report.content
    mail.wait_log(r"sender delivery status notification: ")


def sendmail(mail, *args, text=b"Subject: x\n\nx\n"):
    subprocess.run([f"{mail.commands}/sendmail", "-C", mail.etc, *args], input=text, check=True, timeout=60,
                   env={"MAIL_CONFIG": mail.etc, "PATH": "/usr/bin:/bin"})


def test_verification_reports_and_delivers_nothing(make_mail, sink):
    mail = make_mail(relay=sink)
    sendmail(mail, "-bv", "-f", "a@src.test", "b@far.test")
    report = sink.wait(lambda m: m.recipients == ["a@src.test"], 20)
    assert b"Action: deliverable" in report.content and b"b@far.test" in report.content
    mail.wait_log(r"to=<b@far\.test>.*status=deliverable \(250 ")
    assert len(sink.messages) == 1


def test_verbose_submission_reports_the_first_attempt(make_mail, sink):
    mail = make_mail(relay=sink)
    sendmail(mail, "-v", "-f", "a@src.test", "b@far.test")
    sink.wait(lambda m: m.recipients == ["b@far.test"], 20)
    report = sink.wait(lambda m: m.recipients == ["a@src.test"], 20)
    assert b"Action: relayed" in report.content
