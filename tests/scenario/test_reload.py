# SPDX-License-Identifier: Apache-2.0
"""A reload under deliveries: what is under way ends, what comes meanwhile goes by the new settings, and nothing is lost or there twice."""
import os
import signal
import threading
import time

import pytest

from harness import Client, drip, reply, send
from harness.ledger import NEVER, Ledger
from harness.load import Load
from test_pipe import place, user  # noqa: F401

FAST = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"}
LONG = 6  # seconds: longer than a stop waits for deliveries


def submit(mail, to, sender="a@src.test", body=b"Subject: x\r\n\r\nhi\r\n"):
    recipients = [to] if isinstance(to, str) else to
    answer = send(sender, recipients, body, port=mail.port)
    assert answer.code == 250, answer
    return str(answer).split("queued as ")[1].split("'")[0].strip("])")


class Gate:
    """A host whose answers to the content wait until the gate is opened."""

    def __init__(self, make_sink):
        self.open = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.sink = make_sink(on_message=self._hold)

    def _hold(self, _):
        self.arrived.release()
        self.open.wait(90)

    def wait(self, mail):
        mail.wait(lambda: self.arrived.acquire(blocking=False), 30, what="a delivery that waits at the gate")


@pytest.fixture
def gate(make_sink):
    made = Gate(make_sink)
    yield made
    made.open.set()


def reload(mail, **settings):
    """Reloads, with these settings besides, and waits until new processes serve."""
    count = len(mail.log(r"reload -- version"))
    mail.settings.update(settings)
    mail.write_config()
    mail.reload()
    mail.wait_log(r"reload -- version", count=count + 1)


def reload_at_the_gate(make_mail, make_sink, gate, name="qmgr"):
    """A delivery waits at the gate, and all other mail goes elsewhere since. Returns the instance, that other host, the queue id and who was of that name before."""
    other = make_sink()
    mail = make_mail(relay=gate.sink, settings=FAST)
    slow = submit(mail, "slow@far.test")
    gate.wait(mail)
    old = mail.processes(name)
    reload(mail, relayhost=by_way_of(other))
    return mail, other, slow, old


def pids(mail, name):
    return {p.pid for p in mail.processes(name)}


def by_way_of(sink):
    return f"[{sink.host}]:{sink.port}"


def removed(mail, queue_id):
    return len(mail.log(rf"{queue_id}: removed"))


def assert_clean(mail):
    mail.wait(mail.is_empty, what="an empty queue")
    mail.wait(lambda: len(mail.processes("qmgr")) <= 1, what="the old queue managers end")
    assert not mail.complaints()


def test_delivery_under_way_ends_and_new_mail_goes_by_the_new_settings(make_mail, make_sink, gate):
    mail, other, slow, [old] = reload_at_the_gate(make_mail, make_sink, gate)
    fast = submit(mail, "fast@far.test")
    other.wait_count(1, 30)
    mail.wait_log(rf"{fast}: removed")
    assert old.pid in pids(mail, "qmgr") and not gate.sink.messages
    time.sleep(LONG)
    gate.open.set()
    gate.sink.wait_count(1, 30)
    mail.wait_log(rf"{slow}: removed")
    assert_clean(mail)
    assert len(gate.sink.messages) == len(other.messages) == 1
    assert removed(mail, slow) == removed(mail, fast) == 1
    assert old.pid not in pids(mail, "qmgr")


@pytest.mark.parametrize("size", [100, 300_000], ids=["small", "large"])
def test_two_reloads_in_a_row(make_mail, make_sink, gate, size):
    """A large content is read while it is delivered: its place in the journal must last as long."""
    other = make_sink()
    mail = make_mail(relay=gate.sink, settings=FAST)
    body = b"Subject: x\r\n\r\n" + b"0123456789abcdef" * 4 + b"\r\n"
    body += b"".join(b"%06d 0123456789abcdef0123456789abcdef\r\n" % i for i in range(size // 41))
    slow = submit(mail, "slow@far.test", body=body)
    gate.wait(mail)
    reload(mail, relayhost=by_way_of(other))
    reload(mail)
    submit(mail, "fast1@far.test")
    reload(mail)
    submit(mail, "fast2@far.test")
    other.wait_count(2, 30)
    time.sleep(LONG)
    submit(mail, "fast3@far.test")
    other.wait_count(3, 30)
    assert not gate.sink.messages
    gate.open.set()
    [message] = gate.sink.wait_count(1, 30)
    assert message.content.endswith(body[-1000:])
    mail.wait_log(rf"{slow}: removed")
    assert_clean(mail)
    assert gate.sink.accepted == 1 and other.accepted == 3


def slow_reply(text, seconds):
    """The reply, byte by byte, its end after so long."""
    return drip(text, seconds / len(text))


def test_what_fails_after_the_reload_is_told_or_tried_again(make_mail, make_sink):
    """The process that had it in hand writes the notice, and defers with the reason and the time that are due."""
    sink, other = make_sink(), make_sink()
    mail = make_mail(relay=sink, settings={"minimal_backoff_time": "1000s", "maximal_backoff_time": "2000s"})
    failing = sink.on("rcpt", slow_reply("550 5.1.1 no such user", 8), match=b"never@")
    later = sink.on("rcpt", slow_reply("451 4.2.0 come back", 8), match=b"later@")
    never_id, later_id = submit(mail, "never@far.test"), submit(mail, "later@far.test")
    mail.wait(lambda: failing.hits and later.hits, what="both wait")
    reload(mail, relayhost=by_way_of(other))
    mail.wait_log(rf"{never_id}: to=<never@far.test>.*status=bounced", 30)
    mail.wait_log(rf"{later_id}: to=<later@far.test>.*status=deferred", 30)
    notice = other.wait(lambda m: m.sender == "", 30)
    assert b"no such user" in notice.content
    mail.wait(lambda: [m for m in mail.queue_messages("deferred") if m[1] == later_id], what="a file in deferred")
    mail.wait(lambda: len(mail.processes("qmgr")) == 1, what="the old queue manager ends")
    assert "come back" in mail.command("postqueue", "-p").stdout
    assert len(mail.log(rf"{later_id}: to=.*status=")) == 1
    mail.flush()
    assert other.wait(lambda m: m.recipients == ["later@far.test"], 30)
    assert_clean(mail)
    assert not sink.messages and other.accepted == 2


def test_recipients_that_were_not_begun_go_to_the_successor(make_mail, make_sink, gate):
    """At once, not with its next queue run."""
    other = make_sink()
    mail = make_mail(relay=gate.sink, settings=dict(queue_run_delay="1000s", smtp_destination_concurrency_limit="1", smtp_destination_recipient_limit="2"))
    names = [f"r{i}@far.test" for i in range(5)]
    queue_id = submit(mail, names)
    gate.wait(mail)
    reload(mail, relayhost=by_way_of(other))
    time.sleep(LONG)
    gate.open.set()
    mail.wait_log(rf"{queue_id}: removed", 30)
    assert_clean(mail)
    got = [sorted(r for m in sink.messages for r in m.recipients) for sink in (gate.sink, other)]
    assert sorted(got[0] + got[1]) == names
    assert [len(g) for g in got] == [2, 3] and gate.sink.accepted == 1


def test_stop_after_a_reload_keeps_what_is_under_way(make_mail, make_sink, gate):
    mail, other, slow, _ = reload_at_the_gate(make_mail, make_sink, gate)
    fast = submit(mail, "fast@far.test")
    mail.wait_log(rf"{fast}: removed", 30)
    mail.stop(60)
    assert [m[1] for m in mail.queue_messages()] == [slow]
    assert mail.queue_files("journal")["journal"] in ([], [f"{mail.spool}/journal/ids"])
    mail.start()
    mail.wait_log(rf"{slow}: removed", 30)
    assert other.accepted == 2
    assert_clean(mail)


@pytest.mark.parametrize("name", ["qmgr", "smtp", "cleanup"])
def test_death_of_an_old_process_after_a_reload(make_mail, make_sink, gate, name):
    mail, _, slow, old = reload_at_the_gate(make_mail, make_sink, gate, name)
    fast = submit(mail, "fast@far.test")
    mail.wait_log(rf"{fast}: removed", 30)
    killed = 0
    for process in old:
        try:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            pass  # it had nothing left to do
    if name == "cleanup" or not killed:
        gate.open.set()
    mail.wait_log(rf"{slow}: removed", 30)
    gate.open.set()
    mail.wait(mail.is_empty, what="an empty queue")
    mail.wait(lambda: len(mail.processes("qmgr")) == 1, what="the old queue manager ends")
    assert removed(mail, slow) == 1
    assert not [line for line in mail.complaints() if "killed by signal 9" not in line.text]


def test_new_queue_manager_may_die_while_the_old_one_finishes(make_mail, make_sink, gate):
    mail, other, slow, [old] = reload_at_the_gate(make_mail, make_sink, gate)
    for i in range(3):
        fast = submit(mail, f"fast{i}@far.test")
        mail.wait_log(rf"{fast}: removed", 30)
        for pid in pids(mail, "qmgr") - {old.pid}:
            os.kill(pid, signal.SIGKILL)
    gate.open.set()
    mail.wait_log(rf"{slow}: removed", 30)
    mail.wait(mail.is_empty, what="an empty queue")
    assert gate.sink.accepted == 1 and removed(mail, slow) == 1
    assert other.accepted >= 3


WAITING = """#!/bin/sh
# Begins, waits until it may end, ends.
echo "begin $1 $$" >>@DIR@/log
cat >/dev/null
while [ "$1" = slow ] && ! [ -e @DIR@/go ]; do sleep 0.05; done
echo "end $1 $$" >>@DIR@/log
"""


def lines(place):
    try:
        with open(f"{place.out}/log") as f:
            return [" ".join(line.split()[:2]) for line in f]
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("maxproc", ["-", "1"])
def test_command_under_way_ends(place, make_mail, maxproc):
    """With maxproc 1 the next begins when it has ended: nobody runs two who wants one at a time."""
    script = place.script("waiting", WAITING)
    mail = make_mail(services=[f"waiting unix - n n - {maxproc} pipe flags=R user={user()} argv={script} ${{user}}"],
                     settings=dict(FAST, default_transport="waiting", waiting_destination_recipient_limit="1"))
    slow = submit(mail, "slow@far.test")
    mail.wait(lambda: lines(place) == ["begin slow"], what="the command runs")
    reload(mail)
    fast = submit(mail, "fast@far.test")
    if maxproc == "-":
        mail.wait_log(rf"{fast}: removed", 30)
        assert lines(place) == ["begin slow", "begin fast", "end fast"]
    time.sleep(LONG)
    with open(f"{place.out}/go", "w"):
        pass
    mail.wait_log(rf"{slow}: removed", 30)
    mail.wait_log(rf"{fast}: removed", 30)
    wanted = ["begin slow", "end slow", "begin fast", "end fast"]
    assert lines(place) == wanted if maxproc == "1" else sorted(lines(place)) == sorted(wanted)
    assert_clean(mail)


def test_local_command_under_way_ends(place, make_mail):
    script = place.script("waiting", WAITING)
    mail = make_mail(services=["local unix - n n - - local"],
                     settings=dict(FAST, mydestination="$myhostname", local_recipient_maps="", default_privs=user(),
                                   alias_maps=f"inline:{{ {{ slow = \"|{script} slow\" }}, {{ fast = \"|{script} fast\" }} }}"))
    slow = submit(mail, "slow@mail.test")
    mail.wait(lambda: lines(place) == ["begin slow"], what="the command runs")
    reload(mail)
    fast = submit(mail, "fast@mail.test")
    mail.wait_log(rf"{fast}: removed", 30)
    assert lines(place) == ["begin slow", "begin fast", "end fast"]
    time.sleep(LONG)
    with open(f"{place.out}/go", "w"):
        pass
    mail.wait_log(rf"{slow}: removed", 30)
    assert sorted(lines(place)) == ["begin fast", "begin slow", "end fast", "end slow"]
    assert_clean(mail)


def test_reloads_under_load_refuse_lose_and_repeat_nothing(make_mail, make_sink):
    ledger = Ledger()
    sink = make_sink(keep=False, on_message=ledger.received)
    sink.on("rcpt", reply("550 5.1.1 no such user"), match=NEVER.encode() + b"@")
    mail = make_mail(relay=sink, settings=FAST)
    load = Load(ledger, port=mail.port, sessions=8, largest=200_000).start()
    for _ in range(6):
        time.sleep(1)
        mail.reload()
    time.sleep(1)
    load.stop()
    mail.wait(mail.is_empty, 60, what="an empty queue")
    assert ledger.acked_count > 100
    assert not load.connect_failures and not load.lost_sessions and not load.refusals
    assert not ledger.open and not ledger.duplicates and not ledger.altered
    assert_clean(mail)


def test_session_that_sends_during_a_reload_is_served(make_mail, make_sink):
    """The old cleanup takes a content that is on its way for as long as that takes, and a new one serves all others."""
    sink = make_sink()
    mail = make_mail(relay=sink, settings=dict(FAST, service_drain_time="1s"))
    line = b"x" * 70 + b"\r\n"
    with Client(mail.port) as smtp:
        smtp.ehlo()
        for command in ("MAIL FROM:<a@src.test>", "RCPT TO:<big@far.test>"):
            assert smtp.cmd(command).code == 250
        assert smtp.cmd("DATA").code == 354
        smtp.raw(b"Subject: x\r\n\r\n" + line * 3000)  # more than goes to cleanup in one piece
        reload(mail)
        submit(mail, "small@far.test")
        sink.wait_count(1, 30)
        time.sleep(LONG)
        submit(mail, "small@far.test")
        smtp.raw(line * 3000 + b".\r\n")
        assert smtp.read_reply().code == 250
    sink.wait_count(3, 30)
    [big] = [m for m in sink.messages if m.recipients == ["big@far.test"]]
    assert big.content.count(line) == 6000
    assert_clean(mail)
