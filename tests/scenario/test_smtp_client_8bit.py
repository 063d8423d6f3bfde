# SPDX-License-Identifier: Apache-2.0
"""8-bit content for a server without 8BITMIME: what becomes of it, beside what Debian's Postfix makes of it (tree $PEERS/postfix)."""
import os

import pytest

from harness import Client, Instance, unavailable
from harness.client import stuff

U = "für Ärger".encode()
L = b"\xe4\xf6\xfc"


def message_of(*lines):
    return b"\r\n".join(lines) + b"\r\n"


def message(*lines):
    return message_of(b"Subject: t", *lines)


T, TYPE, CTE = b"Subject: t", b"Content-Type: ", b"Content-Transfer-Encoding: "
CORPUS = {
    "plain_8bit": message( b"MIME-Version: 1.0", TYPE + b"text/plain; charset=utf-8", CTE + b"8bit", b"", U, b"", b"a=b", b"end  ", b"tab\t", b".",
        b"..", b"From here", b".dot " + U),
    "no_cte": message( b"MIME-Version: 1.0", TYPE + b"text/plain; charset=utf-8", b"", U),
    "no_mime": message( b"", L),
    "cte_first": message_of(CTE + b"8BIT (comment)", T, b"", L),
    "cte_folded": message( b"Content-Transfer-Encoding:", b"\t8bit", b"X-After: y", b"", L),
    "cte_twice": message( CTE + b"8bit", CTE + b"7bit", b"", L),
    "cte_twice_b": message( CTE + b"7bit", CTE + b"8bit", b"", L),
    "binary": message( TYPE + b"application/octet-stream", CTE + b"binary", b"", b"\x01\x02" + L + b"\x7f"),
    "ascii_8bit": message( CTE + b"8bit", b"", b"plain a=b"),
    "long": message( CTE + b"8bit", b"", U * 30, b"x" * 70, b"x" * 71, b"x" * 72, b"x" * 73, b"x" * 74, b"x" * 75, b"x" * 76, b"x" * 77, b"x"*200,
        b"x"*71 + b"=", b"x"*72 + b"=", b"x"*70 + b"==", b"x"*73 + b" ", b"x"*75 + b" ", b"x"*72+b" y", b"x" * 71 + b"." + b"." * 10, b"." * 200),
    "unknown_cte": message( CTE + b"x-odd", b"", L),
    "base64": message( CTE + b"base64", b"", L),
    "qp": message( CTE + b"quoted-printable", b"", L, b"=E4"),
    "header_8bit": message_of(b"Subject: " + L, CTE + b"8bit", b"", L),
    "multipart": message( b"MIME-Version: 1.0", TYPE + b"multipart/mixed; boundary=\"b b\"", CTE + b"8bit", b"", b"pre " + L, b"--b b",
        TYPE + b"text/plain", CTE + b"8bit", b"Content-Disposition: inline", b"", L, b"", b"--b b", b"", L + b" no header", b"--b b", CTE + b"base64",
        b"", L, b"--b b--", b"post " + L),
    "multipart_7bit_outer": message( TYPE + b"multipart/mixed; boundary=x", b"", b"--x", CTE + b"8bit", b"", L, b"--x--", L),
    "nested": message( TYPE + b"multipart/mixed; boundary=o", CTE + b"8bit", b"", b"--o", TYPE + b"multipart/alternative; boundary=i",
        CTE + b"binary", b"", b"--i", TYPE + b"text/html", CTE + b"8bit", b"", L, b"--i--", b"between " + L, b"--o", CTE + b"8bit", b"", L, b"--o--"),
    "unclosed": message( TYPE + b"multipart/mixed; boundary=o", CTE + b"8bit", b"", b"--o", TYPE + b"multipart/alternative; boundary=i", b"", b"--i",
        CTE + b"8bit", b"", L, b"--o", CTE + b"8bit", b"", L),
    "rfc822": message( TYPE + b"message/rfc822", CTE + b"8bit", b"", b"Subject: " + L, TYPE + b"text/plain", CTE + b"8bit", b"", L),
    "rfc822_part": message( TYPE + b"multipart/digest; boundary=d", CTE + b"8bit", b"", b"--d", b"", b"Subject: digest", CTE + b"8bit", b"", L,
        b"--d", TYPE + b"message/rfc822", CTE + b"8bit", b"", b"From: a@b", TYPE + b"multipart/mixed; boundary=e", CTE + b"8bit", b"", b"--e",
        CTE + b"8bit", b"", L, b"--e--", b"--d--"),
    "rfc822_no_cte": message( TYPE + b"message/rfc822", b"", b"Subject: inner", CTE + b"8bit", b"", L),
    "partial": message( TYPE + b"message/partial; id=1; number=1; total=2", CTE + b"8bit", b"", b"Subject: p", b"", L),
    "external": message( TYPE + b"message/external-body; access-type=x", CTE + b"8bit", b"", TYPE + b"text/plain", CTE + b"8bit", b"", L),
    "delivery_status": message( TYPE + b"multipart/report; report-type=delivery-status; boundary=r", CTE + b"8bit", b"", b"--r", CTE + b"8bit", b"",
        L, b"--r", TYPE + b"message/delivery-status", CTE + b"8bit", b"", b"Reporting-MTA: dns; x", b"", b"Final-Recipient: rfc822; " + L, b"--r",
        TYPE + b"text/rfc822-headers", CTE + b"8bit", b"", b"Subject: " + L, b"--r--"),
    "signed": message( TYPE + b"multipart/signed; protocol=x; boundary=s", CTE + b"8bit", b"", b"--s", TYPE + b"text/plain", CTE + b"8bit", b"", L,
        b"--s", TYPE + b"application/pgp-signature", b"", b"sig", b"--s--"),
    "global": message( TYPE + b"message/global", CTE + b"8bit", b"", b"Subject: " + L, CTE + b"8bit", b"", L),
    "part_no_blank": message( TYPE + b"multipart/mixed; boundary=x", CTE + b"8bit", b"", b"--x", CTE + b"8bit", b"no header " + L, L, b"--x--"),
    "part_header_only": message( TYPE + b"multipart/mixed; boundary=x", CTE + b"8bit", b"", b"--x", CTE + b"8bit", b"--x", CTE + b"8bit", b"", b"--x--"),
    "no_body": message( CTE + b"8bit", b""),
    "no_body2": message( CTE + b"8bit"),
    "ends_in_part_header": message( TYPE + b"multipart/mixed; boundary=x", CTE + b"8bit", b"", b"--x", CTE + b"8bit"),
    "ctl": message( CTE + b"8bit", b"", bytes(c for c in range(1, 256) if c not in (10, 13))),
    "blank_lines": message( CTE + b"8bit", b"", b" ", b"\t", b"  x  y", b" \t ", b"", b""),
    "bad_type": message( TYPE + b"nonsense", CTE + b"8bit", b"", L),
    "multipart_no_boundary": message( TYPE + b"multipart/mixed", CTE + b"8bit", b"", L),
    "multipart_qp": message( TYPE + b"multipart/mixed; boundary=x", CTE + b"quoted-printable", b"", b"--x", CTE + b"8bit", b"", L, b"--x--"),
    "rfc822_base64": message( TYPE + b"message/rfc822", CTE + b"base64", b"", CTE + b"8bit", b"", L),
    "cte_8bit_x": message( CTE + b"8bit; x=y", b"", L),
    "cte_quoted": message( CTE + b"\"8bit\"", b"", L),
    "multipart_noslash": message( TYPE + b"multipart; boundary=x", CTE + b"8bit", b"", b"--x", CTE + b"8bit", b"", L, b"--x--"),
    "rfc822_headers_end_no_blank": message( TYPE + b"message/rfc822", CTE + b"8bit", b"", CTE + b"8bit", b"not a header " + L, L),
    "nul": message( CTE + b"8bit", b"", b"a\0b" + L),
}

# Where we do something else than Postfix, and why.
DIFFERENT = {
    "partial": "its content is encoded, and Postfix calls it 7bit",
    "external": "its content is encoded, and Postfix calls it 7bit",
    "delivery_status": "its content is encoded, and Postfix calls it 7bit",
    "multipart_noslash": "that is no type at all (RFC 2045 section 5.1), so it is a text like any other",
    "rfc822_base64": "what is base64 is not looked into",
    "part_no_blank": "an empty line ends the header section, for what follows is encoded and may look like a header then",
    "rfc822_headers_end_no_blank": "the same",
}


def deliver(mail, sink, key, body, parameters=""):
    """What comes out for a message, without what was put before it, and the parameters of MAIL."""
    with Client(mail.port) as smtp:
        smtp.ehlo()
        for line in (f"MAIL FROM:<a@src.test>{parameters}", "RCPT TO:<x@far.test>", "DATA"):
            smtp.cmd(line)
        smtp.raw(stuff(b"X-Key: " + key.encode() + b"\r\n" + body) + b".\r\n")
        assert smtp.read_reply().code == 250
    got = sink.wait(lambda m: m.header("X-Key") == key, 20)
    return got.content.partition(b"X-Key: " + key.encode() + b"\r\n")[2], got.mail_parameters


@pytest.mark.parametrize("lmtp", [False, True])
def test_parts_become_quoted_printable(make_mail, make_sink, lmtp):
    sink = make_sink()
    sink.eightbit, sink.lmtp = False, lmtp
    mail = make_mail(relay=None if lmtp else sink, settings={"default_transport": f"lmtp:inet:127.0.0.1:{sink.port}"} if lmtp else {})
    got, parameters = deliver(mail, sink, "whole", CORPUS["multipart"], " BODY=8BITMIME")
    assert "SIZE" not in parameters and "BODY" not in parameters
    assert got == (b'Subject: t\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b b"\r\n' + CTE + b"7bit\r\n\r\npre " + L
                   + b"\r\n--b b\r\nContent-Type: text/plain\r\nContent-Disposition: inline\r\n" + CTE
                   + b"quoted-printable\r\n\r\n=E4=F6=FC\r\n\r\n--b b\r\n\r\n" + L + b" no header\r\n--b b\r\n" + CTE
                   + b"base64\r\n\r\n" + L + b"\r\n--b b--\r\npost " + L + b"\r\n")
    sink.eightbit = True


def test_nothing_is_converted_where_it_need_not_or_must_not(make_mail, make_sink):
    sink = make_sink()
    body = CORPUS["plain_8bit"]
    mail = make_mail(relay=sink, settings={"smtp_connection_cache_on_demand": "no"})
    got, parameters = deliver(mail, sink, "eight", body, " BODY=8BITMIME")
    assert got == body and "BODY=8BITMIME" in parameters
    sink.eightbit = False
    assert deliver(mail, sink, "seven", CORPUS["no_mime"], " BODY=7BIT")[0] == CORPUS["no_mime"]
    assert "SIZE" in deliver(mail, sink, "ascii", message(b"", b"a = b"))[1]
    off = make_mail(relay=sink, settings={"disable_mime_output_conversion": "yes"}, name="off")
    got, parameters = deliver(off, sink, "off", body, " BODY=8BITMIME")
    assert got == body and "SIZE" in parameters


def test_large_content_is_converted_as_it_passes(make_mail, make_sink):
    sink = make_sink()
    sink.eightbit = False
    mail = make_mail(relay=sink, settings={"smtp_header_checks": "inline:{x=y}"})
    body = message(CTE + b"8bit", b"", *[b".lines and " + U for _ in range(100_000)])
    got = deliver(mail, sink, "large", body)[0]
    assert got == message(CTE + b"quoted-printable", b"", *[b".lines and f=C3=BCr =C3=84rger" for _ in range(100_000)])


def test_the_same_comes_out_as_of_postfix(make_mail, make_sink):
    if os.geteuid() or unavailable("postfix"):
        pytest.skip("needs root and a tree with Debian's Postfix")
    sink, other = make_sink(), make_sink()
    sink.eightbit = other.eightbit = False
    settings = {"smtp_line_length_limit": "998"}
    mail = make_mail(relay=sink, settings=settings)
    differ = []
    with Instance(target="postfix", relay=other, settings=settings, name="peer") as peer:
        for key, body in CORPUS.items():
            ours, theirs = deliver(mail, sink, key, body)[0], deliver(peer, other, key, body)[0]
            if ours != theirs and key not in DIFFERENT:
                differ.append((key, ours, theirs))
            if ours == theirs and key in DIFFERENT:
                differ.append((key, "is the same by now"))
    assert differ == [], differ
