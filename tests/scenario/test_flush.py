# SPDX-License-Identifier: Apache-2.0
"""Mail of one site, or one message, tried at once: ETRN, postqueue -s and -i, sendmail -qR and -qI; and Debian's Postfix beside it."""
import os
import re
import subprocess

import pytest

from harness import Client, Instance, reply, send, unavailable

LINE = "flush unix n - - 1000? 0 flush"  # as it stands in every old installation
SETTINGS = {"relay_domains": "far.test, other.test, [127.0.0.9]", "minimal_backoff_time": "1h", "maximal_backoff_time": "2h", "queue_run_delay": "1h"}
BODY = b"Subject: x\r\n\r\nhi\r\n"


def submit(mail, *to):
    answer = send("a@src.test", list(to), BODY, port=mail.port)
    assert answer.code == 250, answer
    return re.search(r"queued as (\w+)", str(answer)).group(1)


def say(client, line):
    answer = client.cmd(line)
    return f"{answer.code} {'/'.join(answer.lines)}"


def lists(mail):
    """{name: set of ids} of the lists."""
    found = {}
    for name in os.listdir(f"{mail.spool}/flush") if os.path.isdir(f"{mail.spool}/flush") else []:
        with open(f"{mail.spool}/flush/{name}") as f:
            found[name] = set(f.read().split())
    return found


def deferred(mail):
    return {m[1] for m in mail.queue_messages("deferred")}


@pytest.fixture
def waiting(make_mail, sink):
    """An instance that has deferred four messages, whose host takes them from now on."""
    sink.on("rcpt", reply("451 4.2.0 later"))
    mail = make_mail(relay=sink, settings=SETTINGS, services=[LINE])
    mail.far, mail.other = submit(mail, "x@far.test"), submit(mail, "x@other.test")
    mail.both, mail.nobody = submit(mail, "x@Far.Test", "y@other.test"), submit(mail, "x@strange.test")
    ids = {mail.far, mail.other, mail.both, mail.nobody}
    mail.wait(lambda: deferred(mail) == ids, what="four deferred messages")
    mail.wait(lambda: lists(mail) == {"far_test": {mail.far, mail.both}, "other_test": {mail.other, mail.both}}, what="their lists")
    sink.clear()
    return mail


def arrived(mail, *ids):
    mail.wait(lambda: not deferred(mail) & set(ids), what="deferred mail leaves")
    for queue_id in ids:
        mail.wait_log(f"{queue_id}: removed")


def test_etrn_tries_what_waits_for_the_site(waiting, sink):
    with Client(waiting.port) as c:
        assert "ETRN" in c.ehlo().lines
        assert say(c, "ETRN far.test") == say(c, "ETRN @FAR.test") == "250 Queuing started"
    arrived(waiting, waiting.far, waiting.both)
    assert deferred(waiting) == {waiting.other, waiting.nobody}
    assert lists(waiting)["far_test"] == set()
    assert sorted(r for m in sink.messages for r in m.recipients) == ["x@Far.Test", "x@far.test", "y@other.test"]
    assert not waiting.complaints()


def test_commands_try_a_site_and_a_message(waiting):
    waiting.command("postqueue", "-s", "other.test")
    arrived(waiting, waiting.other, waiting.both)
    waiting.command("postqueue", "-i", waiting.nobody)
    arrived(waiting, waiting.nobody)
    assert deferred(waiting) == {waiting.far}
    sendmail(waiting, f"-qI{waiting.far}")
    arrived(waiting, waiting.far)
    assert not waiting.complaints()


def test_sendmail_tries_a_site(waiting):
    sendmail(waiting, "-qRfar.test")
    arrived(waiting, waiting.far, waiting.both)
    assert deferred(waiting) == {waiting.other, waiting.nobody}


def test_a_dead_destination_is_tried(make_mail, make_sink):
    """Nobody listened; qmgr holds the destination for dead, and tries it all the same when asked to."""
    gone = make_sink()
    gone.stop()
    mail = make_mail(relay=gone, settings=SETTINGS, services=[LINE])
    queue_id = submit(mail, "x@far.test")
    mail.wait(lambda: lists(mail) == {"far_test": {queue_id}} and deferred(mail) == {queue_id}, what="deferred")
    sink = make_sink(port=gone.port)
    mail.command("postqueue", "-s", "far.test")
    sink.wait_count(1)


def test_lists_that_nobody_asks_for_are_gone_through(waiting):
    waiting.settings.update({"fast_flush_refresh_time": "0", "fast_flush_purge_time": "0"})
    waiting.write_config()
    waiting.reload()
    waiting.command("postkick", "public", "flush", "W")
    arrived(waiting, waiting.far, waiting.other, waiting.both)
    waiting.command("postkick", "public", "flush", "W")
    waiting.wait(lambda: lists(waiting) == {}, what="no lists")
    assert deferred(waiting) == {waiting.nobody}


def test_a_site_is_asked_for_again_after_it_was_deferred_again(waiting, sink):
    sink.on("rcpt", reply("451 4.2.0 later still"), times=1)
    waiting.command("postqueue", "-i", waiting.far)
    waiting.wait_log(f"{waiting.far}.*later still")
    waiting.wait(lambda: waiting.far in deferred(waiting), what="deferred again")
    waiting.command("postqueue", "-s", "far.test")
    arrived(waiting, waiting.far, waiting.both)


def test_without_the_service_nothing_is_tried(make_mail, sink):
    mail = make_mail(start=False, relay=sink, settings=SETTINGS)
    mail.write_config()
    with open(f"{mail.etc}/master.cf") as f:
        lines = [line for line in f if not line.startswith("flush ")]
    with open(f"{mail.etc}/master.cf", "w") as f:
        f.writelines(lines)
    sink.on("rcpt", reply("451 4.2.0 later"))
    mail.start()
    queue_id = submit(mail, "x@far.test")
    mail.wait(lambda: deferred(mail) == {queue_id}, what="deferred")
    with Client(mail.port) as c:
        c.ehlo()
        assert say(c, "ETRN far.test") == "458 <far.test>: unable to queue messages"
    done = mail.command("postqueue", "-s", "far.test", check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (69, "postqueue: fatal: Cannot flush mail queue - mail system is down")


def test_triggers_that_are_none_do_no_harm(waiting):
    for text in ("S", "S\n", "I../incoming/x\n", "I" + "A" * 5000 + "\n", "Sfar.test", "X", "S" + "a" * 300 + ".test\n"):
        waiting.command("postkick", "public", "flush", text)
    waiting.command("postqueue", "-s", "far.test")
    arrived(waiting, waiting.far, waiting.both)
    assert deferred(waiting) == {waiting.other, waiting.nobody}
    assert not waiting.complaints()


# ---- who may

def sendmail(mail, *args):
    program = mail.inside(mail.programs["sendmail"])
    argv = ["chroot", mail.root, program] if mail.root else [program]
    done = subprocess.run([*argv, "-C", mail.inside(mail.etc), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.returncode, done.stdout


def test_policy_services_learn_the_domain(make_mail, sink):
    import socket
    import threading
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = []

        def serve():
            with listener.accept()[0] as s:
                s.settimeout(20)
                asked.append(s.recv(65536).decode())
                s.sendall(b"action=REJECT not you\n\n")
                s.recv(1)
        threading.Thread(target=serve, daemon=True).start()
        mail = make_mail(relay=sink, services=[LINE],
                         settings={**SETTINGS, "smtpd_etrn_restrictions": f"check_policy_service inet:127.0.0.1:{listener.getsockname()[1]}"})
        with Client(mail.port) as c:
            c.ehlo()
            assert say(c, "ETRN far.test") == "554 5.7.1 <far.test>: Etrn command rejected: not you"
    assert "protocol_state=ETRN\n" in asked[0] and "etrn_domain=far.test\n" in asked[0]


# ---- beside Debian's Postfix

COMMANDS = ["ETRN", "ETRN far.test", "ETRN @far.test", "ETRN #far.test", "ETRN @@far.test", "ETRN FAR.test", "ETRN sub.far.test", "ETRN nowhere.test", "ETRN [127.0.0.9]", "ETRN [1.2.3]",
            "ETRN 1.2.3.4", "ETRN foo_bar.test", "ETRN far.test x", "ETRN <far.test>", "ETRN deny.test", "ETRN tmp.test", "ETRN x.sub.test", "ETRN -a.test", "ETRN a..b", "ETRN far.test.",
            'ETRN "far.test"', "ETRN x@far.test", "ETRN far", "MAIL FROM:<a@b.test>", "ETRN far.test", "RSET", "ETRN far.test"]
TOOLS = [("postqueue", "-s", site) for site in ("far.test", "nowhere.test", "", "bad name", "[1.2]", "1.2.3.4", "-x.test", "@far.test", "[127.0.0.9]")] + [
    ("postqueue", "-i", queue_id) for queue_id in ("../x", "ABC", "AB/C", "")] + [
    ("sendmail", option) for option in ("-qRfar.test", "-qRnowhere.test", "-qR", "-qI", "-qIno/pe", "-qIABCDEF")]


def observe(target, sink):
    seen = {}
    settings = {**SETTINGS, "smtpd_etrn_restrictions": "check_etrn_access inline:{{deny.test=REJECT},{tmp.test=DEFER later},{sub.test=REJECT sub}}"}
    mail = Instance(target=target, relay=sink, settings=settings, services=["flush unix n - n 1000? 0 flush"])
    try:
        mail.start()
        with Client(mail.port) as c:
            c.ehlo()
            for line in COMMANDS:
                seen[line, len(seen)] = say(c, line)
        for name, *args in TOOLS:
            done = mail.command(name, *args, check=False) if name == "postqueue" else None
            code, text = (done.returncode, done.stdout) if done else sendmail(mail, *args)
            seen[name, *args] = code, text.strip()
        ids = {"one": submit(mail, "x@far.test"), "two": submit(mail, "x@sub.far.test", "y@other.test", "z@OTHER.test")}
        mail.wait(lambda: deferred(mail) == set(ids.values()), what="deferred")
        mail.wait(lambda: len(lists(mail)) == 3, what="lists")
        seen["lists"] = {name: {k for k, v in ids.items() if v in found} for name, found in lists(mail).items()}
        mail.stop()
        seen["down"] = [(done.returncode, done.stdout.splitlines()) for done in
                        (mail.command("postqueue", *args, check=False) for args in (("-s", "far.test"), ("-i", "ABCDEF"), ("-s", "nowhere.test")))]
    finally:
        mail.close()
    return seen


@pytest.mark.skipif(bool(unavailable("postfix")), reason=unavailable("postfix") or "-")
def test_answers_are_those_of_postfix(target, sink):
    sink.on("rcpt", reply("451 4.2.0 later"))
    ours, theirs = observe("postern", sink), observe("postfix", sink)
    # The dispatcher gives every misplaced command an enhanced code.
    assert ours["ETRN far.test", 24] == "503 5.5.1 Error: MAIL transaction in progress"
    theirs["ETRN far.test", 24] = "503 5.5.1 Error: MAIL transaction in progress"
    differing = {k: (v, theirs[k]) for k, v in ours.items() if v != theirs[k]}
    assert not differing, "".join(f"{k}:\n  ours   {a}\n  theirs {b}\n" for k, (a, b) in differing.items())
