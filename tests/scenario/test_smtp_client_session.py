# SPDX-License-Identifier: Apache-2.0
"""What smtp says to one server, and what it makes of the answers."""
import os
import re
import socket
import threading

import pytest

from harness import reply, send
from harness.sink import close, drip, hang, raw, reset

BODY = b"Subject: x\r\n\r\nhi\r\n"
CALM = {"minimal_backoff_time": "100s", "maximal_backoff_time": "100s", "queue_run_delay": "100s"}
SHORT = CALM | {"smtp_helo_timeout": "1s", "smtp_mail_timeout": "1s", "smtp_rcpt_timeout": "1s", "smtp_data_init_timeout": "1s",
                "smtp_data_done_timeout": "1s", "smtp_data_xfer_timeout": "1s", "smtp_rset_timeout": "1s",
                "smtp_connect_timeout": "1s", "smtp_quit_timeout": "1s", "smtp_starttls_timeout": "2s"}


def submit(mail, to="x@far.test", sender="a@src.test", body=BODY, **more):
    recipients = [to] if isinstance(to, str) else to
    answer = send(sender, recipients, body, port=mail.port, **more)
    assert answer.code == 250, answer
    return str(answer).split("queued as ")[1].split("'")[0].strip("])")


def result(mail, queue_id, to=r"[^>]*"):
    """The log line with the result of a recipient."""
    return mail.wait_log(rf"{queue_id}: to=<{to}>,.* status=")[0].text


def commands(sink):
    return [line.split(b" ")[0].upper() if isinstance(line, bytes) else line.split(" ")[0].upper() for _, line in sink.transcript]


def test_sent_line_has_relay_delays_and_reply(mail, sink):
    line = result(mail, submit(mail))
    assert re.search(rf"to=<x@far.test>, relay=127.0.0.1\[127.0.0.1\]:{sink.port}, delay=[0-9.]+, delays=[0-9.]+/[0-9.]+/[0-9.]+/[0-9.]+, "
                     r"dsn=2.0.0, status=sent \(250 2.0.0 ok 1.1\)$", line)


def test_content_arrives_byte_for_byte(mail, sink):
    body = b"Subject: dots\r\n\r\n.\x20\r\n..\r\n.one\r\n\r\n" + bytes(range(128, 256)) + b"\r\n" + b"x" * 900 + b"\r\n"
    submit(mail, body=body)
    assert sink.wait_count(1)[0].body == body.partition(b"\r\n\r\n")[2]


def test_large_content_arrives_whole(mail, sink):
    body = b"Subject: large\r\n\r\n" + b".0123456789abcdef" * 4 + b"\r\n"
    body += (b"." + b"y" * 70 + b"\r\n") * 40_000
    submit(mail, body=body)
    assert sink.wait_count(1, 30)[0].body == body.partition(b"\r\n\r\n")[2]


def test_long_lines_are_folded(mail, sink):
    submit(mail, body=b"Subject: long\r\n\r\n" + b"z" * 2500 + b"\r\nend\r\n")
    got = sink.wait_count(1)[0].body
    assert max(len(line) for line in got.split(b"\r\n")) <= 998
    assert got.replace(b"\r\n ", b"") == b"z" * 2500 + b"\r\nend\r\n"


def test_without_pipelining_commands_wait_for_answers(mail, sink):
    sink.pipelining = False
    sink.on("rcpt", reply("550 5.1.1 no"), match=b"bad")
    queue_id = submit(mail, ["bad@far.test", "good@far.test"])
    assert sink.wait(lambda m: m.sender).recipients == ["good@far.test"]
    assert "status=bounced" in result(mail, queue_id, "bad@far.test")
    assert "status=sent" in result(mail, queue_id, "good@far.test")


@pytest.mark.parametrize("pipelining", [True, False])
def test_all_recipients_refused_leaves_the_session_usable(mail, sink, pipelining):
    sink.pipelining = pipelining
    sink.on("rcpt", reply("550 5.1.1 no"), match=b"bad")
    queue_id = submit(mail, ["bad1@far.test", "bad2@far.test"])
    line = result(mail, queue_id, "bad2@far.test")
    assert "dsn=5.1.1, status=bounced (host 127.0.0.1[127.0.0.1] said: 550 5.1.1 no (in reply to RCPT TO command))" in line
    sink.wait(lambda m: m.sender == "")
    assert sink.sessions == 1


def test_many_recipients_in_one_transaction(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtp_destination_recipient_limit": "2000", "default_destination_recipient_limit": "2000"})
    recipients = [f"user{i}@far.test" for i in range(900)]
    submit(mail, recipients)
    assert sorted(sum((m.recipients for m in sink.wait_count(1, 30)), [])) == sorted(recipients)


def test_kept_connection_is_used_again(mail, sink):
    submit(mail)
    sink.wait_count(1)
    second = submit(mail)
    assert re.search(rf"relay=127.0.0.1\[127.0.0.1\]:{sink.port}, conn_use=2, delay=", result(mail, second))
    assert sink.sessions == 1
    mail.wait(lambda: "QUIT" in commands(sink), 6, "goodbye to an idle connection")


def test_connection_that_went_stale_is_replaced_silently(mail, sink):
    submit(mail)
    sink.wait_count(1)
    sink.on("mail", close(), times=1)
    line = result(mail, submit(mail))
    assert "status=sent" in line and "conn_use" not in line
    assert not mail.log("lost connection with")


def test_goodbye_421_to_a_kept_connection_is_no_failure(mail, sink):
    submit(mail)
    sink.wait_count(1)
    sink.on("mail", close("421 4.4.2 timeout"), times=1)
    assert "status=sent" in result(mail, submit(mail))


@pytest.mark.parametrize("stage, answer, dsn, status, text", [
    ("connect", "554 5.3.2 go away", "4.3.2", "deferred", r"host %s refused to talk to me: 554 5.3.2 go away"),
    ("connect", "450 later", "4.0.0", "deferred", r"host %s refused to talk to me: 450 later"),
    ("mail", "550 5.7.1 no", "5.7.1", "bounced", r"host %s said: 550 5.7.1 no (in reply to MAIL FROM command)"),
    ("mail", "451 4.7.1 wait", "4.7.1", "deferred", r"host %s said: 451 4.7.1 wait (in reply to MAIL FROM command)"),
    ("rcpt", "450 4.2.0 grey", "4.2.0", "deferred", r"host %s said: 450 4.2.0 grey (in reply to RCPT TO command)"),
    ("rcpt", "552 5.2.2 many", "4.2.2", "deferred", r"host %s said: 552 5.2.2 many (in reply to RCPT TO command)"),
    ("data", "554 no", "5.0.0", "bounced", r"host %s said: 554 no (in reply to DATA command)"),
    ("data", "250 what", "4.5.0", "deferred", r"host %s said: 250 what (in reply to DATA command)"),
    ("dot", "554 5.7.1 one\n554 5.7.1 two", "5.7.1", "bounced", r"host %s said: 554-5.7.1 one 554 5.7.1 two (in reply to end of DATA command)"),
    ("dot", "452 4.3.1 full", "4.3.1", "deferred", r"host %s said: 452 4.3.1 full (in reply to end of DATA command)"),
])
def test_refusals_are_told_apart_by_code_and_stage(make_mail, sink, stage, answer, dsn, status, text):
    sink.on(stage, reply(answer), times=1)
    mail = make_mail(relay=sink, settings=CALM)
    line = result(mail, submit(mail))
    assert f"dsn={dsn}, status={status} ({text % '127.0.0.1[127.0.0.1]'})" in line


@pytest.mark.parametrize("stage, doing", [
    ("connect", "receiving the initial server greeting"), ("ehlo", "performing the EHLO handshake"), ("mail", "sending MAIL FROM"),
    ("rcpt", "sending RCPT TO"), ("data", "sending DATA command"),
    ("dot", "sending end of data -- message may be sent more than once"),
])
@pytest.mark.parametrize("action, text", [(hang(), "conversation with %s timed out while %s"), (close(), "lost connection with %s while %s")])
def test_silence_and_hanging_up_defer(make_mail, sink, stage, doing, action, text):
    sink.on(stage, action, times=1)
    mail = make_mail(relay=sink, settings=SHORT)
    line = result(mail, submit(mail))
    assert f"dsn=4.4.2, status=deferred ({text % ('127.0.0.1[127.0.0.1]', doing)})" in line


def test_reset_in_the_content_defers(make_mail, sink):
    sink.on("body", reset(), after=100_000)
    mail = make_mail(relay=sink, settings=SHORT)
    queue_id = submit(mail, body=b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 100_000)
    assert "lost connection with 127.0.0.1[127.0.0.1] while sending message body" in result(mail, queue_id)


def test_server_that_stops_reading_times_out(make_mail):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = threading.Event()

        def serve():
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as f:
                for line in [b"220 x\r\n"] + [b"250 x\r\n"] * 3 + [b"354 go\r\n"]:
                    f.write(line)
                    f.flush()
                    if line[:3] != b"354":
                        f.readline()
                done.wait(30)
        threading.Thread(target=serve, daemon=True).start()
        mail = make_mail(relay=f"127.0.0.1:{port}", settings=SHORT)
        queue_id = submit(mail, body=b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 100_000)
        line = result(mail, queue_id)
        done.set()
    assert "status=deferred (conversation with 127.0.0.1[127.0.0.1] timed out while sending message body)" in line


NONSENSE = {"words": b"hello there\r\n", "nothing": b"\r\n", "nul": b"250\0x\r\n", "code": b"999 x\r\n", "mixed": b"250-a\r\nb\r\n",
            "8bit": b"25\xff ok\r\n", "short": b"2\r\n", "two digits": b"25 ok\r\n", "blank": b" 250 ok\r\n", "sign": b"+25 ok\r\n", "letter": b"2x0 ok\r\n", "endless reply": b"550-x\r\n" * 20_000, "endless line": b"y" * 300_000}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_a_temporary_failure_on_one_line(make_mail, sink, kind):
    sink.on("rcpt", raw(NONSENSE[kind]), times=1)
    mail = make_mail(relay=sink, settings=SHORT)
    line = result(mail, submit(mail))
    assert "status=deferred" in line and len(line) < 2500
    assert not mail.complaints()
    assert not re.search(r"[\x00-\x1f\x7f]", line)


def test_hostile_reply_becomes_one_printable_line_of_bounded_length(mail, sink):
    sink.on("rcpt", raw(b"553-evil\x01\x1b[2J\x00Q\nbare\r\n553-" + b"A" * 5000 + b"\r\n553-\r\n553\r\n"), times=1)
    line = result(mail, submit(mail))
    assert len(line) < 2500 and not re.search(r"[\x00-\x1f\x7f]", line)
    assert not mail.complaints()


def test_server_that_drips_is_served(mail, sink):
    sink.on("mail", drip("250 2.1.0 slowly", 0.02), times=1)
    assert "status=sent" in result(mail, submit(mail))


def test_helo_where_ehlo_is_unknown(mail, sink):
    sink.on("ehlo", reply("502 5.5.1 what"))
    assert "status=sent" in result(mail, submit(mail))
    assert sink.messages[0].mail_parameters == ""


def test_message_over_the_servers_size_is_not_sent(make_mail, sink):
    sink.size = 1000
    mail = make_mail(relay=sink, settings=CALM)
    line = result(mail, submit(mail, body=BODY + b"z" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 40))
    assert re.search(r"dsn=5.3.4, status=bounced \(message size \d+ exceeds size limit 1000 of server 127.0.0.1\[127.0.0.1\]\)", line)


def test_refused_connection_is_logged_and_defers(make_mail, make_sink):
    sink = make_sink()
    sink.stop()
    mail = make_mail(relay=sink, settings=CALM)
    line = result(mail, submit(mail))
    text = rf"connect to 127.0.0.1\[127.0.0.1\]:{sink.port}: Connection refused"
    assert re.search(rf"relay=none, delay=.*, dsn=4.4.1, status=deferred \({text}\)", line)
    assert mail.log(rf"^{text}")


def test_soft_bounce_keeps_mail(make_mail, sink):
    sink.on("rcpt", reply("550 5.1.1 no"))
    mail = make_mail(relay=sink, settings=CALM | {"soft_bounce": "yes"})
    assert "dsn=4.1.1, status=deferred" in result(mail, submit(mail))


# TLS

def test_opportunistic_tls(make_mail, sink):
    sink.starttls = True
    mail = make_mail(relay=sink, settings={"smtp_tls_security_level": "may", "smtp_tls_loglevel": "1"})
    submit(mail)
    assert sink.wait_count(1)[0].tls
    mail.wait_log(rf"Untrusted TLS connection established to 127.0.0.1\[127.0.0.1\]:{sink.port}: TLSv1.3 with cipher ")


def test_opportunistic_tls_falls_back_to_clear_text(make_mail, sink):
    sink.starttls = True
    sink.on("starttls", raw(b"220 go\r\nnonsense nonsense\r\n"))
    mail = make_mail(relay=sink, settings=SHORT | {"smtp_tls_security_level": "may"})
    assert "status=sent" in result(mail, submit(mail))
    assert not sink.messages[0].tls


@pytest.mark.parametrize("offer", [False, True])
def test_mandatory_tls_never_falls_back(make_mail, sink, offer):
    sink.starttls = offer
    sink.on("starttls", reply("454 4.7.0 not now"))
    mail = make_mail(relay=sink, settings=SHORT | {"smtp_tls_security_level": "encrypt"})
    line = result(mail, submit(mail))
    want = "TLS is required, but host 127.0.0.1[127.0.0.1] refused to start TLS: 454 4.7.0 not now" if offer else \
        "TLS is required, but was not offered by host 127.0.0.1[127.0.0.1]"
    assert f"status=deferred ({want})" in line
    assert not sink.messages


def test_what_was_said_before_tls_does_not_count(make_mail, sink):
    sink.starttls, sink.size = True, 100
    sink.on("starttls", raw(b"220 go\r\n250-evil.test\r\n250 SIZE 1\r\n"))  # an answer slipped in (RFC 3207 section 6)
    mail = make_mail(relay=sink, settings=SHORT | {"smtp_tls_security_level": "encrypt"})
    assert "status=deferred" in result(mail, submit(mail))  # this sink goes on in clear text
    assert not sink.messages


def test_tls_with_verification_refuses_a_self_signed_certificate(make_mail, sink):
    sink.starttls = True
    mail = make_mail(relay=sink, settings=SHORT | {"smtp_tls_security_level": "verify"})
    assert "dsn=4.7.5, status=deferred (Server certificate not verified)" in result(mail, submit(mail))
    assert not sink.messages


# LMTP

@pytest.fixture
def lmtp_sink(make_sink):
    sink = make_sink()
    sink.lmtp = True
    return sink


def test_lmtp_has_a_verdict_for_each_recipient(make_mail, lmtp_sink):
    mail = make_mail(relay=lmtp_sink, settings=CALM | {"default_transport": "lmtp"})
    lmtp_sink.on("rcpt", reply("550 5.1.1 no"), match=b"bad")
    queue_id = submit(mail, ["one@far.test", "bad@far.test", "two@far.test"])
    for name in "one", "two":
        assert "status=sent (250 " in result(mail, queue_id, name + "@far.test")
    assert "status=bounced" in result(mail, queue_id, "bad@far.test")
    assert mail.log(r"postfix/lmtp|to=<one") and lmtp_sink.messages[0].recipients == ["one@far.test", "two@far.test"]


class LmtpServer(threading.Thread):
    """Over a Unix socket; its answers to the content differ from recipient to recipient."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(5)
        self.start()

    def run(self):
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rwb") as f:
            f.write(b"220 lmtp.test\r\n")
            f.flush()
            verdicts = []
            for line in f:
                verb = line[:4].upper()
                if verb == b"RCPT":
                    verdicts.append(b"452 4.2.2 full\r\n" if b"full@" in line else b"250 2.1.5 stored\r\n")
                if verb == b"DATA":
                    f.write(b"354 go\r\n")
                    f.flush()
                    while f.readline() != b".\r\n":
                        pass
                    f.write(b"".join(verdicts))
                elif verb == b"LHLO":
                    f.write(b"250-lmtp.test\r\n250 PIPELINING\r\n")
                else:
                    f.write(b"250 2.0.0 ok\r\n")
                f.flush()


def test_lmtp_over_a_unix_socket(make_mail):
    mail = make_mail(start=False, settings=CALM | {"default_transport": "lmtp:unix:private/store"}, services=["lmtp unix - - n - - lmtp"])
    path = f"{mail.base}/store"
    LmtpServer(path)
    os.chmod(path, 0o666)
    mail.settings["default_transport"] = f"lmtp:unix:{path}"
    mail.write_config()
    mail.start()
    queue_id = submit(mail, ["a@far.test", "full@far.test"])
    assert f"relay=mail.test[{path}], delay=" in result(mail, queue_id, "a@far.test")
    assert "status=sent (250 2.1.5 stored)" in result(mail, queue_id, "a@far.test")
    assert "dsn=4.2.2, status=deferred (host mail.test[" in result(mail, queue_id, "full@far.test")


# error, retry, discard

@pytest.mark.parametrize("transport, want", [
    ("error:5.7.9 no thanks", "relay=none, delay=.*, dsn=5.7.9, status=bounced \\(no thanks\\)"),
    ("error:nothing here", "dsn=5.0.0, status=bounced \\(nothing here\\)"),
    ("retry:4.3.9 not now", "dsn=4.3.9, status=deferred \\(not now\\)"),
    ("discard:silently", "dsn=2.0.0, status=sent \\(silently\\)"),
])
def test_transports_that_do_not_deliver(make_mail, sink, transport, want):
    mail = make_mail(settings=CALM | {"default_transport": transport, "bounce_notice_recipient": "x", "smtpd_reject_unlisted_recipient": "no"})
    assert re.search(want, result(mail, submit(mail, sender="")))
