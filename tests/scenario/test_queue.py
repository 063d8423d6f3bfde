# SPDX-License-Identifier: Apache-2.0
"""What happens to messages that do not leave at once: bounces, deferral, retries, stops, crashes."""
import os
import time

from harness import reply, send
from harness.sink import hang

FAST = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"}


def files(mail, *queues):
    """Messages in finished files; names with a dot are in the making."""
    return [m for m in mail.queue_messages(*queues) if "." not in m[1]]


def submit(mail, to="x@far.test", sender="a@src.test", body=b"Subject: x\r\n\r\nhi\r\n"):
    recipients = [to] if isinstance(to, str) else to
    answer = send(sender, recipients, body, port=mail.port)
    assert answer.code == 250, answer
    return str(answer).split("queued as ")[1].split("'")[0].strip("])")


def test_delivered_message_leaves_nothing(mail, sink):
    queue_id = submit(mail)
    sink.wait_count(1)
    mail.wait_log(rf"{queue_id}: from=<a@src.test>, size=\d+, nrcpt=1 \(queue active\)")
    mail.wait_log(rf"{queue_id}: removed")
    assert mail.queued() == 0
    mail.stop()
    assert mail.queue_files("journal")["journal"] in ([], [f"{mail.spool}/journal/ids"])
    assert not mail.complaints()


def test_refused_recipient_bounces_and_the_other_is_delivered(mail, sink):
    sink.on("rcpt", reply("550 5.1.1 no such user"), match=b"nobody@")
    queue_id = submit(mail, ["nobody@far.test", "ok@far.test"])
    bounce = sink.wait(lambda m: m.sender == "")
    assert bounce.recipients == ["a@src.test"]
    text = bounce.content.decode()
    assert "Subject: Undelivered Mail Returned to Sender" in text
    assert "This is the mail system at host mail.test" in text
    assert "Final-Recipient: rfc822; nobody@far.test" in text
    assert "Status: 5.1.1" in text and "Action: failed" in text
    assert f"X-Postfix-Queue-ID: {queue_id}" in text
    assert "Diagnostic-Code: smtp; 550 5.1.1 no such user" in text
    assert "Subject: x\r\n\r\nhi\r\n" in text
    mail.wait_log(rf"{queue_id}: sender non-delivery notification: \w+")
    mail.wait_log(r": removed", count=2)
    assert [m.recipients for m in sink.messages if m.sender] == [["ok@far.test"]]
    assert mail.queued() == 0 and not mail.complaints()


def test_bounce_of_a_bounce_is_not_sent(mail, sink):
    sink.on("rcpt", reply("550 5.1.1 no"))
    submit(mail, sender="")
    mail.wait_log(r"without a sender discarded")
    mail.wait_log(r"removed")
    assert mail.queued() == 0 and not sink.messages


def test_deferred_message_is_a_file_and_is_tried_again(make_mail, sink):
    sink.on("rcpt", reply("451 4.2.0 later"), times=2)
    mail = make_mail(relay=sink, settings=FAST)
    queue_id = submit(mail, body=b"Subject: keep\r\n\r\n.dot\r\nlast\r\n")
    mail.wait_log(rf"{queue_id}: to=<x@far.test>.*status=deferred")
    mail.wait(lambda: files(mail, "deferred") or sink.messages, what="a file in deferred")
    message = sink.wait(lambda m: True)
    assert b"\r\n.dot\r\nlast\r\n" in message.content
    mail.wait_log(rf"{queue_id}: removed")
    assert mail.queued() == 0 and not mail.complaints()
    assert len(sink.messages) == 1
    assert not [p for p in mail.queue_files("defer")["defer"]]


def test_deferred_file_says_why_and_when(make_mail, sink):
    sink.on("rcpt", reply("451 4.2.0 later"))
    mail = make_mail(relay=sink, settings={"minimal_backoff_time": "100s", "maximal_backoff_time": "200s"})
    queue_id = submit(mail)
    (queue, name, message), = mail.wait(lambda: files(mail, "deferred"), what="a file in deferred")
    assert name == queue_id
    path = mail.queue_files("deferred")["deferred"][0]
    assert path.endswith(f"/deferred/{queue_id[0]}/{queue_id}")
    assert 90 < os.stat(path).st_mtime - time.time() < 110
    log = open(f"{mail.spool}/defer/{queue_id[0]}/{queue_id}").read()
    assert "<x@far.test>: host 127.0.0.1[127.0.0.1] said: 451 4.2.0 later (in reply to RCPT TO command)" in log
    assert "status=4.2.0" in log and "action=delayed" in log
    sink.clear()
    mail.flush()
    sink.wait_count(1)
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")
    assert not mail.complaints()


def test_partly_delivered_message_keeps_what_is_done(make_mail, sink):
    sink.on("rcpt", reply("451 4.2.0 later"), match=b"late@")
    mail = make_mail(relay=sink, settings={"minimal_backoff_time": "100s", "maximal_backoff_time": "200s"})
    submit(mail, ["now@far.test", "late@far.test"])
    (queue, name, message), = mail.wait(lambda: files(mail, "deferred"), what="a file in deferred")
    sink.clear()
    mail.flush()
    sink.wait(lambda m: m.recipients == ["late@far.test"])
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")
    assert sorted(r for m in sink.messages for r in m.recipients) == ["late@far.test", "now@far.test"]


def test_expired_message_goes_back_to_its_sender(make_mail, sink):
    sink.on("rcpt", reply("451 4.2.0 later"), match=b"x@far")
    mail = make_mail(relay=sink, settings=dict(FAST, maximal_queue_lifetime="2s", bounce_queue_lifetime="2s"))
    queue_id = submit(mail)
    bounce = sink.wait(lambda m: m.sender == "")
    assert b"451 4.2.0 later" in bounce.content and b"Action: failed" in bounce.content
    mail.wait_log(rf"{queue_id}: from=<a@src.test>, status=expired, returned to sender")
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")


def test_slow_delivery_gets_a_file_and_survives_a_stop(make_mail, sink):
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink, settings={"journal_file_delay": "1s"})
    queue_id = submit(mail)
    mail.wait(lambda: files(mail, "active"), what="a file in active")
    assert files(mail, "active")[0][1] == queue_id
    mail.stop()
    assert mail.queued() == 1
    assert mail.queue_files("journal")["journal"] in ([], [f"{mail.spool}/journal/ids"])
    sink.clear()
    mail.start()
    sink.wait_count(1)
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")
    assert not mail.complaints()


def test_clean_stop_leaves_only_files(make_mail, sink):
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink)
    ids = {submit(mail, f"x{i}@far.test") for i in range(30)}
    mail.stop()
    found = {name for _, name, message in files(mail) if not isinstance(message, Exception)}
    assert found == ids
    assert mail.queue_files("journal")["journal"] in ([], [f"{mail.spool}/journal/ids"])
    sink.clear()
    mail.start()
    sink.wait_count(30)
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")
    assert len(sink.messages) == 30 and not mail.complaints()


def test_journal_is_replayed_after_a_crash(make_mail, sink):
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink, settings={"journal_file_delay": "100s"})
    for i in range(20):
        submit(mail, f"x{i}@far.test")
    mail.kill_all()
    sink.clear()
    mail.start()
    sink.wait_count(20)
    mail.wait_log(r"took over 20 messages")
    mail.wait_log(r": removed", count=20)
    mail.stop()
    assert mail.queued() == 0
    assert mail.queue_files("journal")["journal"] in ([], [f"{mail.spool}/journal/ids"])
    assert len(sink.messages) == 20 and not mail.complaints()


def test_qmgr_that_is_killed_loses_nothing(make_mail, sink):
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink, settings={"journal_file_delay": "100s"})
    for i in range(20):
        submit(mail, f"x{i}@far.test")
    mail.kill("qmgr")
    sink.clear()
    sink.wait_count(20, seconds=30)
    mail.wait_log(r": removed", count=20)
    assert mail.queued() == 0


def test_killed_cleanup_leaves_its_messages_to_qmgr(make_mail, sink):
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink, settings={"journal_file_delay": "100s"})
    for i in range(5):
        submit(mail, f"x{i}@far.test")
    mail.kill("cleanup")
    # A client that comes just then may be told to try again.
    mail.wait(lambda: send("a@src.test", ["later@far.test"], b"Subject: x\r\n\r\nhi\r\n", port=mail.port).code == 250)
    sink.clear()
    mail.kill("smtp")
    sink.wait_count(6, seconds=30)
    mail.wait_log(r": removed", count=6)
    mail.stop()
    assert mail.queue_files("journal")["journal"] in ([], [f"{mail.spool}/journal/ids"])


def test_corrupt_file_is_set_aside(make_mail, sink):
    mail = make_mail(start=False, relay=sink)
    mail.start()
    mail.stop()
    path = f"{mail.spool}/incoming/ABCDE12345"
    with open(path, "wb") as f:
        f.write(b"no queue file")
    os.chown(path, os.stat(f"{mail.spool}/incoming").st_uid, -1)
    os.chmod(path, 0o700)
    mail.start()
    mail.wait_log(r'saving corrupt file "ABCDE12345" from queue "incoming" to queue "corrupt"')
    assert os.listdir(f"{mail.spool}/corrupt") == ["ABCDE12345"]
    submit(mail)
    sink.wait_count(1)


def test_dead_destination_is_left_alone(make_mail, make_sink):
    sink = make_sink()
    mail = make_mail(relay=sink, settings={"minimal_backoff_time": "100s", "maximal_backoff_time": "200s"})
    sink.stop()
    for i in range(12):
        submit(mail, f"x{i}@far.test")
    mail.wait(lambda: len(files(mail, "deferred")) == 12, what="12 files in deferred")
    mail.wait_log(r"status=deferred \(delivery temporarily suspended: connect to")
    assert not mail.complaints()


def test_transport_that_is_missing_defers(make_mail, sink):
    mail = make_mail(relay=sink, settings={"default_transport": "nosuch"})
    submit(mail)
    mail.wait(lambda: files(mail, "deferred"), seconds=25, what="a file in deferred")
    mail.wait_log(r"status=deferred \(mail transport unavailable\)")
