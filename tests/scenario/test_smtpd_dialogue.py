# SPDX-License-Identifier: Apache-2.0
"""What smtpd says on the wire and in the log. HARNESS_TARGET=postfix shows that Postfix does the same."""
import hashlib
import re
import socket
import ssl
import time

import pytest

from harness import Client, Closed, send
from harness.instance import free_port
from harness.sink import certificate

CLIENT = r"(unknown|localhost)\[127\.0\.0\.1\]"
STRANGER = {"mynetworks": "[::1]/128", "relay_domains": "ours.test"}


def converse(mail, *commands, **options):
    """Says the commands, and returns the texts of the replies, "250 2.1.0 Ok"."""
    with Client(mail.port, **options) as smtp:
        return [f"{reply.code} {reply.text}" for reply in map(smtp.cmd, commands)]


def test_replies_read_as_scripts_expect_them(mail):
    said = converse(mail, "HELO c.test", "NOOP", "MAIL FROM:<a@src.test>", "MAIL FROM:<a@src.test>", "RCPT TO:<b@far.test>",
                    "BOGUS", "RSET", "RCPT TO:<b@far.test>", "DATA", "MAIL FROM:a b", "MAIL", "RSET now",
                    "MAIL FROM:<a@src.test> SIZE=99999999999", "QUIT")
    assert said == [
        "250 mail.test", "250 2.0.0 Ok", "250 2.1.0 Ok", "503 5.5.1 Error: nested MAIL command", "250 2.1.5 Ok",
        "502 5.5.2 Error: command not recognized", "250 2.0.0 Ok", "503 5.5.1 Error: need MAIL command",
        "503 5.5.1 Error: need RCPT command", said[9], "501 5.5.4 Syntax: MAIL FROM:<address>", "501 5.5.4 Syntax: RSET",
        "552 5.3.4 Message size exceeds fixed limit", "221 2.0.0 Bye"]


def test_log_lines_have_the_form_that_log_readers_know(make_mail, sink):
    mail = make_mail(relay=sink, settings=STRANGER)
    with Client(mail.port) as smtp:
        smtp.ehlo("helo.test")
        smtp.cmd("MAIL FROM:<a@src.test>")
        refused = smtp.cmd("RCPT TO:<b@far.test>")
        assert smtp.cmd("RCPT TO:<b@ours.test>").code == 250
        assert smtp.cmd("DATA").code == 354
        smtp.raw(b"Subject: x\r\n\r\nx\r\n.\r\n")
        queued = re.fullmatch(r"2\.0\.0 Ok: queued as ([0-9A-F]{6,})", smtp.read_reply().text)
        smtp.quit()
    assert f"{refused.code} {refused.text}" == "454 4.7.1 <b@far.test>: Relay access denied"
    mail.wait_log(rf"connect from {CLIENT}$")
    mail.wait_log(rf"NOQUEUE: reject: RCPT from {CLIENT}: 454 4\.7\.1 <b@far\.test>: Relay access denied; "
                  r"from=<a@src\.test> to=<b@far\.test> proto=ESMTP helo=<helo\.test>$")
    mail.wait_log(rf"{queued[1]}: client={CLIENT}$")
    mail.wait_log(rf"disconnect from {CLIENT} ehlo=1 mail=1 rcpt=1/2 data=1 quit=1 commands=5/6$")


@pytest.mark.parametrize("said, line", [
    ([b""], r"lost connection after CONNECT from "),
    ([b"EHLO c.test\r\n"], r"lost connection after EHLO from "),
    ([b"EHLO c.test\r\n", b"MAIL FROM:<a@src.test>\r\n", b"RCPT TO:<b@far.test>\r\n", b"DATA\r\n"],
     r"lost connection after DATA \(0 bytes\) from "),
    ([b"FOO\r\n"], r"lost connection after UNKNOWN from "),
])
def test_a_connection_that_breaks_is_logged_with_what_came_last(mail, said, line):
    with Client(mail.port) as smtp:
        for text in said:
            smtp.raw(text)
            if text:
                smtp.read_reply()
    mail.wait_log(line)


def test_a_silent_client_gets_421(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_timeout": "1s"})
    with Client(mail.port) as smtp:
        smtp.ehlo()
        reply = smtp.read_reply()
        assert f"{reply.code} {reply.text}" == "421 4.4.2 mail.test Error: timeout exceeded"
        with pytest.raises(Closed):
            smtp.read_reply()
    mail.wait_log(rf"timeout after EHLO from {CLIENT}$")


def test_too_many_errors_end_the_session(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_hard_error_limit": "3"})
    with Client(mail.port) as smtp:
        for _ in range(3):
            assert smtp.cmd("BOGUS").code == 502
        reply = smtp.read_reply()
        assert f"{reply.code} {reply.text}" == "421 4.7.0 mail.test Error: too many errors"
    mail.wait_log(rf"too many errors after UNKNOWN from {CLIENT}$")


def test_errors_slow_the_client_down(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_soft_error_limit": "2", "smtpd_error_sleep_time": "1s"})
    with Client(mail.port) as smtp:
        begun = time.monotonic()
        smtp.cmd("BOGUS")
        assert time.monotonic() - begun < 0.8
        smtp.cmd("BOGUS")
        assert time.monotonic() - begun >= 0.9


def test_every_remote_byte_stays_on_its_own_log_line(make_mail, sink):
    mail = make_mail(relay=sink, settings=STRANGER)
    with Client(mail.port) as smtp:
        smtp.cmd(b"HELO a\x1b[2J%n%s\x00\xff\xc3\xa4\rconnect from evil[1.2.3.4]")
        smtp.cmd("MAIL FROM:<a@src.test>")
        smtp.cmd(b"RCPT TO:<\"x\x7f\x0by\"@far.test>")
        smtp.cmd("RCPT TO:<b@far.test>")
    mail.wait_log(r"NOQUEUE: reject: RCPT from")
    with open(mail.log_file, "rb") as f:
        text = f.read()
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", text)
    assert all(re.match(rb"[A-Z][a-z]{2} [ 0-9]\d ", line) for line in text.split(b"\n") if line)


SMUGGLING = [b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
             b"\r\n.\r\r\n", b"\r\r\n.\r\r\n"]
EVIL = b"MAIL FROM:<evil@src.test>\r\nRCPT TO:<victim@far.test>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n.\r\n"


def tls_settings():
    cert, key = certificate()
    return {"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key, "smtpd_tls_loglevel": "1",
            "smtpd_tls_received_header": "yes"}


@pytest.mark.parametrize("tls", [False, True])
def test_no_end_of_line_trick_makes_two_messages_of_one(make_mail, sink, tls):
    """T01: all twelve sequences, and what arrives at the next host."""
    mail = make_mail(relay=sink, settings={**tls_settings(), "mynetworks": "127.0.0.0/8"})
    for sequence in SMUGGLING:
        with Client(mail.port) as smtp:
            smtp.ehlo()
            if tls:
                assert smtp.starttls().code == 220
                smtp.ehlo()
            smtp.cmd("MAIL FROM:<good@src.test>")
            smtp.cmd("RCPT TO:<b@far.test>")
            assert smtp.cmd("DATA").code == 354
            smtp.raw(b"Subject: x\r\n\r\nx" + sequence + EVIL)
            assert smtp.read_reply().code == 250
            assert smtp.cmd("NOOP").code == 250
    sink.wait_count(len(SMUGGLING))
    time.sleep(0.3)
    assert len(sink.messages) == len(SMUGGLING)
    for message in sink.messages:
        assert (message.sender, message.recipients) == ("good@src.test", ["b@far.test"])
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", message.content)
        assert b"evil" in message.content


def test_starttls(make_mail, sink):
    mail = make_mail(relay=sink, settings=tls_settings())
    with Client(mail.port) as smtp:
        smtp.ehlo()
        assert "STARTTLS" in smtp.features
        assert smtp.cmd("MAIL FROM:<a@src.test>").code == 250
        assert smtp.cmd("RSET").code == 250
        reply = smtp.starttls()
        assert f"{reply.code} {reply.text}" == "220 2.0.0 Ready to start TLS"
        smtp.ehlo()
        assert "STARTTLS" not in smtp.features
        assert smtp.cmd("STARTTLS").code // 100 == 5
        assert smtp.send("a@src.test", ["b@far.test"], b"Subject: x\r\n\r\nx\r\n").code == 250
        smtp.quit()
    mail.wait_log(rf"Anonymous TLS connection established from {CLIENT}: TLSv1\.\d with cipher \S+ \(\d+/\d+ bits\)")
    mail.wait_log(rf"disconnect from {CLIENT} ehlo=2 starttls=1(/2)? mail=2 rcpt=1 data=1 rset=1 quit=1 commands=")
    message = sink.wait(lambda m: m)
    assert re.search(rb"^Received: from client\.test \(\S+ \[127\.0\.0\.1\]\)\r\n\t\(using TLSv1\.\d with cipher \S+ \(\d+/\d+ bits\)"
                     rb"(\r\n\t [^\r]+)?\)\r\n\t\(No client certificate requested\)\r\n\tby mail\.test \(Postfix\) with ESMTPS id [0-9A-F]+\r\n"
                     rb"\tfor <b@far\.test>; ", message.content)


@pytest.mark.parametrize("injected", [b"RSET\r\n", b"MAIL FROM:<evil@src.test>\r\nRCPT TO:<b@far.test>\r\n", b"NOO"])
def test_what_is_pipelined_behind_starttls_is_thrown_away(make_mail, sink, injected):
    """T03."""
    mail = make_mail(relay=sink, settings=tls_settings())
    with Client(mail.port) as smtp:
        smtp.ehlo()
        smtp.raw(b"STARTTLS\r\n" + injected)
        reply = smtp.read_reply()
        if reply.code != 220:  # refused for it
            return
        try:
            smtp.handshake()
        except (ssl.SSLError, OSError):
            return
        assert smtp.cmd("RCPT TO:<b@far.test>").code == 503
        smtp.ehlo()
        assert smtp.cmd("NOOP").text == "2.0.0 Ok"
        assert not smtp.buffer
        smtp.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            smtp.read_reply()


def test_cleartext_after_tls_is_not_read_as_smtp(make_mail, sink):
    """T05."""
    mail = make_mail(relay=sink, settings=tls_settings())
    with Client(mail.port) as smtp:
        smtp.ehlo()
        smtp.starttls()
        smtp.ehlo()
        smtp.cmd("MAIL FROM:<a@src.test>")
        smtp.cmd("RCPT TO:<b@far.test>")
        smtp.raw(b"BDAT 100\r\nabc")
        raw = smtp.sock.unwrap() if hasattr(smtp.sock, "unwrap") else smtp.sock
        try:
            raw.sendall(b"BDAT 3 LAST\r\nabcNOOP\r\n")
            raw.settimeout(2)
            rest = raw.recv(1000)
        except (OSError, ssl.SSLError):
            rest = b""
        assert b"250 " not in rest
    assert send("a@src.test", ["b@far.test"], b"Subject: next\r\n\r\n", port=mail.port).code == 250
    sink.wait(lambda m: b"next" in m.content)
    assert len(sink.messages) == 1
    assert not mail.complaints()


def test_tls_can_be_a_must(make_mail, sink):
    mail = make_mail(relay=sink, settings={**tls_settings(), "smtpd_tls_security_level": "encrypt"})
    with Client(mail.port) as smtp:
        smtp.ehlo()
        assert smtp.cmd("NOOP").code == 250
        reply = smtp.cmd("MAIL FROM:<a@src.test>")
        assert f"{reply.code} {reply.text}" == "530 5.7.0 Must issue a STARTTLS command first"
        assert smtp.starttls().code == 220
        smtp.ehlo()
        assert smtp.send("a@src.test", ["b@far.test"], b"Subject: x\r\n\r\n").code == 250


def test_a_broken_handshake_ends_only_its_session(make_mail, sink):
    mail = make_mail(relay=sink, settings=tls_settings())
    with Client(mail.port) as smtp:
        smtp.ehlo()
        assert smtp.cmd("STARTTLS").code == 220
        smtp.raw(b"EHLO this is no handshake\r\n" * 10)
        with pytest.raises((Closed, AssertionError)):
            while True:
                smtp.read_reply()
    mail.wait_log(r"SSL_accept error from ")
    mail.wait_log(r"lost connection after STARTTLS from ")
    assert send("a@src.test", ["b@far.test"], b"Subject: x\r\n\r\n", port=mail.port).code == 250


RELAYED = ["a@far.test", "a%far.test@ours.test", "far.test!a@ours.test", "a@far.test@ours.test", '"a@far.test"@ours.test',
           '"a%far.test"@ours.test', "@ours.test:a@far.test", "a@[192.0.2.1]", "a%far.test", "far.test!a", '"a@far.test"',
           "a%far.test@mail.test", "a%far.test@[127.0.0.1]", "a@[127.0.0.1]@far.test"]


@pytest.mark.parametrize("recipient", RELAYED)
def test_strangers_cannot_relay_whatever_the_address_is_written_like(make_mail, sink, recipient):
    mail = make_mail(relay=sink, settings={**STRANGER, "mydestination": "mail.test", "local_recipient_maps": "",
                                           "smtpd_relay_restrictions": "permit_mynetworks reject_unauth_destination"})
    with Client(mail.port) as smtp:
        smtp.ehlo()
        smtp.cmd("MAIL FROM:<a@src.test>")
        assert smtp.cmd(f"RCPT TO:<{recipient}>").code // 100 == 5
        assert smtp.cmd("RCPT TO:<b@ours.test>").code == 250


def test_an_unknown_restriction_permits_nothing(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_recipient_restrictions": "no_such_restriction, permit"})
    with Client(mail.port) as smtp:
        smtp.ehlo()
        smtp.cmd("MAIL FROM:<a@src.test>")
        reply = smtp.cmd("RCPT TO:<b@far.test>")
        assert f"{reply.code} {reply.text}" == "451 4.3.5 Server configuration error"
    mail.wait_log(r'warning: unknown smtpd restriction: "no_such_restriction"')


def test_without_relay_control_it_does_not_serve(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_relay_restrictions": "permit_mynetworks", "smtpd_recipient_restrictions": ""},
                     start=False)
    mail.start(wait=False)
    with socket.create_connection(("127.0.0.1", mail.port), 10) as s:
        mail.wait_log(r"fatal: in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one")
        s.settimeout(1)
        try:
            assert not s.recv(100)
        except (TimeoutError, ConnectionError):
            pass


def test_large_messages_pass_whole(make_mail, sink):
    mail = make_mail(relay=sink, settings={"message_size_limit": "20000000"})
    line = b".x" * 38 + b"\r\n"
    content = b"Subject: large\r\n\r\n" + line * 128000
    for size in (1, 60_000, 65_000, 66_000, 70_000, len(content)):
        cut = content[:size].rpartition(b"\r\n")[0] + b"\r\n"
        assert send("a@src.test", [f"b{size}@far.test"], cut, port=mail.port, timeout=60).code == 250
        message = sink.wait(lambda m, size=size: m.recipients == [f"b{size}@far.test"])
        got = message.content.partition(b"(UTC)\r\n")[2] or message.content.partition(b"+0000\r\n")[2]
        assert got.endswith(cut) and hashlib.sha256(got[-len(cut):]).digest() == hashlib.sha256(cut).digest()
    assert not mail.complaints()


def test_a_message_that_is_too_large_is_refused_and_forgotten(make_mail, sink):
    mail = make_mail(relay=sink, settings={"message_size_limit": "100000"})
    with Client(mail.port) as smtp:
        smtp.ehlo()
        assert smtp.features["SIZE"] == "100000"
        smtp.cmd("MAIL FROM:<a@src.test>")
        smtp.cmd("RCPT TO:<b@far.test>")
        assert smtp.cmd("DATA").code == 354
        smtp.raw(b"x\r\n" * 100000 + b".\r\n")
        reply = smtp.read_reply()
        assert f"{reply.code} {reply.text}" == "552 5.3.4 Error: message file too big"
        assert smtp.send("a@src.test", ["b@far.test"], b"Subject: small\r\n\r\n").code == 250
    sink.wait(lambda m: b"small" in m.content)
    assert len(sink.messages) == 1


def test_too_many_connections_from_one_client(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_client_connection_count_limit": "2", "smtpd_client_event_limit_exceptions": ""})
    kept = []
    try:
        def greeting():
            kept.append(Client(mail.port))
            return kept[-1].greeting
        mail.wait(lambda: not mail.processes("smtpd") or True)
        time.sleep(0.5)  # the probe that waited for the port has gone
        assert greeting().code == 220
        assert greeting().code == 220
        reply = greeting()
        assert f"{reply.code} {reply.text}" == "421 4.7.0 mail.test Error: too many connections from 127.0.0.1"
        mail.wait_log(rf"warning: Connection concurrency limit exceeded: 3 from {CLIENT} for service ")
    finally:
        for client in kept:
            client.close()


def test_the_loopback_address_has_its_name_without_dns(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_peername_lookup": "yes"})
    with Client(mail.port) as smtp:
        smtp.ehlo()
    mail.wait_log(r"disconnect from localhost\S*\[127\.0\.0\.1\] ehlo=1 commands=1$")


def test_stop_ends_sessions_that_wait_for_their_client(make_mail, sink):
    """At once, and politely: not when the time for what is under way is over."""
    mail = make_mail(relay=sink, settings={"service_drain_time": "300s"})
    with Client(mail.port) as idle, Client(mail.port) as begun:
        idle.ehlo()
        begun.ehlo()
        assert begun.cmd("MAIL FROM:<a@src.test>").code == 250
        mail.stop(seconds=60)
        for session in (idle, begun):
            assert session.read_reply().code == 421
            with pytest.raises(Closed):
                session.read_reply()
    assert not mail.complaints()


def test_reload_drops_no_session(make_mail, sink):
    mail = make_mail(relay=sink, settings={"service_drain_time": "1s"})
    with Client(mail.port) as idle, Client(mail.port) as sending:
        idle.ehlo()
        sending.ehlo()
        for command in ("MAIL FROM:<a@src.test>", "RCPT TO:<b@far.test>"):
            assert sending.cmd(command).code == 250
        assert sending.cmd("DATA").code == 354
        [old] = mail.processes("smtpd")
        mail.reload()
        mail.wait(lambda: send("c@src.test", ["d@far.test"], b"Subject: y\r\n\r\ny\r\n", port=mail.port).code == 250 and
                  [p for p in mail.processes("smtpd") if p.pid != old.pid], what="a new process serves new clients")
        sending.raw(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert sending.read_reply().code == 250
        assert idle.send("e@src.test", ["f@far.test"], b"Subject: z\r\n\r\nz\r\n").code == 250
    sink.wait_count(3)


V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 25\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x02\xc6\x33\x64\x02\x0f\xa0\0\x19"  # 192.0.2.2


def test_a_proxy_says_whose_a_connection_is(make_mail, sink):
    port = free_port()
    mail = make_mail(relay=sink, settings={"smtpd_upstream_proxy_timeout": "2s", "mynetworks": "192.0.2.2"},
                     services=[f"127.0.0.1:{port} inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy"])
    for header, client, code in ((V1, "192.0.2.1", 554), (V2, "192.0.2.2", 250)):
        with socket.create_connection(("127.0.0.1", port), 30) as s:
            f = s.makefile("rb")
            s.sendall(header)
            assert f.readline().startswith(b"220 ")
            for command in ("HELO c.test", "MAIL FROM:<a@src.test>", "RCPT TO:<b@far.test>"):
                s.sendall(command.encode() + b"\r\n")
                answer = f.readline()
            assert int(answer[:3]) in (code, code - 100 if code == 554 else code), answer
        mail.wait_log(rf"connect from unknown\[{client}\]")
    for count, start in enumerate((b"EHLO c.test\r\n", b"PROXY TCP4 192.0.2.1 198.51.100.2 4000\r\n", b"PROXY TCP4 192.0.2.1", V2[:-1], b"\x16\x03\x01\x02", b""), 1):
        with socket.create_connection(("127.0.0.1", port), 30) as s:
            s.sendall(start)
            try:
                assert not s.recv(100)
            except ConnectionResetError:
                pass
        mail.wait_log(r"warning: haproxy read: ", count=count)
