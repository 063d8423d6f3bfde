# SPDX-License-Identifier: Apache-2.0
"""VERP: a sender of its own for each recipient (Postfix's VERP_README)."""
import os
import re
import subprocess

import pytest

from harness import Client
from harness.sink import reply

CONTENT = b"From: list@src.test\r\nSubject: x\r\n\r\nhi\r\n"


def say(mail, *lines, content=None):
    """The replies to these commands, and what EHLO offers."""
    with Client(mail.port) as client:
        offered = client.ehlo().text
        replies = [client.cmd(line) for line in lines]
        if content:
            client.cmd("DATA")
            client.raw(content + b".\r\n")
            replies.append(client.read_reply())
        return offered, replies


def sendmail(mail, *args):
    program = [f"{mail.commands}/sendmail", *args] if mail.target == "postern" else ["/usr/sbin/chroot", mail.root, "/usr/sbin/sendmail", *args]
    return subprocess.run(program, input=b"Subject: x\n\nhi\n", env={"PATH": "/usr/bin:/bin", "MAIL_CONFIG": mail.inside(mail.etc)}, timeout=60, capture_output=True).returncode


def senders(sink):
    return {r: m.sender for m in sink.messages for r in m.recipients}


def test_each_recipient_has_a_sender(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_authorized_verp_clients": "$mynetworks", "virtual_alias_maps": "inline:{ alias@dst.test=real@dst.test }"})
    offered, replies = say(mail, "MAIL FROM:<list@src.test> XVERP SIZE=100", "RCPT TO:<a@dst.test>", "RCPT TO:<b+c@dst.test>", "RCPT TO:<alias@dst.test>", content=CONTENT)
    assert "XVERP" in offered and [r.code for r in replies] == [250] * 5
    sink.wait_count(3)
    assert senders(sink) == {"a@dst.test": "list+a=dst.test@src.test", "b+c@dst.test": "list+b+c=dst.test@src.test",
                             "real@dst.test": "list+alias=dst.test@src.test"}
    say(mail, "MAIL FROM:<list-@src.test> XVERP=-=", "RCPT TO:<d@dst.test>", content=CONTENT)
    sink.wait_count(4)
    assert senders(sink)["d@dst.test"] == "list--d=dst.test@src.test"
    assert mail.wait_log(r"from=<list@src\.test>, size=")


def test_who_may_ask_and_how(make_mail, sink):
    mail = make_mail(relay=sink)
    offered, replies = say(mail, "MAIL FROM:<list@src.test> XVERP", "MAIL FROM:<list@src.test>")
    assert "XVERP" not in offered and [r.code for r in replies] == [555, 250]
    mail = make_mail(relay=sink, settings={"authorized_verp_clients": "127.0.0.1", "verp_delimiter_filter": "-=+", "default_verp_delimiters": "-="})
    offered, replies = say(mail, "MAIL FROM:<list@src.test> XVERP=@=", "MAIL FROM:<list@src.test> XVERP=+", "MAIL FROM:<list@src.test> XVERP=+==", "MAIL FROM:<> XVERP",
                           "MAIL FROM:<list@src.test> XVERP", "RCPT TO:<a@dst.test>", content=CONTENT)
    assert [r.code for r in replies] == [501, 501, 501, 503, 250, 250, 250]
    sink.wait_count(1)
    assert sink.messages[0].sender == "list-a=dst.test@src.test"


@pytest.mark.parametrize("disabled", ["no", "yes"])
def test_notices_go_to_those_senders(make_mail, sink, disabled):
    mail = make_mail(relay=sink, settings={"smtpd_authorized_verp_clients": "$mynetworks", "disable_verp_bounces": disabled})
    sink.on("rcpt", reply("550 5.1.1 no such user"), match=b"@bad.test")
    say(mail, "MAIL FROM:<list@src.test> XVERP", *[f"RCPT TO:<{n}@bad.test>" for n in "abc"], "RCPT TO:<good@dst.test>", content=CONTENT)
    count = 1 if disabled == "yes" else 3
    sink.wait_count(1 + count)
    mail.wait_log(r"[0-9A-F]: removed$")
    told = sorted(r for m in sink.messages if m.sender == "" for r in m.recipients)
    assert told == (["list@src.test"] if disabled == "yes" else [f"list+{n}=bad.test@src.test" for n in "abc"])
    for message in sink.messages:
        if message.sender == "" and disabled == "no":
            failed = set(re.findall(rb"(?m)^Final-Recipient: rfc822; (\w)@bad\.test", message.content))
            assert failed == {message.recipients[0][5:6].encode()}


def test_it_outlives_the_queue(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_authorized_verp_clients": "$mynetworks"})
    sink.on("dot", reply("451 4.3.0 later"), times=2)
    say(mail, "MAIL FROM:<list@src.test> XVERP", "RCPT TO:<a@dst.test>", "RCPT TO:<b@dst.test>", content=CONTENT)
    path, = mail.wait(lambda: mail.queue_files("deferred")["deferred"], 20, "it is deferred")
    name = os.path.basename(path)
    if mail.target == "postern":
        assert re.search(r"(?m)^verp_delimiters: \+=$", mail.command("postcat", "-q", "-e", name).stdout)
    sink.wait_count(2, 30)
    assert senders(sink) == {"a@dst.test": "list+a=dst.test@src.test", "b@dst.test": "list+b=dst.test@src.test"}


@pytest.mark.parametrize("option, delimiters", [(["-XV"], "+="), (["-XV-="], "-="), (["-V"], "+="), (["-V-="], "-=")])
def test_sendmail_asks_for_it(make_mail, sink, option, delimiters):
    mail = make_mail(relay=sink)
    assert sendmail(mail, *option, "-f", "list@src.test", "a@dst.test", "b@dst.test") == 0
    sink.wait_count(2)
    a, b = delimiters
    assert senders(sink) == {f"{n}@dst.test": f"list{a}{n}{b}dst.test@src.test" for n in "ab"}


def test_sendmail_refuses_other_delimiters(make_mail, sink):
    mail = make_mail(relay=sink)
    for option in ("-XV@=", "-XV+", "-XV+=+"):
        assert sendmail(mail, option, "-f", "list@src.test", "a@dst.test")
    assert sendmail(mail, "-V", "id=1", "-f", "list@src.test", "a@dst.test") == 0
    sink.wait_count(1)
    assert sink.messages[0].sender == "list@src.test"
