# SPDX-License-Identifier: Apache-2.0
"""What becomes of a message's bytes on each way in (DATA, BDAT, sendmail) and out (another host, mbox, Maildir, a command): by RFC 5321
and the manuals of Postfix, whose results are the same (HARNESS_TARGET=postfix, with DATA and sendmail)."""
import os
import pwd
import re
import subprocess

import pytest

from harness import Client

# As the client means them: CRLF ends a line; a single CR or LF is none by the RFC.
BODIES = {
    "dots": b".\r\n..\r\n.x\r\n...\r\n .\r\n. \r\n.\r\n",
    "from": b"From me\r\nfrom\r\n>From x\r\n From y\r\nFrom\r\nFromage\r\n\r\nFrom z\r\n",
    "8bit": bytes(set(range(1, 256)) - {10, 13}) + b"\r\n\xff\xfe\r\n\x80\r\n",
    "nul": b"a\0b\r\n\0\r\n\0.\r\n.\0\r\n\0\0\0From \0\r\n",
    "bare CR": b"a\rb\r\n\rd\r\n\r.\r\n\r\rx\r\n",
    "CR before CRLF": b"a\r\r\nb\r\r\r\n.\r\r\n",
    "blanks": b" \t \r\n\t\r\n \r\nx \r\n\r\n\r\n",
    "empty lines": b"\r\n\r\n\r\n",
    "no body": b"",
    "long": b"x" * 5000 + b"\r\n" + b"y" * 998 + b"\r\n" + b"z" * 999 + b"\r\n" + b"." * 2048 + b"\r\n" + b"F" * 2047 + b"\r\n",
    "long CR": b"x" * 2047 + b"\r" + b"y" * 2047 + b"\r\n",
    "header-like": b"To: nobody@far.test\r\nContent-Length: 0\r\n: x\r\n",
    "large": b"".join(b"%06d . \xe4 From here\r\n.%d\r\nFrom %d\r\n" % (n, n, n) for n in range(8000)),
    "megabytes": b"".join(b"%07d%s\r\n" % (n, b"." * (n % 83)) + (b"..x\r\n.\r\na\rb\r\n" if n % 997 == 0 else b"") for n in range(60000)),
    "no last newline": b"one\r\nend",
    "only a dot": b".",
    "ends in CR": b"one\r",
}


def canonical(body, way):
    """Lines ending in LF, as the mail system keeps them: a CR that ends no line is a blank, the half of an end at the very end goes."""
    if way == "sendmail":  # all CRs before LF go
        body = re.sub(rb"\r+\n", b"\n", body)
    text = body.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b" ")
    return text if not text or text.endswith(b"\n") else text + b"\n"


def head(n):
    return b"From: a@src.test\r\nSubject: case %d\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <%d@src.test>\r\n\r\n" % (n, n)


class Ways:
    """An instance with four ways out; the user's mbox, a virtual Maildir, a command that keeps its input."""

    def __init__(self, make_mail, sink):
        self.sink = sink
        self.mail = mail = make_mail(start=False, relay=sink, services=[
            "keep unix - n n - 10 pipe user=USER argv=STORE/keep"])
        self.user = "games" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name
        ids = pwd.getpwnam(self.user)
        self.store = f"{mail.base}/store"
        for name in ("", "/spool", "/kept"):
            os.mkdir(self.store + name)
            os.chmod(self.store + name, 0o1777)
        inside = mail.inside(self.store)
        with open(f"{self.store}/keep", "w") as f:
            f.write(f"#!/bin/sh\ncat >{inside}/kept/$$.new && mv {inside}/kept/$$.new {inside}/kept/$$\n")
        os.chmod(f"{self.store}/keep", 0o755)
        mail.services = [s.replace("STORE", inside).replace("USER", self.user) for s in mail.services]
        mail.settings.update({
            "mydestination": "local.test", "mail_spool_directory": f"{inside}/spool", "alias_maps": "", "local_recipient_maps": "", "biff": "no",
            "forward_path": "", "virtual_mailbox_domains": "v.test", "virtual_mailbox_base": inside, "virtual_mailbox_maps": "static:dir/",
            "virtual_uid_maps": f"static:{ids.pw_uid}", "virtual_gid_maps": f"static:{ids.pw_gid}", "virtual_minimum_uid": "1",
            "transport_maps": "inline:{pipe.test=keep:}", "smtpd_forbid_bare_newline": "normalize" if not mail.root else "no"})
        mail.write_config()
        mail.start()
        self.to = ["r@far.test", f"{self.user}@local.test", "m@v.test", "p@pipe.test"]

    def smtp(self, content):
        with Client(self.mail.port, timeout=60) as client:
            client.ehlo()
            assert client.send("a@src.test", self.to, content).code == 250

    def bdat(self, content):
        """In chunks that end wherever."""
        with Client(self.mail.port, timeout=60) as client:
            client.ehlo()
            for line in ["MAIL FROM:<a@src.test> BODY=8BITMIME", *(f"RCPT TO:<{to}>" for to in self.to)]:
                assert client.cmd(line).code == 250
            cut = [0, *sorted({len(content) // 7, len(content) // 2, max(0, len(content) - 3)}), len(content)]
            for begin, end in zip(cut, cut[1:]):
                client.raw(b"BDAT %d%s\r\n" % (end - begin, b" LAST" if end == len(content) else b"") + content[begin:end])
                assert client.read_reply().code == 250

    def sendmail(self, content):
        command = [f"{self.mail.commands}/sendmail", "-C", self.mail.etc]
        if self.mail.root:
            command = ["chroot", self.mail.root, self.mail.inside(self.mail.programs["sendmail"]), "-C", self.mail.inside(self.mail.etc)]
        subprocess.run([*command, "-i", "-f", "a@src.test", *self.to], input=content.replace(b"\r\n", b"\n"), check=True, timeout=60,
                       env={"MAIL_CONFIG": self.mail.inside(self.mail.etc), "PATH": "/usr/sbin:/usr/bin:/bin"})

    def arrived(self):
        """{way: {case: body}}"""
        def bodies(texts, end):
            return {int(re.search(rb"(?m)^Subject: case (\d+)", text)[1]): text.partition(end * 2)[2] for text in texts}
        with open(f"{self.store}/spool/{self.user}", "rb") as f:
            mbox = re.split(rb"(?m)^From a@src\.test .*\n", f.read())[1:]
        return {"relay": bodies([m.content for m in self.sink.messages], b"\r\n"), "mbox": bodies(mbox, b"\n"),
                "maildir": bodies(read_all(f"{self.store}/dir/new"), b"\n"), "pipe": bodies(read_all(f"{self.store}/kept"), b"\n")}


def read_all(directory):
    texts = []
    for name in os.listdir(directory):
        with open(f"{directory}/{name}", "rb") as f:
            texts.append(f.read())
    return texts


LIMITS = (997, 998)  # the dot that is doubled counts, or not


def unbroken(body):
    """Undoes what smtp does to long lines."""
    lines = body.split(b"\r\n")
    assert all(len(line) <= 998 for line in lines)
    text = lines[0]
    for before, line in zip(lines, lines[1:]):
        text += line[1:] if len(before) in LIMITS and line[:1] == b" " else b"\r\n" + line
    return text


@pytest.mark.parametrize("way", ["smtp", "bdat", "sendmail"])
def test_every_byte_is_where_the_manuals_say(way, make_mail, sink):
    ways = Ways(make_mail, sink)
    if way == "bdat" and ways.mail.root:
        pytest.skip("the peer's BDAT is not asked")
    expected = {}
    for n, (name, body) in enumerate(BODIES.items()):
        if way == "smtp" and not body.endswith(b"\r\n") and body:
            continue  # by DATA there is no such message
        if ways.mail.root and name in ("CR before CRLF", "ends in CR"):
            continue  # Postfix takes all of them for the end of the line; here "." and two CR never are the end of the message
        getattr(ways, way)(head(n) + body)
        expected[n] = canonical(body, way)
    ways.mail.wait_log(r"status=sent", seconds=60, count=4 * len(expected))
    ways.sink.wait_count(len(expected), 30)
    found = ways.arrived()
    names = list(BODIES)
    for n, text in expected.items():
        assert unbroken(found["relay"][n]) == text.replace(b"\n", b"\r\n"), (names[n], "relay", found["relay"][n][:300])
        for kind in ("maildir", "pipe"):
            assert found[kind][n] == text, (names[n], kind, found[kind][n][:300])
        assert found["mbox"][n] == re.sub(rb"(?m)^From ", b">From ", text) + b"\n", (names[n], "mbox", found["mbox"][n][:300])
    assert not ways.mail.complaints()


def test_a_single_newline_ends_a_line(make_mail, sink):
    """smtpd_forbid_bare_newline = normalize: LF alone is taken for CRLF, but never as a part of the end of the message."""
    ways = Ways(make_mail, sink)
    with Client(ways.mail.port) as client:
        client.ehlo()
        client.cmd("MAIL FROM:<a@src.test>")
        for to in ways.to:
            client.cmd(f"RCPT TO:<{to}>")
        assert client.cmd("DATA").code == 354
        client.raw(head(1) + b"a\nb\n\nc\r\nFrom d\n\r\ne\n.x\r\n" + b".\r\n")
        assert client.read_reply().code == 250
    ways.mail.wait_log(r"status=sent", seconds=30, count=4)
    ways.sink.wait_count(1)
    found = ways.arrived()
    dot = found["maildir"][1][-3:]  # LF "." at the beginning of a line: with its dot, or without
    assert dot in (b".x\n", b"\nx\n")
    text = b"a\nb\n\nc\nFrom d\n\ne" + (b"\n" if dot == b".x\n" else b"") + dot
    assert found["maildir"][1] == found["pipe"][1] == text and found["relay"][1] == text.replace(b"\n", b"\r\n")
    assert found["mbox"][1] == text.replace(b"\nFrom", b"\n>From") + b"\n"
