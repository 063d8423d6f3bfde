# SPDX-License-Identifier: Apache-2.0
"""The commands that show and change the queue: postqueue, mailq, postsuper, postcat; and showq's socket."""
import json
import os
import re
import socket

import pytest

from harness import reply, send
from harness.sink import hang

LATER = {"minimal_backoff_time": "100s", "maximal_backoff_time": "200s"}


def submit(mail, to="x@far.test", sender="a@src.test", body=b"Subject: x\r\n\r\nhi\r\n"):
    answer = send(sender, [to] if isinstance(to, str) else to, body, port=mail.port)
    assert answer.code == 250, answer
    return re.search(r"queued as (\w+)", str(answer)).group(1)


def out(mail, *command, **options):
    result = mail.command(*command, **options)
    return result.stdout if isinstance(result.stdout, str) else result.stdout.decode()


@pytest.fixture
def deferred(make_mail, sink):
    """An instance with two deferred messages, and their ids."""
    sink.on("rcpt", reply("451 4.2.0 later"))
    mail = make_mail(relay=sink, settings=LATER)
    mail.ids = [submit(mail, "x@far.test"), submit(mail, ["y@far.test", "z@far.test"])]
    mail.wait(lambda: len([m for m in mail.queue_messages("deferred") if "." not in m[1]]) == 2, what="two deferred messages")
    return mail


def test_empty_queue(mail):
    assert out(mail, "postqueue", "-p") == "Mail queue is empty\n"
    assert out(mail, "postqueue", "-j") == ""


def test_deferred_messages_are_listed_as_postfix_does(deferred):
    lines = out(deferred, "postqueue", "-p").split("\n")
    assert lines[0] == "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
    first = next(line for line in lines if line.startswith(deferred.ids[0]))
    assert re.fullmatch(r"[0-9A-F]+ +\d+ \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d  a@src.test", first), first
    assert sum(line.endswith("(host 127.0.0.1[127.0.0.1] said: 451 4.2.0 later (in reply to RCPT TO command))") for line in lines) == 2
    for address in ("x@far.test", "y@far.test", "z@far.test"):
        assert " " * 41 + address in lines
    assert lines[-2] == "-- 0 Kbytes in 2 Requests."


def test_json_list(deferred):
    objects = [json.loads(line) for line in out(deferred, "postqueue", "-j").splitlines()]
    assert {o["queue_id"] for o in objects} == set(deferred.ids)
    one = next(o for o in objects if o["queue_id"] == deferred.ids[0])
    assert one["queue_name"] == "deferred" and one["sender"] == "a@src.test" and one["forced_expire"] is False
    assert one["recipients"][0]["address"] == "x@far.test" and "451 4.2.0 later" in one["recipients"][0]["delay_reason"]
    assert set(one) == {"queue_name", "queue_id", "arrival_time", "message_size", "forced_expire", "sender", "recipients"}


def test_message_in_the_journal_is_listed_as_active(make_mail, sink):
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink, settings={"journal_file_delay": "100s"})
    queue_id = submit(mail)
    assert f"{queue_id}*" in out(mail, "postqueue", "-p")


def test_showq_speaks_unasked(deferred):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(f"{deferred.spool}/public/showq")
        data = b""
        while part := s.recv(65536):
            data += part
    assert data.endswith(b"\0\0")
    texts = data.split(b"\0")
    assert texts[:2] == [b"queue_name", b"deferred"]
    assert texts.count(b"queue_id") == 2 and texts.count(b"recipient") == 3


def test_queue_is_readable_while_the_system_is_down(deferred):
    deferred.stop()
    assert "-- 0 Kbytes in 2 Requests." in out(deferred, "postqueue", "-p")


def test_delete_one_and_all(deferred):
    told = out(deferred, "postsuper", "-d", deferred.ids[0])
    assert f"{deferred.ids[0]}: removed\n" in told and "Deleted: 1 message\n" in told
    deferred.wait_log(rf"{deferred.ids[0]}: removed")
    deferred.wait_log(r"Deleted: 1 message")
    assert deferred.ids[0] not in out(deferred, "postqueue", "-p")
    assert not os.path.exists(f"{deferred.spool}/defer/{deferred.ids[0][0]}/{deferred.ids[0]}")
    deferred.command("postsuper", "-d", "ALL")
    assert out(deferred, "postqueue", "-p") == "Mail queue is empty\n"


def test_delete_a_message_that_is_in_the_journal(make_mail, sink):
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink, settings={"journal_file_delay": "100s"})
    queue_id = submit(mail)
    mail.command("postsuper", "-d", queue_id)
    assert out(mail, "postqueue", "-p") == "Mail queue is empty\n"
    mail.stop()
    assert mail.queued() == 0
    sink.clear()
    mail.start()
    submit(mail, "next@far.test")
    sink.wait_count(1)
    assert sink.messages[0].recipients == ["next@far.test"]


def test_hold_and_release(deferred, sink):
    held = deferred.ids[0]
    deferred.command("postsuper", "-h", held)
    assert f"{held}!" in out(deferred, "postqueue", "-p")
    sink.clear()
    deferred.command("postqueue", "-f")
    sink.wait(lambda m: m.recipients == ["y@far.test", "z@far.test"])
    deferred.command("postsuper", "-H", held)
    deferred.command("postqueue", "-f")
    sink.wait(lambda m: m.recipients == ["x@far.test"])


def test_expire_returns_to_the_sender(deferred, sink):
    sink.clear()
    sink.on("rcpt", reply("451 4.2.0 later"), match=b"far.test")
    deferred.command("postsuper", "-e", deferred.ids[0])
    bounce = sink.wait(lambda m: m.sender == "")
    assert bounce.recipients == ["a@src.test"]
    deferred.wait_log(rf"{deferred.ids[0]}: from=<a@src.test>, status=force-expired, returned to sender")


def test_flush_of_one_message(deferred, sink):
    sink.clear()
    deferred.command("postqueue", "-i", deferred.ids[0])
    sink.wait(lambda m: m.recipients == ["x@far.test"])
    assert len(sink.messages) == 1


def test_postcat_shows_a_message(deferred):
    text = out(deferred, "postcat", "-q", deferred.ids[0])
    assert f"*** ENVELOPE RECORDS deferred/{deferred.ids[0][0]}/{deferred.ids[0]} ***" in text
    assert "\nsender: a@src.test\n" in text and "\nrecipient: x@far.test\n" in text
    assert "Subject: x\n\nhi\n*** HEADER EXTRACTED" in text


def test_a_file_in_the_wrong_place_is_moved(deferred):
    deferred.stop()
    queue_id = deferred.ids[0]
    os.rename(f"{deferred.spool}/deferred/{queue_id[0]}/{queue_id}", f"{deferred.spool}/deferred/{queue_id}")
    deferred.command("postsuper", "-s")
    assert os.path.exists(f"{deferred.spool}/deferred/{queue_id[0]}/{queue_id}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_postsuper_works_as_the_queues_owner(make_mail, sink):
    """T12: mail_owner could lead root's hands elsewhere, and what root makes there mail_owner could not use."""
    sink.on("rcpt", reply("451 4.2.0 later"))
    mail = make_mail(relay=sink, settings={**LATER, "hash_queue_names": "deferred defer hold"})
    queue_id = submit(mail)
    mail.wait(lambda: mail.queue_messages("deferred"), what="a deferred message")
    mail.command("postsuper", "-h", queue_id)
    assert os.stat(f"{mail.spool}/hold/{queue_id[0]}").st_uid == mail.uid
    assert os.stat(f"{mail.spool}/hold/{queue_id[0]}/{queue_id}").st_uid == mail.uid
    mail.command("postsuper", "-d", queue_id)
    assert "Mail queue is empty" in out(mail, "postqueue", "-p")
