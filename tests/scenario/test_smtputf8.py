# SPDX-License-Identifier: Apache-2.0
"""SMTPUTF8 (RFC 6531): what smtpd takes, what leaves, and names in the DNS; beside Debian's Postfix.

What differs, and why:
* an address that is no UTF-8 is refused whatever smtputf8_enable says; Postfix takes it if that is off;
* mail that asked for SMTPUTF8, and whose addresses need it, is not sent to a server without it; Postfix looks at the header alone;
* with smtputf8_enable = no, the parameter SMTPUTF8 is complained of before the address."""
import itertools

import pytest

from harness import Client, Dns, Instance, Sink, unavailable

needs_postfix = pytest.mark.skipif(bool(unavailable("postfix")), reason=unavailable("postfix") or "-")
SENDERS = ["<a@x.test>", "<a@x.test> SMTPUTF8", "<ä@x.test>", "<ä@x.test> SMTPUTF8", "<a@ä.test>", "<a@ä.test> SMTPUTF8 BODY=8BITMIME", "<> SMTPUTF8", "<a@x.test> SMTPUTF8=x",
           b"<\xff@x.test> SMTPUTF8"]
RECIPIENTS = ["b@y.test", "bé@y.test", "b@é.test", "b@xn--9ca.test", "пользователь@y.test"]
HEADERS = [b"Subject: x\r\n", "Subject: \u00fc\r\n".encode(), b"Subject: \xfc\r\n"]


def line(verb, rest):
    return verb.encode() + (rest if isinstance(rest, bytes) else rest.encode())


def talk(target, settings, extra):
    """What each step of the sessions is answered, and what a server with these features gets."""
    said = []
    with Sink() as sink:
        sink.extra = extra
        own = {"smtpd_reject_unlisted_recipient": "no", "smtpd_client_restrictions": "", "smtpd_hard_error_limit": "1000", "smtpd_junk_command_limit": "1000",
               "smtpd_relay_restrictions": "permit_mynetworks, reject", "maximal_backoff_time": "1h", "minimal_backoff_time": "1h", "queue_run_delay": "1h"}
        with Instance(target=target, relay=sink, settings=own | settings) as mail:
            with Client(port=mail.port) as client:
                said.append("SMTPUTF8" in client.ehlo().text)
                for verify in ("VRFY <é@y.test>", "VRFY <é@y.test> SMTPUTF8", "VRFY <b@y.test> SMTPUTF8"):
                    said.append((verify, client.cmd(verify).code))
                for number, sender in enumerate(SENDERS):
                    answers = [client.cmd(line("MAIL FROM:", sender))]
                    if answers[0].code == 250:
                        answers += [client.cmd(f"RCPT TO:<{address}>") for address in RECIPIENTS]
                        client.cmd("DATA")
                        content = b"X-N: %d\r\n" % number + HEADERS[number % 3] + b"\r\nx\r\n"
                        assert client.cmd(content + b".").code == 250
                    said.append((sender, [(a.code, a.enhanced) for a in answers]))
                    client.cmd("RSET")
            count = sum(code == 250 for _, answers in said[4:] for code, _ in answers[1:])
            mail.wait_log(r"to=<[^>]*@(?:y|é|xn--9ca)\.test>.*status=", count=count, seconds=60)
            with open(mail.log_file, encoding="utf-8", errors="replace") as f:
                log = f.read()
    asked = sorted({(text.split(">")[0], " SMTPUTF8" in text) for _, text in sink.transcript if text.startswith("MAIL") and "<>" not in text})
    return said, sorted((m.header("X-N"), m.sender, r) for m in sink.messages if m.header("X-N") for r in m.recipients), asked, log


@needs_postfix
@pytest.mark.parametrize("settings", [{}, {"strict_smtputf8": "yes"}, {"smtputf8_enable": "no"}])
def test_addresses_in_utf8_are_taken_and_passed_on_as_by_postfix(settings):
    ours, peer = (talk(target, settings, ["SMTPUTF8"]) for target in ("postern", "postfix"))
    if "smtputf8_enable" in settings:
        for said in (ours[0], peer[0]):
            said[:] = [answer for answer in said if "SMTPUTF8" not in str(answer)]
    differences = [f"{one} != {two}" for a, b in zip(ours[:3], peer[:3]) for one, two in itertools.zip_longest(a, b) if one != two]
    assert not differences, "\n".join(differences)


def test_mail_that_needs_smtputf8_is_not_sent_without(sink):
    _, arrived, asked, log = talk("postern", {}, [])
    assert {number for number, _, _ in arrived} == {"0", "2"} and not any(utf8 for _, utf8 in asked)
    assert "dsn=5.6.7, status=bounced (SMTPUTF8 is required, but was not offered by host 127.0.0.1[127.0.0.1])" in log


def test_the_old_default_is_named_in_the_log(make_mail, sink):
    mail = make_mail(relay=sink, start=False, settings={"compatibility_level": "0", "smtpd_recipient_restrictions": "permit_mynetworks, reject",
                                                        "mynetworks_style": "host", "mynetworks": "127.0.0.0/8"})
    mail.start()
    with Client(port=mail.port) as client:
        assert "SMTPUTF8" not in client.ehlo().text
        assert client.cmd("MAIL FROM:<\u00e4@x.test>").code == 250
        assert client.cmd("RCPT TO:<\u00e9@y.test>").code == 250
    for kind, address in (("sender", "\u00e4@x.test"), ("recipient", "\u00e9@y.test")):
        mail.wait_log(rf'using backwards-compatible default setting smtputf8_enable=no to accept non-ASCII {kind} address "{address}" from ')


def test_a_domain_in_utf8_is_looked_up_in_its_ascii_form(make_mail, make_sink):
    sink = make_sink(host="127.0.0.2")
    with Dns({"xn--bcher-kva.test": [("MX", 10, "mx.far.test")], "mx.far.test": [("A", sink.host)]}) as dns:
        mail = make_mail(dns=dns, settings={"smtp_tcp_port": str(sink.port), "smtpd_sender_restrictions": "reject_unknown_sender_domain"})
        sink.extra = ["SMTPUTF8"]
        with Client(port=mail.port) as client:
            client.ehlo()
            assert client.cmd("MAIL FROM:<a@b\u00fccher.test> SMTPUTF8").code == 250
            assert client.cmd("RCPT TO:<\u00e9@b\u00fccher.test>").code == 250
            client.cmd("DATA")
            assert client.cmd(b"Subject: x\r\n\r\nx\r\n.").code == 250
            client.cmd("MAIL FROM:<a@b\u00f6se.test> SMTPUTF8")
            assert client.cmd("RCPT TO:<\u00e9@b\u00fccher.test>").code == 450
        got = sink.wait(lambda m: True)
        assert got.recipients == ["\u00e9@b\u00fccher.test"] and b" with UTF8SMTP id " in got.content


@pytest.mark.parametrize("classes,wanted", [("sendmail, verify", True), ("", False)])
def test_the_need_of_smtputf8_is_found_in_mail_of_sendmail(classes, wanted, make_mail, sink):
    sink.extra = ["SMTPUTF8"]
    mail = make_mail(relay=sink, settings={"smtputf8_autodetect_classes": classes})
    mail.command("sendmail", "b@y.test", stdin="Subject: \u00fc\n\nx\n".encode())
    sink.wait_count(1)
    assert any(" SMTPUTF8" in text for _, text in sink.transcript if text.startswith("MAIL")) == wanted
