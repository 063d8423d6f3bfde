# SPDX-License-Identifier: Apache-2.0
"""What cleanup does to messages, and what it says when it can't keep them."""
import os
import shutil
import signal
import subprocess

import pytest

from harness import inject, queue_file, reply, send

HEAD = b"From: a@src.test\r\nTo: b@far.test\r\nSubject: x\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@src.test>\r\n"


def peak_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))


def one(mail, name):
    return mail.processes(name)[0].pid


def test_contents_arrive_byte_for_byte(mail, sink):
    bodies = [b"\r\nhi\r\n", b"", b"\r\n", b"\r\n.\r\n..\r\n...x\r\n.\r\n", b"\r\n" + b"x" * 998 + b"\r\n" + b"y" * 100000 + b"\r\n",
              b"\r\n" + bytes(range(128, 256)) + b"\r\n", b"\r\n" + b"line\r\n" * 30000]
    for n, body in enumerate(bodies):
        assert send("a@src.test", [f"r{n}@far.test"], HEAD + body, port=mail.port).code == 250
    sink.wait_count(len(bodies), 30)
    for n, body in enumerate(bodies):
        got = next(m for m in sink.messages if m.recipients == [f"r{n}@far.test"]).content
        received, rest = got.split(b"From: a@src.test", 1)
        assert received.startswith(b"Received: ")
        if n != 4:  # what is longer than 998 bytes is broken on the way out
            assert b"From: a@src.test" + rest == HEAD + body, n
    assert not mail.complaints()


def test_large_message_needs_constant_memory(make_mail, sink):
    mail = make_mail(relay=sink, settings={"message_size_limit": "104857600"})
    assert send("a@src.test", ["b@far.test"], HEAD + b"\r\nsmall\r\n", port=mail.port).code == 250
    sink.wait_count(1)
    before = {name: peak_kib(one(mail, name)) for name in ("smtpd", "cleanup", "qmgr", "smtp")}
    body = b"\r\n" + (b"0123456789abcdef" * 4 + b"\r\n") * 320000
    assert send("a@src.test", ["b@far.test"], HEAD + body, port=mail.port).code == 250
    sink.wait_count(2, 40)
    assert sink.messages[1].content.endswith(body)
    for name, kib in before.items():
        grown = peak_kib(one(mail, name)) - kib
        assert grown < 4096, f"{name} grew by {grown} KiB"
    assert not mail.complaints()


def test_too_many_hops_and_too_large_are_refused(make_mail, sink):
    mail = make_mail(relay=sink, settings={"message_size_limit": "20000", "hopcount_limit": "10"})
    answer = send("a@src.test", ["b@far.test"], b"Received: from x\r\n" * 11 + HEAD + b"\r\n", port=mail.port)
    assert answer.code == 554 and "too many hops" in str(answer)
    answer = send("a@src.test", ["b@far.test"], HEAD + b"\r\n" + b"x" * 70 + b"\r\n" * 20000, port=mail.port)
    assert answer.code == 552
    assert send("a@src.test", ["b@far.test"], HEAD + b"\r\n", port=mail.port).code == 250
    sink.wait_count(1)


@pytest.mark.parametrize("call, error, when, codes", [
    ("fdatasync", "EIO", "1+", [451]), ("fdatasync", "EIO", "1+2", [451]),
    ("pwritev", "ENOSPC", "1+", [451, 452]), ("pwritev", "ENOSPC", "5+", [451, 452])])
def test_message_that_cannot_be_stored_is_refused(call, error, when, codes, make_mail, sink):
    if inject.unavailable():
        pytest.skip(inject.unavailable())
    mail = make_mail(relay=sink, wrap=["cleanup"], start=False)
    inject.arm(mail, "cleanup", inject.fail(call, error, when))
    mail.start()
    for n in range(6):
        answer = send("a@src.test", [f"r{n}@far.test"], HEAD + b"\r\n", port=mail.port)
        assert answer.code in [250, *codes], answer
        if answer.code == 250:
            sink.wait(lambda m: m.recipients == [f"r{n}@far.test"])
        if when == "1+":
            assert answer.code in codes
    assert inject.count(mail, "INJECTED", "cleanup") > 0
    inject.disarm(mail)
    mail.kill("cleanup")
    # A client that comes while cleanup is being replaced may be told to try again.
    mail.wait(lambda: send("a@src.test", ["after@far.test"], HEAD + b"\r\n", port=mail.port).code == 250, what="mail is taken again")
    sink.wait(lambda m: m.recipients == ["after@far.test"])
    assert not mail.complaints()


def test_what_was_acknowledged_survives_the_death_of_cleanup(mail, sink):
    sink.on("connect", reply("421 not now"))
    for n in range(20):
        assert send("a@src.test", [f"r{n}@far.test"], HEAD + b"\r\n", port=mail.port).code == 250
    os.kill(one(mail, "cleanup"), signal.SIGKILL)
    os.kill(one(mail, "qmgr"), signal.SIGKILL)
    sink.clear()
    mail.flush()
    mail.wait(lambda: len({m.recipients[0] for m in sink.messages}) == 20, 40, "all delivered")


def test_stopped_queue_is_files_that_postfix_can_read(mail, sink):
    sink.on("connect", reply("421 not now"))
    for n in range(5):
        assert send("a@src.test", [f"r{n}@far.test"], HEAD + b"\r\n.dot\r\n", port=mail.port).code == 250
    mail.stop()
    files = [f for queue in mail.queue_files("incoming", "active", "deferred").values() for f in queue]
    assert len(files) == 5
    for path in files:
        assert os.stat(path).st_mode & 0o7777 == 0o700
        with open(path, "rb") as f:
            message = queue_file.parse(f.read())
        assert message["warnings"] == []
        assert message["envelope"]["sender"] == "a@src.test"
        assert message["content"].endswith(b"\n\n.dot\n")
        recipient = message["envelope"]["recipients"][0]
        assert recipient["dsn_original"] == f"rfc822;{recipient['address']}"
        show_to_postfix(path)


def show_to_postfix(path):
    """A Postfix in a tree of its own, where there is one, must make the same of it."""
    tree = f"{os.environ.get('PEERS', '/tmp/peers')}/postfix"
    if os.geteuid() or not os.path.exists(f"{tree}/usr/sbin/postcat"):
        return
    name = f"shown.{os.getpid()}"
    shutil.copy2(path, f"{tree}/tmp/{name}")
    try:
        shown = subprocess.run(["chroot", tree, "postcat", f"/tmp/{name}"], check=True, stdout=subprocess.PIPE).stdout.decode()
    finally:
        os.unlink(f"{tree}/tmp/{name}")
    assert "sender: a@src.test" in shown and "original_recipient: r" in shown and "\n.dot\n" in shown
    assert "HEADER EXTRACTED" in shown and "MESSAGE FILE END" in shown


def test_address_that_a_table_makes_too_long_for_a_queue_file_is_refused(make_mail, sink):
    mail = make_mail(relay=sink, settings={"recipient_canonical_maps": f"inline:{{x@far.test={'y' * 2100}@far.test}}"})
    assert send("a@src.test", ["x@far.test"], b"Subject: x\r\n\r\nhi\r\n", port=mail.port).code == 501
    assert send("a@src.test", ["z@far.test"], b"Subject: x\r\n\r\nhi\r\n", port=mail.port).code == 250
    sink.wait_count(1)
    assert not mail.complaints()
