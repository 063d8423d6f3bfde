# SPDX-License-Identifier: Apache-2.0
"""What happens to messages that do not leave at once: bounces, deferral, retries, stops, crashes."""
import fcntl
import os
import signal
import time

import pytest

from harness import Client, drip, inject, reply, send
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


@pytest.mark.parametrize("name", ["smtp", "qmgr"])
def test_what_a_process_that_hangs_has_in_hand_is_delivered_by_another(make_mail, sink, name):
    mail = make_mail(relay=sink, settings=dict(FAST, daemon_timeout="3s", qmgr_daemon_timeout="3s"))
    rule = sink.on("rcpt", hang(), times=1)
    queue_id = submit(mail)
    mail.wait(lambda: rule.hits, what="the host is asked")
    [process] = mail.processes(name)
    os.kill(process.pid, signal.SIGSTOP)
    mail.wait_log(rf"pid {process.pid}: watchdog timeout: killed", 60)
    sink.wait_count(1, 60)
    mail.wait_log(rf"{queue_id}: removed", 30)
    mail.wait(mail.is_empty, 30, what="an empty queue")
    assert len(sink.messages) == 1


def test_sender_is_told_of_what_fails_while_the_system_stops(make_mail, sink):
    refusal = "550 5.1.1 no such user"
    rule = sink.on("rcpt", drip(refusal, 2 / len(refusal)), times=1)
    mail = make_mail(relay=sink, settings=FAST)
    queue_id = submit(mail)
    mail.wait(lambda: rule.hits, what="the host is asked")
    mail.stop(60)
    assert len(mail.log(rf"{queue_id}: sender non-delivery notification: ")) == 1
    assert len(mail.log(rf"{queue_id}: removed")) == 1
    assert len(mail.queue_messages()) == 1
    mail.start()
    [notice] = sink.wait_count(1, 30)
    assert notice.sender == "" and b"no such user" in notice.content
    mail.wait(mail.is_empty, 30, what="an empty queue")
    assert not mail.complaints()


def test_unfinished_files_of_a_crash_go_and_those_in_the_making_stay(make_mail, sink):
    mail = make_mail(relay=sink, start=False)
    mail.start()
    mail.stop()
    left = [f"{mail.spool}/{queue}/4F2A{i}.new" for i, queue in enumerate(("incoming", "active", "deferred", "hold"))]
    held = f"{mail.spool}/incoming/4F2B0.new"
    for path in [*left, held]:
        with open(path, "wb") as f:
            f.write(b"C")
        if not os.geteuid():
            os.chown(path, mail.uid, -1)
    with open(held, "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        mail.start()
        mail.wait(lambda: not any(map(os.path.exists, left)), 30, what="what nobody writes is gone")
        assert os.path.exists(held)
    os.unlink(held)
    assert not mail.complaints()


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


@pytest.mark.skipif(bool(inject.unavailable()), reason="no injection")
def test_flush_reaches_a_message_whose_file_is_only_just_there(make_mail, sink):
    """The directory is not synced yet, so qmgr still has it in hand."""
    sink.on("rcpt", reply("451 4.2.0 later"), times=1)
    mail = make_mail(start=False, relay=sink, wrap=["qmgr"], settings={"minimal_backoff_time": "1000s", "maximal_backoff_time": "2000s", "queue_run_delay": "1000s"})
    inject.arm(mail, "qmgr", "-e trace=fsync -e inject=fsync:delay_exit=1500000")
    mail.start()
    submit(mail)
    mail.wait(lambda: files(mail, "deferred"), what="a file in deferred")
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


def test_cleanup_that_dies_before_it_told_a_new_qmgr_leaves_its_messages(make_mail, sink):
    """The new qmgr saw a segment that was locked, and nobody ever announced it."""
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink, settings={"journal_file_delay": "100s"})
    for i in range(5):
        submit(mail, f"x{i}@far.test")
    mail.kill("cleanup", signal.SIGSTOP)
    [old] = mail.kill("qmgr")
    mail.wait(lambda: [p for p in mail.processes("qmgr") if p.pid != old.pid], what="a new qmgr")
    time.sleep(1)  # it has looked at the journal
    mail.kill("cleanup")
    sink.clear()
    sink.wait_count(5, seconds=30)
    mail.wait_log(r": removed", count=5)
    mail.stop()
    assert not mail.alien_files() and not mail.complaints()


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


def test_start_clears_away_what_a_crash_left(make_mail, make_sink):
    """Logs without a message, unfinished files, files in a wrong place; what belongs to a message stays."""
    sink = make_sink()
    mail = make_mail(relay=sink, settings={"minimal_backoff_time": "1000s", "maximal_backoff_time": "2000s"})
    sink.stop()
    submit(mail, "x@far.test")
    [name] = mail.wait(lambda: [m[1] for m in files(mail, "deferred")], what="a deferred file")
    [good] = mail.queue_files("deferred")["deferred"]
    mail.stop()
    owner = os.stat(f"{mail.spool}/deferred").st_uid
    for path in ("defer/A/ABCDE12345", "active/ABCDE12346.new", "journal/000000A1.new", "journal/000000A2.done"):
        os.makedirs(os.path.dirname(f"{mail.spool}/{path}"), mode=0o700, exist_ok=True)
        with open(f"{mail.spool}/{path}", "w"):
            pass
        os.chown(f"{mail.spool}/{path}", owner, -1)
        os.chown(os.path.dirname(f"{mail.spool}/{path}"), owner, -1)
    os.rename(good, f"{mail.spool}/deferred/{name}")  # out of its subdirectory
    mail.start()
    mail.wait(lambda: os.path.exists(good), what="the file is where it belongs")
    assert [os.path.basename(p) for p in mail.queue_files("defer")["defer"]] == [name]
    assert not mail.queue_files("active")["active"]
    assert not mail.alien_files()
    assert name in mail.command("postqueue", "-p").stdout


@pytest.mark.skipif(bool(inject.unavailable()), reason="no injection")
def test_files_that_cannot_be_moved_at_the_start_keep_nobody_waiting(make_mail, sink):
    """A rename that fails was fatal, and qmgr could not start while it did."""
    mail = make_mail(start=False, relay=sink, wrap=["qmgr"])
    sink.on("rcpt", hang())
    mail.start()
    submit(mail, "stuck@far.test")
    mail.command("postsuper", "-s")
    mail.wait(lambda: "queue active" in "".join(line.text for line in mail.log()), what="in hand")
    [id] = {line.queue_id for line in mail.log(r"queue active")}
    mail.stop()
    owner = os.stat(f"{mail.spool}/active").st_uid
    [path] = mail.queue_files("incoming")["incoming"]
    os.makedirs(f"{mail.spool}/active", exist_ok=True)
    os.rename(path, f"{mail.spool}/active/{id}")
    sink.clear()
    inject.arm(mail, "qmgr", inject.fail("rename,renameat,renameat2", "EIO", "1..3"))
    mail.start()
    submit(mail, "other@far.test")
    sink.wait_count(2, seconds=40)
    assert mail.log(r"could not be moved to incoming: .*Input/output error")
    inject.disarm(mail)
    mail.stop()
    assert not mail.complaints()


TEMPLATES = """failure_template = <<EOF
Charset: utf-8
From: Die Post <post@own.test>
Subject: Zurück
EOF
delay_template = <<EOF
Charset: utf-8
From: Die Post <postoffice>
Subject: It takes $longer
Postmaster-Subject: To the postmaster: it takes longer

Später: $delay_warning_time_seconds s, $maximal_queue_lifetime_hours h, $$, $mail_name
.
..dot
EOF
success_template = <<EOF

Done by $nosuch.
EOF
"""


def test_notices_have_the_texts_of_the_template_file(make_mail, sink):
    sink.on("rcpt", reply("550 5.1.1 no such user"), match=b"nobody@")
    sink.on("rcpt", reply("450 4.2.0 later"), match=b"late@")
    mail = make_mail(relay=sink, start=False)
    with open(f"{mail.etc}/bounce.cf", "w", encoding="utf-8") as f:
        f.write(TEMPLATES)
    mail.settings |= dict(FAST, bounce_template_file=f"{mail.etc}/bounce.cf", delay_warning_time="3s", maximal_queue_lifetime="3h",
                          notify_classes="delay", myorigin="origin.test")
    mail.write_config()
    mail.start()
    submit(mail, "nobody@far.test")
    text = sink.wait(lambda m: m.sender == "" and b"Undelivered" in m.content).content.decode()
    assert "\r\nSubject: Undelivered Mail Returned to Sender\r\n" in text and "charset=us-ascii" in text  # a bad template is not used
    assert "\r\nFrom: Mail Delivery System <MAILER-DAEMON@origin.test>\r\n" in text
    submit(mail, "late@far.test")
    text = sink.wait(lambda m: m.sender == "" and b"sp\xc3\xa4ter" in m.content.lower()).content.decode()
    assert "\r\nSubject: It takes $longer\r\n" in text and "\r\nFrom: Die Post <postoffice@origin.test>\r\n" in text
    assert "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSpäter: 3 s, 3 h, $, Postfix\r\n.\r\n..dot\r\n\r\n<late@" in text
    copy = sink.wait(lambda m: m.recipients == ["postmaster@origin.test"]).content.decode()
    assert "\r\nSubject: To the postmaster: it takes longer\r\n" in copy and "Später" not in copy
    mail.wait_log(r'bounce.cf, line 4: non-ASCII "Subject" header value in failure template -- ignoring this template')
    mail.wait_log(r"bounce.cf, line 18: undefined \$name in success template: Done by \$nosuch\. -- using the built-in template")


def test_message_with_more_recipients_than_memory_has_room_for_is_delivered_in_passes(make_mail, sink):
    """Each gets it once; the refused share one notice; the deferred are logged, and tried again alone."""
    sink.on("rcpt", reply("550 5.1.1 no such user"), match=b"bad")
    sink.on("rcpt", reply("451 4.2.0 later"), match=b"late")
    mail = make_mail(relay=sink, settings={"minimal_backoff_time": "100s", "maximal_backoff_time": "200s", "queue_run_delay": "100s",
                                           "qmgr_message_recipient_limit": "10", "qmgr_message_recipient_minimum": "3",
                                           "smtp_recipient_limit": "8", "smtp_destination_recipient_limit": "4"})
    kind = {i: "bad" if i % 10 == 4 else "late" if i % 10 == 7 else "good" for i in range(60)}
    everybody = [f"{kind[i]}{i}@far.test" for i in range(60)]
    of = {which: sorted(r for r in everybody if r.startswith(which)) for which in ("good", "bad", "late")}
    queue_id = submit(mail, everybody)
    mail.wait(lambda: files(mail, "deferred"), what="a file in deferred")
    bounce = sink.wait(lambda m: m.sender == "")
    told = [line.split("; ")[1] for line in bounce.content.decode().splitlines() if line.startswith("Final-Recipient")]
    assert sorted(told) == of["bad"]
    assert sorted(r for m in sink.messages if m.sender for r in m.recipients) == of["good"]
    assert max(len(m.recipients) for m in sink.messages) <= 4
    [log] = mail.queue_files("defer")["defer"]
    assert sorted(e.split("\n")[0].split("=", 1)[-1] for e in open(log).read().split("recipient")[1:] if e.startswith("=late")) == of["late"]
    [(_, name, message)] = files(mail, "deferred")
    assert name == queue_id
    left = [r["address"] for s in ("envelope", "extracted") for r in message.get(s, {}).get("recipients", []) if r.get("status", "todo") == "todo"]
    assert sorted(left) == of["late"]
    sink.clear()
    mail.flush()
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")
    assert sorted(r for m in sink.messages if m.sender for r in m.recipients) == sorted(of["good"] + of["late"])
    assert not mail.complaints()


def test_delay_is_told_once_of_each_recipient_though_they_are_read_in_passes(make_mail, sink):
    sink.on("rcpt", reply("451 4.2.0 later"))
    mail = make_mail(relay=sink, settings={"minimal_backoff_time": "100s", "maximal_backoff_time": "200s", "queue_run_delay": "100s", "delay_warning_time": "4s",
                                           "qmgr_message_recipient_limit": "6", "qmgr_message_recipient_minimum": "3", "smtp_recipient_limit": "5",
                                           "smtp_destination_concurrency_failed_cohort_limit": "0"})
    everybody = [f"late{i:02d}@far.test" for i in range(20)]
    queue_id = submit(mail, everybody)
    mail.wait(lambda: len(files(mail, "deferred")) == 1, what="a file in deferred")
    time.sleep(max(0, 4.1 - (time.time() - os.stat(f"{mail.spool}/deferred/{queue_id[0]}/{queue_id}").st_ctime)))
    sink.clear()
    sink.on("rcpt", reply("451 4.2.0 later"), match=b"late")
    mail.flush()
    seen = lambda: sorted(line.split("; ")[1] for m in sink.messages for line in m.content.decode().splitlines() if line.startswith("Final-Recipient"))
    mail.wait(lambda: len(seen()) >= 20, what="all told")
    assert seen() == everybody and all(b"Action: delayed" in m.content for m in sink.messages)
    mail.wait(lambda: len(files(mail, "deferred")) == 1, what="a file in deferred")
    tried = len(mail.log(r"status=deferred"))
    mail.flush()
    mail.wait_log(r"status=deferred", count=tried + 20)
    mail.wait(lambda: len(files(mail, "deferred")) == 1, what="a file in deferred")
    assert seen() == everybody and not mail.complaints()


def test_messages_that_memory_has_no_room_for_are_taken_up_as_soon_as_there_is(make_mail, sink):
    """Not at the next queue run."""
    rule = sink.on("rcpt", hang(), match=b"slow")
    mail = make_mail(relay=sink, settings={"qmgr_message_active_limit": "3", "queue_run_delay": "1000s", "minimal_backoff_time": "1000s", "maximal_backoff_time": "2000s",
                                           "journal_file_delay": "1000s", "smtp_rcpt_timeout": "4s"})
    for i in range(3):
        submit(mail, f"slow{i}@far{i}.test")
    mail.wait(lambda: rule.hits == 3, what="three that hang")
    for i in range(5):
        submit(mail, f"x{i}@far.test")
    sink.wait_count(5)
    mail.wait(lambda: len(files(mail, "deferred")) == 3 and not files(mail, "incoming", "active"), what="only the slow ones left")
    assert not mail.complaints()


def test_cleanup_tells_a_new_qmgr_of_all_that_waits(make_mail, sink):
    """More than the link takes at once, while answers come: what is left is told, too, and so is what comes after it."""
    rule = sink.on("mail", hang())
    mail = make_mail(relay=sink, settings={"journal_file_delay": "1000s", "qmgr_message_recipient_limit": "1000000", "smtpd_recipient_limit": "1000",
                                           "smtp_recipient_limit": "1000000", "smtp_mail_timeout": "1000s", "queue_run_delay": "1000s"})
    with Client(mail.port) as smtp:
        smtp.ehlo()
        for n in range(30):
            assert smtp.cmd(f"MAIL FROM:<a{n}@src.test>").code == 250
            rcpts = [f"RCPT TO:<{'x' * 600}.{n}.{i}@{'y' * 60}.{'y' * 60}.far.test>" for i in range(80)]
            smtp.raw("".join(r + "\r\n" for r in rcpts).encode())
            assert {smtp.read_reply().code for _ in rcpts} == {250}
            assert smtp.cmd("DATA").code == 354
            assert smtp.cmd(f"Subject: {n}\r\n\r\nhi\r\n.").code == 250
    mail.wait(lambda: rule.hits > 0, what="deliveries that hang")
    sink.clear()
    assert mail.kill("qmgr")
    mail.wait(lambda: len({m.header("Subject") for m in sink.messages}) == 30, 40, what="all arrived")
    submit(mail, body=b"Subject: after\r\n\r\nhi\r\n")
    sink.wait(lambda m: m.header("Subject") == "after")
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")
    assert not mail.complaints()


@pytest.mark.skipif(bool(inject.unavailable()), reason=inject.unavailable())
def test_held_message_is_held_though_cleanup_dies_before_its_file_is_whole(make_mail, sink):
    """The image is in the journal by then, and the queue manager takes it over."""
    mail = make_mail(relay=sink, wrap=("cleanup",), settings={"smtpd_sender_restrictions": "check_sender_access static:HOLD"})
    inject.arm(mail, "cleanup", inject.kill_at(1, "fchmod"))
    mail.kill("cleanup")
    with Client(mail.port) as smtp:
        smtp.ehlo()
        answer = smtp.send("a@src.test", ["x@far.test"], b"Subject: x\r\n\r\nhi\r\n")
    assert answer.code == 451
    mail.wait(lambda: inject.kills(mail, "cleanup") > 0, what="cleanup killed")
    inject.disarm(mail)
    mail.wait(lambda: files(mail, "hold"), what="a file in hold")
    mail.stop()
    assert len(files(mail, "hold")) == 1 and not files(mail, "incoming", "active", "deferred") and not sink.messages


def test_message_of_which_checks_left_nothing_is_kept_as_a_file(make_mail, sink):
    sink.on("rcpt", reply("451 4.2.0 later"))
    mail = make_mail(relay=sink, settings={"header_checks": "static:IGNORE", "minimal_backoff_time": "100s", "maximal_backoff_time": "200s"})
    submit(mail, body=b"Subject: x\r\n")
    mail.wait(lambda: files(mail, "deferred"), what="a file in deferred")
    sink.clear()
    mail.flush()
    assert sink.wait_count(1)[0].content == b"\r\n"
    assert not mail.complaints()


@pytest.mark.parametrize("room", ["100", "100000"])
def test_content_is_whole_for_each_of_very_many_recipients(make_mail, sink, room):
    """From a file in passes, or from the journal: those who read the message are told its envelope and do not read it for each request."""
    sink.on("rcpt", reply("550 5.1.1 no such user"), match=b"bad")
    sink.extra = ["DSN"]
    mail = make_mail(relay=sink, settings={"qmgr_message_recipient_limit": room, "smtp_destination_recipient_limit": "40", "journal_file_delay": "1000s"})
    everybody = [f"{'bad' if i % 100 == 7 else 'x'}{i}@far.test" for i in range(450)]
    body = b"Subject: many\r\n\r\n.dot\r\n" + b"".join(b"%06d %s\r\n" % (i, b"y" * 60) for i in range(3000)) + b"last\r\n"
    with Client(mail.port) as smtp:
        smtp.ehlo()
        assert smtp.cmd("MAIL FROM:<a@src.test> RET=FULL ENVID=many-1").code == 250
        smtp.raw("".join(f"RCPT TO:<{r}>\r\n" for r in everybody).encode())
        assert {smtp.read_reply().code for _ in everybody} == {250}
        assert smtp.cmd("DATA").code == 354
        smtp.raw(body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert smtp.read_reply().code == 250
    mail.wait(lambda: sum(len(m.recipients) for m in sink.messages if m.sender) == 445 and any(not m.sender for m in sink.messages), 30, what="all there")
    assert sorted(r for m in sink.messages if m.sender for r in m.recipients) == sorted(r for r in everybody if not r.startswith("bad"))
    assert all(m.content.endswith(body) and "ENVID=many-1" in m.mail_parameters and "RET=FULL" in m.mail_parameters for m in sink.messages if m.sender)
    told = [line for m in sink.messages if not m.sender for line in m.content.decode().splitlines() if line.startswith("Final-Recipient")]
    assert len(told) == 5 and all(b"Original-Envelope-Id: many-1" in m.content for m in sink.messages if not m.sender)
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")
    assert not mail.complaints()


def test_envelope_takes_no_more_recipients_than_can_be_handed_on(make_mail):
    """However many the administrator allows. What was accepted until then is delivered."""
    mail = make_mail(settings={"default_transport": "discard:", "smtpd_recipient_limit": "1000000", "discard_destination_recipient_limit": "1000"})
    with Client(mail.port, timeout=60) as smtp:
        smtp.ehlo()
        assert smtp.cmd("MAIL FROM:<a@src.test>").code == 250
        accepted, code = 0, 250
        domain = ".".join("y" * 60 for _ in range(3)) + ".far.test"
        while code == 250 and accepted < 30000:
            smtp.raw("".join(f"RCPT TO:<{'x' * 1000}{accepted + i}@{domain}>\r\n" for i in range(50)).encode())
            codes = [smtp.read_reply().code for _ in range(50)]
            accepted += codes.count(250)
            code = codes[-1]
        assert code == 452 and 10000 < accepted < 30000
        assert smtp.cmd("DATA").code == 354
        assert smtp.cmd("Subject: x\r\n\r\nhi\r\n.").code == 250
    mail.wait_log(r"status=sent", 60, count=accepted)
    mail.wait_log(r": removed", 30)
    assert mail.queued() == 0 and not mail.complaints()


@pytest.mark.skipif(bool(inject.unavailable()), reason=inject.unavailable())
def test_image_that_has_a_file_already_is_struck_when_it_is_announced_again(make_mail, sink):
    """qmgr dies between making the file and striking the image; the next one has the file in hand when cleanup comes."""
    sink.on("rcpt", hang())
    mail = make_mail(relay=sink, wrap=("qmgr",), settings={"journal_file_delay": "1s"})
    inject.arm(mail, "qmgr", inject.kill_at(2, "fsync"))
    mail.kill("qmgr")
    submit(mail)
    mail.wait(lambda: inject.kills(mail, "qmgr") > 0, what="qmgr killed")
    assert len(files(mail, "active")) == 1
    inject.disarm(mail)
    sink.clear()
    sink.wait_count(1)
    mail.wait(lambda: mail.queued() == 0, what="an empty queue")
    mail.stop()
    assert mail.queued() == 0 and len(sink.messages) == 1 and not mail.log(r"announced twice")
    assert mail.queue_files("journal")["journal"] in ([], [f"{mail.spool}/journal/ids"])
