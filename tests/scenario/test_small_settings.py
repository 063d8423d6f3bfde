# SPDX-License-Identifier: Apache-2.0
"""Settings that change one small thing each. HARNESS_TARGET=postfix shows that Postfix does the same, as far as it has them."""
import re
import ssl

import pytest

from harness import Client, Dns, reply, send
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


# Logs

@pytest.mark.parametrize("digits, form", [(0, r"\d+/\d+/\d+/\d+"), (6, r".*\d\.\d\d\d+.*")])
def test_delays_have_as_many_digits_as_asked_for(make_mail, sink, digits, form):
    mail = make_mail(relay=sink, settings={"delay_logging_resolution_limit": digits})
    assert send("a@src.test", ["b@far.test"], MESSAGE, port=mail.port).code == 250
    mail.wait_log(rf"to=<b@far\.test>, .*, delays={form}, dsn=2\.0\.0, status=sent")


@pytest.mark.parametrize("form, address", [("external", r'"a b"@src\.test'), ("internal", r"a b@src\.test")])
def test_addresses_are_logged_with_or_without_quotes(make_mail, sink, form, address):
    mail = make_mail(relay=sink, settings={"info_log_address_format": form, "smtpd_recipient_restrictions": "check_recipient_access inline:{no@far.test=reject}"})
    with Client(mail.port) as smtp:
        smtp.ehlo("h.test")
        smtp.cmd('MAIL FROM:<"a b"@src.test>')
        smtp.cmd("RCPT TO:<no@far.test>")
    assert send('"a b"@src.test', ['"a b"@src.test'], MESSAGE, port=mail.port).code == 250
    mail.wait_log(rf"reject: RCPT .* from=<{address}> to=<no@far\.test>")
    mail.wait_log(rf"[0-9A-F]+: from=<{address}>, size=")
    mail.wait_log(rf"to=<{address}>, relay=.*status=sent")


# Headers and notices

NAMES = {"Joe User": ("Joe User <joe@src.test>", "joe@src.test (Joe User)"),
         "Joe (x) User": ('"Joe (x) User" <joe@src.test>', "joe@src.test (Joe (x) User)"),
         "a%b": ('"a%b" <joe@src.test>', "joe@src.test (a%b)"), "O'Neil": ("O'Neil <joe@src.test>", "joe@src.test (O'Neil)")}


@pytest.mark.parametrize("form", ["standard", "obsolete"])
def test_names_stand_before_the_address_or_behind_it(make_mail, sink, target, form):
    ours(target)  # the harness gives Postfix's sendmail no -F; its lines were compared by hand
    mail = make_mail(relay=sink, settings={"header_from_format": form, "mydestination": "", "myorigin": "src.test"})
    for name, wanted in NAMES.items():
        assert mail.command("sendmail", "-F", name, "-f", "joe@src.test", "b@far.test", stdin=b"Subject: x\n\nhi\n").returncode == 0
    messages = sink.wait_count(len(NAMES))
    found = {line for m in messages for line in m.content.decode().split("\r\n") if line.startswith("From: ")}
    assert found == {f"From: {wanted[form == 'obsolete']}" for wanted in NAMES.values()}
    sink.on("rcpt", reply("550 5.1.1 no"), match=b"no@")
    assert send("a@src.test", ["no@far.test"], MESSAGE, port=mail.port).code == 250
    notice = sink.wait(lambda m: m.sender == "").content.decode()
    assert {"standard": "\r\nFrom: Mail Delivery System <MAILER-DAEMON@src.test>\r\n",
            "obsolete": "\r\nFrom: MAILER-DAEMON@src.test (Mail Delivery System)\r\n"}[form] in notice


@pytest.mark.parametrize("value", ["yes", "no"])
def test_a_notice_points_to_the_message_where_that_is_wanted(make_mail, sink, target, value):
    fold = b"\r\n" if target == "postern" else b""  # Postfix finds it on the first line alone
    sink.on("rcpt", reply("550 5.1.1 no"), match=b"no@")
    mail = make_mail(relay=sink, settings={"enable_threaded_bounces": value})
    content = b"Subject: x\r\nIn-Reply-To: <old@src.test>\r\nMessage-ID:" + fold + b" <orig@src.test>\r\n\r\nMessage-ID: <no@no>\r\n"
    assert send("a@src.test", ["no@far.test"], content, port=mail.port).code == 250
    header = sink.wait(lambda m: m.sender == "").content.decode().partition("\r\n\r\n")[0]
    assert ("\r\nReferences: <orig@src.test>\r\nIn-Reply-To: <orig@src.test>\r\n" in header) == (value == "yes")
    assert ("References" in header) == (value == "yes")


@pytest.mark.parametrize("value", ["yes", "no"])
def test_the_end_of_a_delay_is_told_where_that_is_wanted(make_mail, sink, value):
    sink.on("rcpt", reply("450 4.1.1 later"), match=b"late")
    mail = make_mail(relay=sink, settings={"confirm_delay_cleared": value, "delay_warning_time": "1s", "queue_run_delay": "1s", "minimal_backoff_time": "1s",
                                           "maximal_backoff_time": "1s"})
    with Client(mail.port) as smtp:
        smtp.ehlo("h.test")
        smtp.cmd("MAIL FROM:<a@src.test>")
        assert smtp.cmd("RCPT TO:<late@far.test>").code == 250
        assert smtp.cmd("RCPT TO:<late2@far.test> NOTIFY=FAILURE").code == 250
        assert smtp.cmd("DATA").code == 354
        smtp.raw(MESSAGE + b".\r\n")
        assert smtp.read_reply().code == 250
    mail.wait_log(r"sender delay notification")
    sink.clear()
    mail.wait_log(r"to=<late@far.test>.*status=sent", seconds=30)
    mail.wait_log(r"to=<late2@far.test>.*status=sent", seconds=30)
    if value == "yes":
        mail.wait_log(r"sender delivery status notification")
        notice = sink.wait(lambda m: b"\r\nSubject: Successful Mail Delivery Report" in m.content).content.decode()
        assert "Final-Recipient: rfc822; late@far.test" in notice and "Action: relayed" in notice and "late2" not in notice
    else:
        mail.wait_log(r"removed", count=2)
        assert not mail.log("sender delivery status notification")


# The SMTP client

@pytest.mark.parametrize("features, told", [(["DSN"], 0), ([], 1)])
def test_a_server_that_tells_of_success_is_asked_to_and_we_do_not(make_mail, sink, features, told):
    sink.extra = features
    mail = make_mail(relay=sink)
    with Client(mail.port) as smtp:
        smtp.ehlo("h.test")
        smtp.cmd("MAIL FROM:<a@src.test>")
        assert smtp.cmd("RCPT TO:<b@far.test> NOTIFY=SUCCESS").code == 250
        assert smtp.cmd("DATA").code == 354
        smtp.raw(MESSAGE + b".\r\n")
        queue_id = smtp.read_reply().text.split()[-1]
    mail.wait_log(rf"{queue_id}: removed")
    assert len(mail.log(rf"{queue_id}: sender delivery status notification")) == told


@pytest.mark.parametrize("value, action", [("no", "relayed"), ("yes", "delivered")])
def test_lmtp_servers_can_be_taken_for_the_last(make_mail, sink, value, action):
    sink.lmtp = True
    mail = make_mail(relay=sink, settings={"default_transport": f"lmtp:inet:{sink.host}:{sink.port}", "relayhost": "", "lmtp_assume_final": value})
    with Client(mail.port) as smtp:
        smtp.ehlo("h.test")
        smtp.cmd("MAIL FROM:<a@src.test>")
        assert smtp.cmd("RCPT TO:<b@far.test> NOTIFY=SUCCESS").code == 250
        assert smtp.cmd("DATA").code == 354
        smtp.raw(MESSAGE + b".\r\n")
        assert smtp.read_reply().code == 250
    assert f"\r\nAction: {action}\r\n" in sink.wait(lambda m: m.sender == "").content.decode()


def test_features_of_single_servers_can_be_left_unused(make_mail, sink):
    sink.size = 100_000
    mail = make_mail(relay=sink, settings={"smtp_discard_ehlo_keywords": "8bitmime",
                                           "smtp_discard_ehlo_keyword_address_maps": "inline:{ {127.0.0.1=size, pipelining} }"})
    assert send("a@src.test", ["b@far.test"], b"Subject: x\r\n\r\nh\xc3\xa9\r\n", port=mail.port).code == 250
    sink.wait_count(1)
    said = [line for _, line in sink.transcript if line.startswith("MAIL")]
    assert said in (["MAIL FROM:<a@src.test>"], ["MAIL FROM:<a@src.test> BODY=8BITMIME"])


@pytest.mark.parametrize("banner, verb", [("220 mx.test ready", "HELO"), ("220 mx.test ESMTP ready", "EHLO")])
def test_ehlo_can_be_kept_for_those_whose_greeting_names_it(make_mail, sink, banner, verb):
    sink.on("connect", reply(banner))
    mail = make_mail(relay=sink, settings={"smtp_always_send_ehlo": "no"})
    assert send("a@src.test", ["b@far.test"], MESSAGE, port=mail.port).code == 250
    sink.wait_count(1)
    assert [line.split()[0] for _, line in sink.transcript][0] == verb


def server_with(make_mail, sink, name, **settings):
    """A second mail system in front of the sink, whose certificate has that name."""
    server = make_mail(relay=sink, start=False, name="server", settings={
        "myhostname": "server.test", "smtpd_tls_security_level": "may", "smtpd_tls_received_header": "yes",
        "smtpd_tls_chain_files": "$config_directory/chain.pem", **settings})
    chain(server, name)
    return server.start()


def chain(mail, *names):
    with open(f"{mail.etc}/chain.pem", "wb") as out:
        for name in names:
            for path in reversed(certificate(name)):
                with open(path, "rb") as part:
                    out.write(part.read())


def test_the_client_shows_the_certificate_of_its_chain_file(make_mail, sink):
    server = server_with(make_mail, sink, "server.test", smtpd_tls_ask_ccert="yes")
    mail = make_mail(relay=f"127.0.0.1:{server.port}", start=False, settings={
        "smtp_tls_security_level": "encrypt", "smtp_tls_chain_files": "$config_directory/chain.pem", "smtp_tls_cert_file": "/no/such/file"})
    chain(mail, "client.test")
    mail.start()
    assert send("a@src.test", ["b@far.test"], MESSAGE, port=mail.port).code == 250
    assert '(Client CN "client.test", Issuer "client.test" (not verified))' in sink.wait_count(1)[0].content.decode()


@pytest.mark.parametrize("value, result", [("yes", "sent"), ("no", "deferred")])
def test_a_wildcard_may_stand_for_several_labels(make_mail, sink, target, value, result):
    ours(target)  # 3.7.11 refuses what its manual allows
    server = server_with(make_mail, sink, "*.wild.test")
    mail = make_mail(relay=f"127.0.0.1:{server.port}", start=False, settings={
        "smtp_tls_security_level": "secure", "smtp_tls_secure_cert_match": "a.b.wild.test", "smtp_tls_CAfile": "$config_directory/chain.pem",
        "tls_wildcard_matches_multiple_labels": value})
    chain(mail, "*.wild.test")
    mail.start()
    assert send("a@src.test", ["b@far.test"], MESSAGE, port=mail.port).code == 250
    mail.wait_log(rf"to=<b@far\.test>.*status={result}")


@pytest.mark.parametrize("value, result", [("yes", "deferred"), ("no", "sent")])
def test_enforced_tls_means_a_verified_name_unless_that_is_switched_off(make_mail, sink, value, result):
    sink.starttls = True
    mail = make_mail(relay=sink, settings={"smtp_tls_security_level": "", "smtp_enforce_tls": "yes", "smtp_tls_enforce_peername": value})
    assert send("a@src.test", ["b@far.test"], MESSAGE, port=mail.port).code == 250
    mail.wait_log(rf"to=<b@far\.test>.*status={result}")
