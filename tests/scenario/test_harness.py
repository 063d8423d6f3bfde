# SPDX-License-Identifier: Apache-2.0
"""The harness itself: a checker that can't complain shows nothing."""
import random
import time

import pytest
from crash.run import Totals
from harness import Client, Closed, Dns, Instance, close, delay, drip, hang, raw, reply, reset
from harness.ledger import Ledger
from harness.queue_file import build, parse
from harness.sink import Received


def received(message, content=None, recipients=None, sender=None):
    return Received(message.sender if sender is None else sender, "", recipients or message.recipients, [], content or b"Received: by x\r\n" + message.content, 1, 1, "", False, 0)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(str(tmp_path / "log"))
    yield ledger
    ledger.close()


def make(ledger, sequence=1):
    return ledger.make(0, sequence, random.Random(sequence))


def test_ledger_misses_what_was_acknowledged_and_did_not_arrive(ledger):
    arrived, absent, unanswered = (make(ledger, n) for n in (1, 2, 3))
    for message in (arrived, absent):
        ledger.acknowledged(message.id)
    ledger.received(received(arrived))
    assert list(ledger.missing()) == [absent.id]
    assert ledger.not_in({absent.id: set(absent.recipients)}) == {}
    assert list(ledger.not_in({unanswered.id: set(unanswered.recipients)})) == [absent.id]
    ledger.sync()
    assert list(Ledger.replay(ledger.path).missing()) == [absent.id]


def test_ledger_counts_duplicates_for_each_recipient(ledger):
    message = make(ledger)
    ledger.acknowledged(message.id)
    ledger.received(received(message))
    ledger.received(received(message, recipients=message.recipients[:1]))
    assert ledger.duplicates == 1 and not ledger.missing()


def test_ledger_excuses_duplicates_only_of_deliveries_under_way_at_a_fault(ledger):
    early, under_way = make(ledger, 1), make(ledger, 2)
    for message in (early, under_way):
        ledger.acknowledged(message.id)
        ledger.received(received(message))
    ledger.entries[early.id].last = {r: when - 2 for r, when in ledger.entries[early.id].last.items()}
    ledger.fault(1)
    ledger.fault_over()
    ledger.received(received(under_way))
    assert ledger.duplicates and not ledger.unexplained
    ledger.received(received(early))
    assert len(ledger.unexplained) == len(early.recipients) and early.id in ledger.unexplained[0]


def test_fatal_is_excused_where_a_fault_explains_it_and_a_panic_never(tmp_path):
    line = "Jan  1 00:00:00 vm postfix/qmgr[1]: {}\n"
    log = tmp_path / "mail.log"
    log.write_text(line.format("fatal: no space") + line.format("panic: oops") + line.format("fatal: later"))
    mail = Instance.__new__(Instance)
    mail.log_file = str(log)
    assert [c.text for c in mail.complaints([(0, 60)])] == ["panic: oops", "fatal: later"]
    assert len(mail.complaints()) == 3


def test_files_of_unknown_names_are_noticed(tmp_path):
    names = ["incoming/0123456789A", "deferred/F/F0123456789", "defer/3/3Zk2v2bcdfz1B", "journal/ids", "active/0123456789A.tmp", "journal/0000000A", "core"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    mail = Instance.__new__(Instance)
    mail.spool = str(tmp_path)
    assert mail.alien_files() == ["active/0123456789A.tmp", "core", "journal/0000000A"]


def test_totals_of_several_runs_add_up(tmp_path):
    class Fake:
        def __init__(self, cycles, verdict):
            self.cycles, self.verdict, self.o, self.seed = cycles, verdict, type("o", (), {"label": ""}), "1"

        def totals(self):
            return {"method": "kill-one", "system": "postern", "cycles": self.cycles, "slowest": float(self.cycles), "verdict": self.verdict}

    totals = Totals(str(tmp_path / "totals"))
    totals.save(Fake(3, "holds"), "a")
    totals.save(Fake(5, "holds"), "a")  # the same run, later
    totals.save(Fake(4, "FAILS"), "b")
    assert totals.cycles("kill-one", "postern", "") == 9
    [total] = totals.sums()
    assert (total["cycles"], total["slowest"], total["verdict"]) == (9, 5.0, "FAILS")


def test_ledger_notices_a_changed_byte_and_a_lost_tail(ledger):
    message = make(ledger)
    ledger.acknowledged(message.id)
    ledger.received(received(message, message.content[:-4] + b"\r\n"))
    ledger.received(received(message, message.content.replace(b"Subject: m", b"Subject: n", 1)))
    assert len(ledger.altered) == 2 and list(ledger.missing()) == [message.id]


def test_ledger_takes_a_bounce_for_a_delivery(ledger):
    message = make(ledger)
    ledger.acknowledged(message.id)
    report = "".join(f"\r\nFinal-Recipient: rfc822; {r}\r\nOriginal-Recipient: rfc822;x\r\nAction: failed\r\nStatus: 5.1.1\r\n" for r in message.recipients)
    content = b"Content-Type: multipart/report; report-type=delivery-status\r\n\r\n" + report.encode() + b"\r\n" + message.content
    ledger.received(received(message, content, [message.sender], sender=""))
    assert not ledger.missing() and ledger.bounces == 1


def test_ledger_ignores_what_a_machine_without_power_could_not_do(ledger):
    first, second = make(ledger, 1), make(ledger, 2)
    ledger.acknowledged(first.id)
    ledger.power_off()
    ledger.acknowledged(second.id)
    ledger.received(received(first))
    ledger.power_on()
    assert list(ledger.missing()) == [first.id]


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "rcpt", "data", "body", "dot", "quit"])
@pytest.mark.parametrize("action", [hang(), close("421 bye"), reset(), raw(b"\xff\r\n"), drip("250 ok", .01), delay(.1), reply("450 later\nagain")],
                         ids=lambda a: a.kind)
def test_sink_misbehaves_at_every_stage(sink, stage, action):
    """No combination may hang the sink itself; what was refused is not counted as accepted."""
    rule = sink.on(stage, action)
    try:
        with Client(sink.port, timeout=.3) as smtp:
            smtp.ehlo()
            smtp.send("a@x.test", ["b@y.test"], b"Subject: x\r\n\r\n.hi\r\n")
            smtp.quit()
    except (Closed, TimeoutError, AssertionError, ConnectionError):  # a reset may come as early as in connect()
        pass
    assert rule.hits
    if stage == "dot" and action.kind not in ("delay", "drip"):
        assert not sink.messages and len(sink.refused) == 1
    sink.clear()
    with Client(sink.port) as smtp:
        smtp.ehlo()
        assert smtp.send("good@x.test", ["b@y.test"], b"Subject: x\r\n\r\n.hi\r\n").code == 250
    assert sink.wait(lambda m: m.sender == "good@x.test").content == b"Subject: x\r\n\r\n.hi\r\n"


def test_sink_ends_content_at_crlf_dot_crlf_only(sink):
    with Client(sink.port) as smtp:
        smtp.ehlo()
        smtp.cmd("MAIL FROM:<a@x>")
        smtp.cmd("RCPT TO:<b@y>")
        smtp.cmd("DATA")
        for byte in b"a\n.\nb\r\n.\nc\n.\r\nd\r.\r\n..e\r\n":
            smtp.raw(bytes([byte]))
        smtp.raw(b".\r\n")
        assert smtp.read_reply().code == 250
    assert sink.messages[0].content == b"a\n.\nb\r\n\nc\n.\r\nd\r.\r\n.e\r\n"


def test_sink_speaks_tls_and_lmtp(make_sink):
    sink = make_sink()
    sink.starttls = sink.lmtp = True
    with Client(sink.port) as lmtp:
        lmtp.ehlo(verb="LHLO")
        assert "STARTTLS" in lmtp.features
        lmtp.starttls()
        lmtp.ehlo(verb="LHLO")
        assert "STARTTLS" not in lmtp.features
        assert lmtp.send("a@x", ["b@y", "c@y"], b"x\r\n").code == 250
        assert lmtp.read_reply().code == 250  # the second recipient's
    assert sink.messages[0].tls


def test_dns_answers_and_falls_silent():
    import socket
    question = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\3far\4test\0\0\x0f\0\1"
    with Dns({"far.test": [("MX", 10, "mx.far.test")]}) as dns, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(.3)
        s.sendto(question, (dns.host, dns.port))
        answer = s.recv(512)
        assert answer[:2] == b"\x12\x34" and answer[7] == 1 and b"\2mx\3far\4test\0" in answer
        dns.mode = "servfail"
        s.sendto(question, (dns.host, dns.port))
        assert s.recv(512)[3] & 15 == 2
        dns.mode = "silent"
        s.sendto(question, (dns.host, dns.port))
        with pytest.raises(TimeoutError):
            s.recv(512)
        assert len(dns.queries) == 3


def test_queue_file_reader_and_writer_agree():
    message = {"kind": "queue", "envelope": {"arrival_time": [int(time.time()), 5], "sender": "a@x.test",
                                             "recipients": [{"address": "b@y.test", "original": "b@y.test", "status": "todo", "notify": []}]},
               "content": b"Subject: x\n\nhi\n"}
    again = parse(build(message))
    assert again["content"] == message["content"] and again["envelope"]["recipients"][0]["address"] == "b@y.test"
