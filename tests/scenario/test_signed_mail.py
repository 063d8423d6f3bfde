# SPDX-License-Identifier: Apache-2.0
"""S/MIME, PGP/MIME and DKIM: what was signed verifies after every way through the mail system."""
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile

import pytest
import signing

from harness import instance, send

pytestmark = pytest.mark.skipif(bool(signing.missing()), reason=signing.missing())


@pytest.fixture(scope="module")
def signer():
    signer = signing.Signer()
    yield signer
    signer.close()


@pytest.fixture
def place():
    """A directory that every user reaches; ask for it before make_mail."""
    path = tempfile.mkdtemp(prefix="signed-")
    os.chmod(path, 0o755)
    os.mkdir(f"{path}/spool")
    os.chmod(f"{path}/spool", 0o1777)
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


def test_the_judge_notices_a_change(signer):
    for kind in signer.KINDS:
        message = signer.sign(kind)
        assert signer.verify(kind, message) == "", kind
        # in opaque messages the text is base64: another letter there
        at = message.rindex(b"mistreated") if b"mistreated" in message else message.index(b"\r\n\r\n") + 300
        changed = message[:at] + (b"A" if message[at:at + 1] != b"A" else b"B") + message[at + 1:]
        assert signer.verify(kind, changed) != "", kind


def test_signatures_survive_relay_and_local_delivery(place, signer, make_mail, sink):
    user = "games" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name
    mail = make_mail(relay=sink, settings={"mydestination": "local.test", "mail_spool_directory": f"{place}/spool/", "alias_maps": "inline:{none=none}",
                                           "local_recipient_maps": "", "biff": "no", "forward_path": "", "virtual_mailbox_domains": "v.test",
                                           "virtual_mailbox_base": f"{place}/spool", "virtual_mailbox_maps": "static:mbox", "virtual_minimum_uid": "1",
                                           "virtual_uid_maps": f"static:{pwd.getpwnam(user).pw_uid}", "virtual_gid_maps": f"static:{pwd.getpwnam(user).pw_gid}"})
    to = ["b@far.test", f"{user}@local.test", "m@v.test"]
    for kind in signer.KINDS:
        assert send("s@src.test", to, signer.sign(kind), port=mail.port).code == 250
        subprocess.run([f"{mail.commands}/sendmail", "-C", mail.etc, "-i", "-f", "t@src.test", "--", *to], input=signer.sign(kind).replace(b"\r\n", b"\n"),
                       check=True, timeout=60, env={"MAIL_CONFIG": mail.etc, "PATH": "/usr/bin:/bin"})
    count = 2 * len(signer.KINDS)
    mail.wait_log(r"status=sent \(delivered to mail(box|dir)\)", seconds=30, count=2 * count)
    sink.wait_count(count, 30)
    found = [m.content for m in sink.messages] + [f.read_bytes() for f in (place / "spool" / user / "new").iterdir()]
    found += [text[:-1] for text in re.split(rb"(?m)^From .*\n", (place / "spool" / "mbox").read_bytes())[1:]]
    assert len(found) == 3 * count
    for message in found:
        kind = re.search(rb"(?m)^Message-ID: <(.*)@src\.test>", message)[1].decode()
        assert signer.verify(kind, message) == "", (kind, message[:600])
    assert not mail.complaints()


def test_signatures_survive_a_filter(place, signer, make_mail, sink):
    """pipe to a command that hands back by SMTP, with a header of its own."""
    port = instance.free_port()
    script = place / "filter"
    script.write_text(f"""#!/usr/bin/python3
import smtplib, sys
with smtplib.SMTP("127.0.0.1", {port}) as s:
    s.sendmail(sys.argv[1], sys.argv[2:], b"X-Filter: seen\\n" + sys.stdin.buffer.read())
""")
    script.chmod(0o755)
    user = "nobody" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name
    mail = make_mail(relay=sink, settings={"content_filter": "filter:dummy"}, services=[
        f"filter unix - n n - 10 pipe flags=q user={user} argv={script} $sender $recipient",
        f"127.0.0.1:{port} inet n - n - 10 smtpd -o content_filter= -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks"])
    for kind in signer.KINDS:
        assert send("s@src.test", ["b@far.test"], signer.sign(kind), port=mail.port).code == 250
    sink.wait_count(len(signer.KINDS), 30)
    for message in sink.messages:
        kind = re.search(rb"(?m)^Message-ID: <(.*)@src\.test>", message.content)[1].decode()
        assert b"X-Filter: seen" in message.content and signer.verify(kind, message.content) == "", (kind, message.content[:600])
    assert not mail.complaints()
