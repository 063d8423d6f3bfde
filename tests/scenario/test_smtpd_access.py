# SPDX-License-Identifier: Apache-2.0
"""Access tables, restriction classes, tables of known users, policy services: replies and log lines. HARNESS_TARGET=postfix shows
that Postfix says the same."""
import re
import socketserver
import threading

import pytest

from harness import Client

CLIENT = r"(unknown|localhost)\[127\.0\.0\.1\]"


def table(mail, name, text):
    """A table that both systems read without a command."""
    path = f"{mail.etc}/{name}"
    with open(path, "w") as f:
        f.write(text)
    return f"texthash:{mail.inside(path)}"


def started(make_mail, sink, tables=None, **settings):
    """A mail system with these settings; NAME in them stands for the table of that name."""
    mail = make_mail(relay=sink, settings={}, start=False)
    for name, text in (tables or {}).items():
        reference = table(mail, name, text)
        settings = {key: value.replace(f"<{name}>", reference) for key, value in settings.items()}
    mail.settings.update(settings)
    mail.write_config()
    mail.start()
    return mail


def rcpt(mail, recipient="b@far.test", sender="a@src.test", helo="c.test"):
    """The reply to RCPT, or to what was refused before it."""
    with Client(mail.port) as smtp:
        for command in (f"EHLO {helo}", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
            reply = smtp.cmd(command)
            if reply.code >= 400:
                break
        return f"{reply.code} {reply.text}"


def deliver(mail, sender="a@src.test", recipients=("b@far.test",)):
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        assert smtp.cmd(f"MAIL FROM:<{sender}>").code == 250
        for recipient in recipients:
            assert smtp.cmd(f"RCPT TO:<{recipient}>").code == 250
        assert smtp.cmd("DATA").code == 354
        smtp.raw(b"Subject: x\r\n\r\nx\r\n.\r\n")
        reply = smtp.read_reply()
        assert reply.code == 250
        return reply.text.split()[-1]


def test_an_address_is_looked_up_whole_then_by_its_parts(make_mail, sink):
    mail = started(make_mail, sink, {"from": "x+y@one.test 550 whole\nx@one.test 551 plain\none.test 552 domain\n"
                                             ".two.test 553 parent\nboss@ 554 user\n<> 555 null\nfine@one.test OK\n"},
                   recipient_delimiter="+", smtpd_sender_restrictions="check_sender_access <from>",
                   parent_domain_matches_subdomains="")
    said = {sender: rcpt(mail, sender=sender).split()[0] for sender in
            ("x+y@one.test", "x+z@one.test", "q@one.test", "q@sub.two.test", "q@two.test", "boss@six.test", "boss+k@six.test", "",
             "fine@one.test", "q@sub.one.test")}
    assert said == {"x+y@one.test": "550", "x+z@one.test": "551", "q@one.test": "552", "q@sub.two.test": "553", "q@two.test": "250",
                    "boss@six.test": "554", "boss+k@six.test": "554", "": "555", "fine@one.test": "250", "q@sub.one.test": "250"}


def test_refusals_read_as_in_postfix(make_mail, sink):
    mail = started(make_mail, sink, {
        "acts": "a@t.test REJECT\nb@t.test REJECT 5.1.9 go away\nc@t.test DEFER\nd@t.test 450 4.2.0 later\ne@t.test 554 text only\n"
                "f@t.test DEFER_IF_PERMIT not now\ng@t.test DUNNO\nh@t.test 12345\ni@t.test defer_if_permit, permit\nj@t.test bogus_thing\n"},
        smtpd_recipient_restrictions="check_recipient_access <acts>", smtpd_reject_unlisted_recipient="no")
    said = {user: rcpt(mail, f"{user}@t.test") for user in "abcdefghij"}
    where = "<{}@t.test>: Recipient address rejected: "
    assert said == {
        "a": "554 5.7.1 " + where.format("a") + "Access denied", "b": "554 5.1.0 " + where.format("b") + "go away",
        "c": "450 4.7.1 " + where.format("c") + "Access denied", "d": "450 4.2.0 " + where.format("d") + "later",
        "e": "554 5.7.1 " + where.format("e") + "text only", "f": "450 4.7.1 " + where.format("f") + "not now",
        "g": "250 2.1.5 Ok", "h": "250 2.1.5 Ok", "i": said["i"], "j": "451 4.3.5 Server configuration error"}
    assert said["i"].startswith("450 4.")
    mail.wait_log(rf"NOQUEUE: reject: RCPT from {CLIENT}: 554 5\.1\.0 <b@t\.test>: Recipient address rejected: go away; "
                  r"from=<a@src\.test> to=<b@t\.test> proto=ESMTP helo=<c\.test>$")


def test_actions_that_change_what_is_done_with_the_message(make_mail, sink):
    mail = started(make_mail, sink, {
        "acts": "hold@t.test HOLD\ndrop@t.test DISCARD\nmark@t.test PREPEND X-Mark: it was here\nwarn@t.test WARN look\n"
                "other@t.test REDIRECT else@where.test\ncopy@t.test BCC copy@where.test\ninfo@t.test INFO well\n"},
        smtpd_recipient_restrictions="check_recipient_access <acts>")
    held = deliver(mail, recipients=["hold@t.test"])
    mail.wait_log(rf"NOQUEUE: hold: RCPT from {CLIENT}: <hold@t\.test>: Recipient address triggers HOLD action; from=")
    deliver(mail, recipients=["drop@t.test"])
    mail.wait_log(r"discard: RCPT from .*<drop@t\.test>: Recipient address triggers DISCARD action; from=")
    deliver(mail, recipients=["mark@t.test"])
    deliver(mail, recipients=["warn@t.test"])
    mail.wait_log(rf"warn: RCPT from {CLIENT}: look; from=")
    deliver(mail, recipients=["other@t.test"])
    deliver(mail, recipients=["copy@t.test"])
    deliver(mail, recipients=["info@t.test"])
    messages = sink.wait_count(5)
    recipients = sorted(r for m in messages for r in m.recipients)
    assert recipients == ["copy@t.test", "copy@where.test", "else@where.test", "info@t.test", "mark@t.test", "warn@t.test"]
    marked = next(m for m in messages if m.recipients == ["mark@t.test"])
    assert marked.content.index(b"X-Mark: it was here") < marked.content.index(b"Subject: x")
    assert [path for path in mail.queue_files("hold")["hold"] if path.endswith(held)]


def test_classes_of_restrictions_and_tables_by_themselves(make_mail, sink):
    mail = started(make_mail, sink, {"who": "strict@t.test strict\nloop@t.test loop\n", "names": "bad.helo REJECT\n", "bad": "b@t.test REJECT\n"},
                   smtpd_restriction_classes="strict, loop", strict="check_helo_access <names>, reject_non_fqdn_sender",
                   loop="loop", smtpd_recipient_restrictions="check_recipient_access <who>, <bad>, permit")
    assert rcpt(mail, "strict@t.test").startswith("250")
    assert rcpt(mail, "strict@t.test", helo="bad.helo") == "554 5.7.1 <bad.helo>: Helo command rejected: Access denied"
    assert rcpt(mail, "strict@t.test", sender="nodomain").startswith("504 5.5.2 <nodomain>: Sender address rejected: need fully")
    assert rcpt(mail, "b@t.test") == "554 5.7.1 <b@t.test>: Recipient address rejected: Access denied"
    if mail.target == "postern":  # Postfix's process ends
        assert rcpt(mail, "loop@t.test").startswith("451 4.3.5")


def test_a_client_is_looked_up_by_address_and_network(make_mail, sink):
    mail = started(make_mail, sink, {"clients": "127.0 REJECT from your network\n"},
                   smtpd_client_restrictions="check_client_access <clients>")
    assert re.fullmatch(rf"554 5\.7\.1 <{CLIENT}>: Client host rejected: from your network", rcpt(mail))


def test_a_table_that_can_not_be_read_defers(make_mail, sink):
    mail = started(make_mail, sink, smtpd_recipient_restrictions="check_sender_access texthash:/nowhere/at/all, permit")
    assert re.match(r"451 4\.3\.[05] <a@src\.test>: ", rcpt(mail))


def test_users_that_the_tables_do_not_list_are_refused(make_mail, sink):
    mail = started(make_mail, sink, {"users": "here anything\n", "boxes": "v@box.test v/\n", "aliases": "al@ali.test here@loc.test\n@all.test here@loc.test\n",
                                     "relays": "r@rel.test x\n"},
                   mydestination="loc.test", local_recipient_maps="<users>", virtual_mailbox_domains="box.test", virtual_mailbox_maps="<boxes>",
                   virtual_alias_domains="ali.test all.test", virtual_alias_maps="<aliases>", relay_domains="rel.test",
                   relay_recipient_maps="<relays>", recipient_delimiter="+", local_transport="smtp", virtual_transport="smtp")
    for good in ("here@loc.test", "here+ext@loc.test", "v@box.test", "al@ali.test", "any@all.test", "r@rel.test", "x@far.test"):
        assert rcpt(mail, good) == "250 2.1.5 Ok", good
    for bad, name in (("gone@loc.test", "local recipient"), ("w@box.test", "virtual mailbox"), ("no@ali.test", "virtual alias"), ("q@rel.test", "relay recipient")):
        assert rcpt(mail, bad) == f"550 5.1.1 <{bad}>: Recipient address rejected: User unknown in {name} table"


class Policy(socketserver.StreamRequestHandler):
    def handle(self):
        question = {}
        for line in self.rfile:
            name, _, value = line.decode().rstrip("\n").partition("=")
            if name:
                question[name] = value
                continue
            self.server.questions.append(question)
            action = self.server.answer(question)
            if action is None:
                return
            self.wfile.write(f"action={action}\n\n".encode())
            question = {}


@pytest.fixture
def policy():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Policy)
    server.daemon_threads = True
    server.questions, server.answer = [], lambda question: "DUNNO"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_policy_service_decides(make_mail, sink, policy):
    mail = started(make_mail, sink, smtpd_policy_service_retry_delay="1s", smtpd_policy_service_try_limit="2",
                   smtpd_recipient_restrictions=f"check_policy_service inet:127.0.0.1:{policy.server_address[1]}, permit")
    assert rcpt(mail).startswith("250")
    asked = policy.questions[-1]
    assert asked["request"] == "smtpd_access_policy" and asked["protocol_state"] == "RCPT" and asked["client_address"] == "127.0.0.1"
    assert asked["sender"] == "a@src.test" and asked["recipient"] == "b@far.test" and asked["helo_name"] == "c.test" and asked["instance"]
    policy.answer = lambda question: "REJECT 5.7.5 not " + question["recipient"]
    assert rcpt(mail) == "554 5.7.5 <b@far.test>: Recipient address rejected: not b@far.test"
    policy.answer = lambda question: None
    assert rcpt(mail) == "451 4.3.5 <b@far.test>: Recipient address rejected: Server configuration problem"
    mail.wait_log(r"warning: problem talking to server (inet:)?127\.0\.0\.1:\d+")
