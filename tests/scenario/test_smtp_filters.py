# SPDX-License-Identifier: Apache-2.0
"""Tables that put other words in a peer's mouth: smtpd_command_filter and smtp_reply_filter; and what TLS may use."""
import re
import subprocess

from harness import Client, reply, send
from harness.sink import raw
from test_smtpd_tls import with_tls

BODY = b"Subject: x\r\n\r\nhi\r\n"


def write(mail, name, text):
    with open(f"{mail.etc}/{name}", "w") as f:
        f.write(text)
    return f"{mail.etc}/{name}"


def test_commands_are_replaced(make_mail, sink):
    mail = make_mail(start=False, relay=sink)
    rules = write(mail, "commands", "/^HELO\\s*$/ HELO domain.invalid\n/^\\s*$/ NOOP\n/^(RCPT TO:<)'([^[:space:]]+)'(>.*)/ $1$2$3\n")
    mail.settings["smtpd_command_filter"] = f"pcre:{rules}"
    mail.write_config()
    mail.start()
    with Client(mail.port) as smtp:
        for line, code in (("HELO", 250), ("", 250), ("  NOOP", 250), ("MAIL FROM:<a@src.test>", 250), ("RCPT TO:<'x@far.test'>", 250), ("HUH", 502)):
            assert smtp.cmd(line).code == code, line
        assert smtp.cmd("DATA").code == 354
        smtp.raw(BODY + b".\r\n")
        assert smtp.read_reply().code == 250
    assert sink.wait_count(1)[0].recipients == ["x@far.test"]


def test_a_filter_that_fails_lets_no_command_pass(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtpd_command_filter": "inline:{QUIT=QUIT}, fail:always"})
    with Client(mail.port) as smtp:
        assert smtp.cmd("EHLO c.test").code == 451


def test_replies_are_replaced(make_mail, sink):
    mail = make_mail(start=False, relay=sink)
    rules = write(mail, "replies", "!/^([2-5][0-9][0-9]($|[- ]))/ 250-filler for garbage\n/^550 (5\\.1\\.1 busy)/ 450 4.2.0 $1\n")
    mail.settings["smtp_reply_filter"] = f"pcre:{rules}"
    mail.write_config()
    mail.start()
    sink.on("mail", raw(b"what is this\r\n250 2.1.0 ok\r\n"), times=1)
    assert send("a@src.test", ["x@far.test"], BODY, port=mail.port).code == 250
    sink.wait_count(1)
    sink.on("rcpt", reply("550 5.1.1 busy"))
    assert send("a@src.test", ["x@far.test"], BODY, port=mail.port).code == 250
    mail.wait_log(r"dsn=4.2.0, status=deferred \(host .* said: 450 4.2.0 5.1.1 busy")


def test_curves_and_options_of_tls(make_mail, sink):
    mail = make_mail(relay=sink, settings=with_tls(tls_eecdh_auto_curves="secp384r1, no-such-curve", tls_ffdhe_auto_groups="",
                                                   tls_ssl_options="NO_COMPRESSION, NO_RENEGOTIATION, NO_TICKET"))
    for groups, works in (("X25519", False), ("P-384", True)):
        shown = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{mail.port}", "-groups", groups],
                               input=b"QUIT\r\n", capture_output=True, timeout=20).stdout.decode()
        assert bool(re.search("Server Temp Key: ECDH, (secp384r1|P-384), 384 bits", shown)) == works, shown


def test_a_masked_greeting_brings_workarounds(make_mail, sink):
    quick = {"smtp_line_length_limit": "0", "smtp_pix_workaround_threshold_time": "0s", "smtp_pix_workaround_delay_time": "1s"}
    sink.on("connect", raw(b"220 ***************************\r\n"))
    body = b"Subject: x\r\n\r\n.hi " + b"y" * 3000 + b"\r\n"
    mail = make_mail(relay=sink, settings=quick)
    assert send("a@src.test", ["x@far.test"], body, port=mail.port).code == 250
    assert sink.wait_count(1)[0].body == b".hi " + b"y" * 3000 + b"\r\n"
    mail.wait_log(r"enabling PIX workarounds: disable_esmtp,delay_dotcrlf for 127.0.0.1\[127.0.0.1\]:")
    assert [line for _, line in sink.transcript if b"LO " in (line if isinstance(line, bytes) else line.encode())][0][:4] in (b"HELO", "HELO")
    late = make_mail(relay=sink, name="late")
    assert send("a@src.test", ["y@far.test"], body, port=late.port).code == 250
    assert sink.wait_count(2)[1].recipients == ["y@far.test"]
    assert not late.log("PIX workarounds")
    table = make_mail(relay=sink, settings=quick | {"smtp_pix_workaround_maps": "inline:{127.0.0.1=delay_dotcrlf}"}, name="table")
    assert send("a@src.test", ["z@far.test"], body, port=table.port).code == 250
    assert sink.wait_count(3)[2].body == b".hi " + b"y" * 3000 + b"\r\n"
    table.wait_log(r"enabling PIX workarounds: delay_dotcrlf for ")
