# SPDX-License-Identifier: Apache-2.0
"""Settings that change one small thing each. HARNESS_TARGET=postfix shows that Postfix does the same, as far as it has them."""
import re
import ssl

import pytest

from harness import Client, Dns, send
from harness.sink import certificate

CLIENT = r"(unknown|localhost)\[127\.0\.0\.1\]"
MESSAGE = b"Subject: x\r\n\r\nhi\r\n"


def ours(target):
    if target != "postern":
        pytest.skip("Debian's Postfix is too old for this setting")


def test_a_footer_follows_each_refusal_and_stays_out_of_the_log(make_mail, sink):
    mail = make_mail(relay=sink, settings={
        "smtpd_reject_footer": r"\c. Ask $client_address $$5 ${client_port?with} $server_name\nor wait",
        "smtpd_reject_footer_maps": r"regexp:{ {/^504 5\.5\.2 <h>: Helo command rejected: need fully-qualified hostname$$/ other} }",
        "smtpd_recipient_restrictions": "check_recipient_access inline:{b@far.test=reject}, permit",
        "smtpd_relay_restrictions": "permit_mynetworks, reject", "smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname"})
    with Client(mail.port) as smtp:
        smtp.ehlo("h.test")
        assert smtp.cmd("MAIL FROM:<a@src.test>").text == "2.1.0 Ok"
        refused = smtp.cmd("RCPT TO:<b@far.test>")
        assert refused.code == 554 and refused.lines == [
            "5.7.1 <b@far.test>: Recipient address rejected: Access denied. Ask 127.0.0.1 $5 with mail.test", "5.7.1 or wait"]
        smtp.cmd("RSET")
        smtp.ehlo("h")
        smtp.cmd("MAIL FROM:<a@src.test>")
        refused = smtp.cmd("RCPT TO:<c@far.test>")
        assert refused.lines == ["5.5.2 <h>: Helo command rejected: need fully-qualified hostname", "5.5.2 other"]
    mail.wait_log(r"reject: RCPT from .* Recipient address rejected: Access denied; from=")


def test_the_footer_of_a_table_that_fails_is_left_out(make_mail, sink, target):
    ours(target)  # Postfix closes the session
    mail = make_mail(relay=sink, settings={"smtpd_reject_footer_maps": "texthash:/no/such/file"})
    with Client(mail.port) as smtp:
        assert smtp.cmd("BOGUS").text == "5.5.2 Error: command not recognized"


def test_what_permits_is_logged_where_it_is_asked_for(make_mail, sink):
    table = "inline:{ {b@ours.test=OK} }"
    mail = make_mail(relay=sink, settings={
        "smtpd_log_access_permit_actions": "!permit_inet_interfaces, static:all", "relay_domains": "ours.test",
        "smtpd_client_restrictions": "permit_inet_interfaces", "smtpd_sender_restrictions": "permit_mynetworks",
        "smtpd_recipient_restrictions": f"check_recipient_access {table}, permit", "smtpd_relay_restrictions": "permit_auth_destination, reject",
        "smtpd_data_restrictions": "permit"})
    assert send("a@src.test", ["b@ours.test"], MESSAGE, port=mail.port).code == 250
    rcpt = rf"NOQUEUE: permit: RCPT from {CLIENT}: action="
    mail.wait_log(rcpt + rf"permit_mynetworks for Client host={CLIENT} ; from=<a@src\.test> to=<b@ours\.test> proto=ESMTP helo=<")
    mail.wait_log(rcpt + r"permit_auth_destination for Recipient address=b@ours\.test ; from=")
    mail.wait_log(rcpt + rf"OK for Recipient address=b@ours\.test from {re.escape(table)}; from=")
    mail.wait_log(rf"permit: DATA from {CLIENT}: action=permit for Data command=DATA ; from=<a@src\.test>")
    assert not mail.log("permit_inet_interfaces")


def test_keywords_can_be_withheld_from_single_clients(make_mail, sink):
    mail = make_mail(relay=sink, settings={
        "smtpd_discard_ehlo_keyword_address_maps": "inline:{ {127.0.0.1 = dsn, ChunKing} }", "smtpd_discard_ehlo_keywords": "etrn"})
    with Client(mail.port) as smtp:
        lines = smtp.ehlo("h.test").lines
    assert "ETRN" in lines and "DSN" not in lines and "CHUNKING" not in lines
    mail.wait_log(r"discarding EHLO keywords: DSN CHUNKING$")


def test_withholding_can_be_silent(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_discard_ehlo_keywords": "etrn, silent-discard"})
    with Client(mail.port) as smtp:
        assert "ETRN" not in smtp.ehlo("h.test").lines
    mail.wait_log(r"disconnect from .* ehlo=1")
    assert not mail.log("discarding")


def test_the_client_can_be_kept_out_of_received(make_mail, sink, target):
    ours(target)
    mail = make_mail(relay=sink, settings={"smtpd_hide_client_session": "yes"})
    assert send("a@src.test", ["b@far.test"], MESSAGE, port=mail.port).code == 250
    content = sink.wait(lambda m: m.sender == "a@src.test").content.decode()
    assert re.match(r"Received: by mail\.test \([^)]*\) id [0-9A-F]+\r\n\tfor <b@far\.test>; [^\r]*\r\nSubject: x\r\n", content)


@pytest.mark.parametrize("action, replies", [
    ("defer_if_permit", [554, 450]), ("defer", [450, 450])])
def test_a_look_up_that_fails_defers_at_once_or_if_nobody_refuses(make_mail, sink, target, action, replies):
    with Dns({"void.test": []}, port=53 if target == "postfix" else 0) as dns:
        dns.modes["void.test"] = "servfail"
        mail = make_mail(relay=sink, dns=dns, settings={
            "reject_tempfail_action": action, "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_sender_restrictions": "reject_unknown_sender_domain",
            "smtpd_recipient_restrictions": "check_recipient_access inline:{no@far.test=reject}, permit"})
        with Client(mail.port) as smtp:
            smtp.ehlo("h.test")
            smtp.cmd("MAIL FROM:<a@void.test>")
            assert [smtp.cmd(f"RCPT TO:<{who}@far.test>").code for who in ("no", "yes")] == replies


def test_only_certain_characters_of_others_reach_a_reply(make_mail, sink, target):
    listed = {"1.0.0.127.list.test": [("A", "127.0.0.2"), ("TXT", "spam; from~{here}")]}
    with Dns(listed, port=53 if target == "postfix" else 0) as dns:
        mail = make_mail(relay=sink, dns=dns, settings={
            "smtpd_client_restrictions": "reject_rbl_client list.test", "smtpd_expansion_filter": r"\163pam\40from.0127lit",
            "default_rbl_reply": "554 5.7.1 $client_address listed by $rbl_domain; $rbl_reason"})
        with Client(mail.port) as smtp:
            smtp.ehlo("h.test")
            smtp.cmd("MAIL FROM:<a@src.test>")
            assert smtp.cmd("RCPT TO:<b@far.test>").text == "5.7.1 127.0.0.1 listed by list.t_st; spam_ from____r__"


@pytest.mark.parametrize("settings, resumed", [
    ({}, True), ({"smtpd_tls_session_cache_timeout": "0"}, False), ({"tls_session_ticket_cipher": ""}, False)])
def test_tls_sessions_are_resumed_unless_that_is_switched_off(make_mail, sink, settings, resumed):
    cert, key = certificate("mail.test")
    mail = make_mail(relay=sink, start=False, settings={
        "smtpd_tls_security_level": "may", "smtpd_tls_cert_file": f"$config_directory/cert.pem",
        "smtpd_tls_key_file": f"$config_directory/key.pem", **settings})
    for name, path in (("cert.pem", cert), ("key.pem", key)):
        with open(path, "rb") as source, open(f"{mail.etc}/{name}", "wb") as to:
            to.write(source.read())
    mail.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    session, seen = None, []
    for _ in range(2):
        with Client(mail.port) as smtp:
            smtp.ehlo("h.test")
            assert smtp.cmd("STARTTLS").code == 220
            smtp.sock = context.wrap_socket(smtp.sock, session=session)
            seen.append(smtp.sock.session_reused)
            session = smtp.sock.session if smtp.sock.session.has_ticket else None
            smtp.ehlo("h.test")
            smtp.quit()
    assert seen == [False, resumed]
