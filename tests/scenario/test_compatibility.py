# SPDX-License-Identifier: Apache-2.0
"""Defaults of old versions that compatibility_level keeps: they count, and the log has Postfix's line wherever one made a difference."""
from harness import Client, send

OLD = "using backwards-compatible default setting"
ACCESS = "check_recipient_access inline:{r@other.test=REJECT}, reject_unauth_destination"


def old_mail(make_mail, sink, **settings):
    mail = make_mail(relay=sink, start=False)
    mail.settings |= {"compatibility_level": "0", "mydestination": "$myhostname, other.test", "mydomain": "d.test", "mynetworks": "10.0.0.0/8",
                      "local_recipient_maps": "", "smtpd_reject_unlisted_recipient": "no", "smtpd_recipient_restrictions": ACCESS,
                      "local_header_rewrite_clients": "static:all", "local_transport": mail.settings.get("local_transport", "error:none")} | settings
    mail.settings.pop("smtpd_relay_restrictions", None)
    mail.services = ["dummy unix - - - - - discard"]
    mail.write_config()
    mail.start()
    return mail


def lines(mail):
    with open(mail.log_file, encoding="utf-8", errors="replace") as f:
        return [line.split("]: ", 1)[1].strip() for line in f if OLD in line]


def test_old_defaults_are_named_in_the_log_where_they_act(make_mail, sink):
    mail = old_mail(make_mail, sink)
    with Client(port=mail.port) as client:
        client.ehlo()
        client.cmd("MAIL FROM:<a@src.test>")
        assert client.cmd("RCPT TO:<z@sub.other.test>").code == 250
        assert client.cmd("RCPT TO:<r@other.test>").code == 554
    send("s@host", ["z@sub.other.test"], b"To: u@localhost\r\n\r\nx\r\n", port=mail.port)
    mail.wait_log(r'append_dot_mydomain=yes to rewrite "host" to "host\.d\.test"')
    mail.wait_log(r'to rewrite "localhost" to "localhost\.d\.test"; please add "localhost" to mydestination or other address class')
    found = lines(mail)
    assert any(line.endswith(f"master.cf: line {number}: {OLD} chroot=y") for line in found for number in range(1, 60)), found
    assert f'{OLD} relay_domains=$mydestination to accept mail for domain "sub.other.test"' in found
    assert (f'{OLD} smtpd_relay_before_recipient_restrictions=no to reject recipient "r@other.test" from client '
            '"unknown[127.0.0.1]"') in found
    assert not mail.complaints()


def test_old_defaults_that_let_a_client_in_are_named(make_mail, sink):
    mail = old_mail(make_mail, sink, smtpd_recipient_restrictions="check_client_access static:OK, permit_mynetworks, reject_unauth_destination")
    with Client(port=mail.port) as client:
        client.ehlo()
        client.cmd("MAIL FROM:<a@src.test>")
        assert client.cmd("RCPT TO:<b@far.test>").code == 250
    mail.wait_log(rf'{OLD} "smtpd_relay_restrictions = \(empty\)" to avoid "Relay access denied" error for recipient "b@far\.test" from client ')
    with open(f"{mail.etc}/main.cf", encoding="ascii") as f:
        kept = [line for line in f if not line.startswith(("mynetworks ", "smtpd_recipient_restrictions "))]
    with open(f"{mail.etc}/main.cf", "w", encoding="ascii") as f:
        f.writelines(kept + ["smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination\n"])
    mail.stop()
    mail.start()
    with Client(port=mail.port) as client:
        client.ehlo()
        client.cmd("MAIL FROM:<a@src.test>")
        assert client.cmd("RCPT TO:<b@far.test>").code == 250
    mail.wait_log(rf'{OLD} mynetworks_style=subnet to permit request from client "unknown\[127\.0\.0\.1\]"')


def test_mail_is_not_taken_where_room_is_short(make_mail, sink):
    mail = make_mail(relay=sink, settings={"queue_minfree": "9000000000000000"})
    answer = send("a@src.test", ["b@far.test"], b"\r\nx\r\n", port=mail.port)
    assert (answer.code, answer.enhanced) == (452, "4.3.1")
    mail.wait_log(r"warning: not enough free space in mail queue: \d+ bytes < queue_minfree")


def test_nothing_is_said_of_what_is_set(make_mail, sink):
    mail = old_mail(make_mail, sink, append_dot_mydomain="yes", relay_domains="$mydestination", smtpd_relay_before_recipient_restrictions="no")
    with Client(port=mail.port) as client:
        client.ehlo()
        client.cmd("MAIL FROM:<a@src.test>")
        assert client.cmd("RCPT TO:<r@other.test>").code == 554
    send("s@host", ["z@sub.other.test"], b"To: u@localhost\r\n\r\nx\r\n", port=mail.port)
    mail.wait_log(r"from=<s@host\.d\.test>")
    assert [line for line in lines(mail) if "chroot=y" not in line] == []
