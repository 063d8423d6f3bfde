# SPDX-License-Identifier: Apache-2.0
"""Debian's Mailman 3 behind Postern, set up as Mailman's manual says for Postfix: it writes the tables of its addresses, takes mail by LMTP and sends by SMTP.

It runs in a tree of its own, which `make-chroot.sh mailman mailman3 dbconfig-no-thanks` makes at $PEERS/mailman (some 500 MB; needs root); without that the test is
skipped."""
import os
import re
import shutil
import subprocess
import tempfile
import time

import pytest

from harness import Client, send
from harness.instance import PEERS, free_port

TREE = f"{PEERS}/mailman"
POST = b"From: Poster <poster@src.test>\r\nTo: staff@lists.test\r\nSubject: first\r\nMessage-ID: <first@src.test>\r\n\r\nhello to all\r\n"
IDLE = ("archive", "bad", "bounces", "command", "digest", "nntp", "rest", "retry", "shunt")  # runners that this has no need of


class Mailman:
    def __init__(self, smtp_port, kind):
        self.lmtp_port, self.place = free_port(), tempfile.mkdtemp(prefix="mailman-", dir=f"{TREE}/srv")
        inside = self.place.removeprefix(TREE)
        os.makedirs(f"{self.place}/var")
        with open(f"{self.place}/mailman.cfg", "w") as f:
            f.write(f"[mailman]\nlayout: here\nsite_owner: owner@lists.test\n[paths.here]\nvar_dir: {inside}/var\nqueue_dir: $var_dir/queue\nbin_dir: /usr/lib/mailman3/bin\n"
                    "list_data_dir: $var_dir/lists\nlog_dir: $var_dir/logs\nlock_dir: $var_dir/locks\ndata_dir: $var_dir/data\ncache_dir: $var_dir/cache\netc_dir: $var_dir/etc\n"
                    "messages_dir: $var_dir/messages\narchive_dir: $var_dir/archives\ntemplate_dir: $var_dir/templates\npid_file: $var_dir/master.pid\nlock_file: $lock_dir/master.lck\n"
                    f"[mta]\nincoming: mailman.mta.postfix.LMTP\nsmtp_host: 127.0.0.1\nsmtp_port: {smtp_port}\nlmtp_host: 127.0.0.1\nlmtp_port: {self.lmtp_port}\n"
                    f"configuration: {inside}/postfix-mailman.cfg\n" + "".join(f"[runner.{name}]\nstart: no\n" for name in IDLE))
        with open(f"{self.place}/postfix-mailman.cfg", "w") as f:  # the tables are built by our postmap, which the tree does not have
            f.write(f"[postfix]\npostmap_command: /bin/true\ntransport_file_type: {kind}\n")
        subprocess.run(["chroot", TREE, "chown", "-R", "list:list", inside], check=True)

    def run(self, *args, text=""):
        inside = self.place.removeprefix(TREE)
        subprocess.run(["chroot", "--userspec=list:list", TREE, "/usr/lib/mailman3/bin/mailman", "-C", f"{inside}/mailman.cfg", *args], input=text, check=True, timeout=120,
                       text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": f"{inside}/var", "LC_ALL": "C.UTF-8"})

    def log(self):
        text = ""
        for name in sorted(os.listdir(f"{self.place}/var/logs")):
            with open(f"{self.place}/var/logs/{name}") as f:
                text += f.read()
        return text

    def close(self):
        try:
            with open(f"{self.place}/var/master.pid") as f:
                pid = int(f.read())
            self.run("stop")
            for _ in range(200):
                with open(f"/proc/{pid}/cmdline") as f:
                    if not f.read():
                        break  # nobody has asked how it ended
                time.sleep(0.1)
        except FileNotFoundError:
            pass  # it was not started, or has ended
        finally:
            shutil.rmtree(self.place, ignore_errors=True)


@pytest.fixture
def make_mailman():
    if os.geteuid() or not os.path.exists(f"{TREE}/usr/lib/mailman3/bin/mailman"):
        pytest.skip("needs root" if os.geteuid() else f"no Mailman in {TREE}")
    made = []

    def make(*args):
        made.append(Mailman(*args))
        return made[-1]
    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("kind", ["hash", "regex"])
def test_a_post_comes_back_to_the_members(make_mail, sink, make_mailman, kind):
    mail = make_mail(relay=sink, start=False)
    mailman = make_mailman(mail.port, kind)
    mailman.run("create", "staff@lists.test")
    mailman.run("addmembers", "--no-welcome-msg", "-", "staff@lists.test", text="poster@src.test\nMember One <one@far.test>\ntwo@far.test\n")
    data = f"{mailman.place}/var/data"
    tables = {"hash": "hash", "regex": "regexp"}[kind]
    for name in ("postfix_lmtp", "postfix_domains") if kind == "hash" else ():
        mail.command("postmap", f"hash:{data}/{name}")
    mail.settings.update({"mydestination": "lists.test", "recipient_delimiter": "+", "owner_request_special": "no", "unknown_local_recipient_reject_code": "550", "alias_maps": "",
                          "transport_maps": f"{tables}:{data}/postfix_lmtp", "local_recipient_maps": f"{tables}:{data}/postfix_lmtp"})
    mail.write_config()
    mail.start()
    mailman.run("start")
    mail.wait_port(mailman.lmtp_port, 90)
    with Client(mail.port) as client:  # what Mailman does not know is refused at once
        client.ehlo()
        client.cmd("MAIL FROM:<poster@src.test>")
        assert client.cmd("RCPT TO:<nolist@lists.test>").code == 550 and client.cmd("RCPT TO:<staff-request@lists.test>").code == 250
    assert send("poster@src.test", ["staff@lists.test"], POST, port=mail.port).code == 250
    mail.wait_log(rf"to=<staff@lists\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:{mailman.lmtp_port}, .*status=sent", seconds=60)
    try:
        mail.wait(lambda: {"one@far.test", "two@far.test"} <= {r for m in sink.messages for r in m.recipients}, 120, "the post reaches the members")
    except TimeoutError as e:
        raise AssertionError(mailman.log()) from e
    for message in sink.messages:
        assert message.sender.startswith("staff-bounces") and message.sender.endswith("@lists.test")
        assert b"\r\nSubject: [Staff] first\r\n" in message.content and re.search(rb"(?m)^List-Id: <staff\.lists\.test>\r$", message.content) and b"hello to all\r\n" in message.content
    assert not mail.complaints()
