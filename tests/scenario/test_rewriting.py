# SPDX-License-Identifier: Apache-2.0
"""What tables do to addresses and headers: beside Debian's Postfix on the same tables, and what is our own."""
import re
import time

import pytest

from harness import Instance, Sink, send, unavailable

TABLES = {
    "canonical": "ca@x.test cb@x.test\ncb@x.test cc@x.test\n@old.test @new.test\nown Own.Name@x.test\n@wildc.test one@x.test\n",
    "sender_canonical": "sa@x.test sender@x.test\nboth@x.test both-sender@x.test\n",
    "recipient_canonical": "ra@x.test recipient@x.test\nboth@x.test both-recipient@x.test\n",
    "virtual": ("va@x.test v1@x.test, v2@y.test\nv1@x.test v3@y.test\nself@x.test self@x.test, other@y.test\n@wild.test w@y.test\n"
                "@dom.test @other.test\nloc lres@y.test\next+foo@x.test exact@y.test\next@x.test e1@y.test e2@y.test\n"
                "bare@x.test plain\nalias.test anything\nknown@alias.test k@y.test\ndup@x.test q@y.test, q@y.test\n"
                "phrase@x.test Some One <so@y.test>\ncirc1@x.test circ2@x.test\ncirc2@x.test circ1@x.test\n"),
    "sender_bcc": "sa@x.test bs@y.test\n@bcc.test bd@y.test\n",
    "recipient_bcc": "rb@x.test br@y.test\n",
    "transport": "t1@x.test retry:4.0.1 not now\nerr.test error:5.2.9 no mail here\n.sub.err.test error:5.2.8 none below\n",
    "relocated": "moved@x.test new@y.test\n@left.test nobody\n",
}
SETTINGS = {
    "mydestination": "local.test, $myhostname", "myorigin": "origin.test", "append_dot_mydomain": "yes", "recipient_delimiter": "+-",
    "local_recipient_maps": "", "virtual_alias_domains": "alias.test", "smtpd_reject_unlisted_recipient": "no",
    "masquerade_domains": "!keep.masq.test masq.test", "masquerade_exceptions": "root",
    "masquerade_classes": "envelope_sender, envelope_recipient, header_sender, header_recipient",
    **{f"{name}_maps": f"texthash:ETC/{name}" for name in
       ("canonical", "sender_canonical", "recipient_canonical", "sender_bcc", "recipient_bcc", "transport", "relocated")},
    "virtual_alias_maps": "texthash:ETC/virtual", "always_bcc": "",
}
LOCALS = ["ca", "cb", "own", "own+x", "sa", "ra", "both", "va", "v1-z", "self", "self+e", "loc", "loc+e", "ext+foo", "ext+bar", "bare+q", "dup", "rb+1",
          "phrase", "root", "Ca", "u%far.test", "site!user", "circ1", '"a b"', "moved", "t1"]
DOMAINS = ["", "@x.test", "@local.test", "@old.test", "@wildc.test", "@wild.test", "@dom.test", "@a.masq.test", "@b.keep.masq.test", "@host", "@err.test",
           "@q.sub.err.test", "@left.test", "@bcc.test"]
ADDRESSES = [l + d for d in DOMAINS[:2] for l in LOCALS] + [l + d for d in DOMAINS[2:] for l in LOCALS[::4]]


def run(target, settings, tables, messages, quiet=2.0):
    """[(reply, [(sender, recipients, content)])], the log; one entry for each message, found again by its X-N."""
    with Sink() as sink:
        own = {"local_transport": f"smtp:[127.0.0.1]:{sink.port}", "maximal_backoff_time": "1h", "minimal_backoff_time": "1h",
               "bounce_queue_lifetime": "0", "queue_run_delay": "1h", "local_header_rewrite_clients": "permit_inet_interfaces"}
        mail = Instance(target=target, relay=sink, start=False)
        for name, text in tables.items():
            with open(f"{mail.etc}/{name}", "w", encoding="ascii") as f:
                f.write(text)
        mail.settings = {k: v.replace("ETC", mail.inside(mail.etc)) for k, v in (own | settings).items()}
        mail.write_config()
        with mail:
            mail.start()
            replies = [send(s, r, b"X-N: %d\r\n" % n + c, port=mail.port) for n, (s, r, c) in enumerate(messages)]
            seen, since = -1, time.monotonic()
            while time.monotonic() - since < quiet:  # until nothing has come for a while
                if len(sink.messages) != seen:
                    seen, since = len(sink.messages), time.monotonic()
                time.sleep(0.1)
            with open(mail.log_file, encoding="utf-8", errors="replace") as f:
                log = f.read()
    arrived = [[] for _ in messages]
    for m in sink.messages:
        found = re.search(rb"^X-N: (\d+)\r$", m.content.split(b"\r\n\r\n")[0], re.M)
        if found:
            arrived[int(found[1])].append((m.sender, tuple(sorted(m.recipients)), m.content))
    return list(zip(replies, arrived)), log


def header(content, name):
    """A header's value with the blanks evened out."""
    found = re.search(rb"^%s:((?:.|\r\n[ \t])*)\r\n" % name, content, re.M | re.I)
    return re.sub(rb"[ \t\r\n]*([,;])[ \t\r\n]*", rb"\1", b" ".join(found[1].split())) if found else None


def outcome(reply, arrived, log, address):
    """What can be compared: the reply, who got the message from whom, the rewritten headers, or the bounce's reason."""
    recipients = tuple(sorted(r for _, rs, _ in arrived for r in rs))
    return (reply.code, {s for s, _, _ in arrived}, recipients, {(header(c, b"From"), header(c, b"To")) for _, _, c in arrived})


needs_postfix = pytest.mark.skipif(bool(unavailable("postfix")), reason=unavailable("postfix") or "-")


@needs_postfix
def test_addresses_become_what_they_become_in_postfix():
    messages = [(f"{a.replace(' ', '')}".replace('"', ""), [a], f"From: S <{a}>\r\nTo: {a}, R ({n}) <{a}>\r\n\r\nx\r\n".encode())
                for n, a in enumerate(ADDRESSES)]
    ours, our_log = run("postern", SETTINGS, TABLES, messages)
    theirs, their_log = run("postfix", SETTINGS, TABLES, messages)
    differences = []
    for a, (r1, m1), (r2, m2) in zip(ADDRESSES, ours, theirs):
        one, two = outcome(r1, m1, our_log, a), outcome(r2, m2, their_log, a)
        if one != two:
            differences.append(f"{a}: {one} {r1} != {two} {r2}")
    assert not differences, "\n".join(differences)


CHECKS = ("/^X-Reject:/ REJECT not this\n/^X-Reject4:/ REJECT 4.7.2 later\n/^X-Warn:/ WARN seen\n/^X-Info:/ INFO\n/^X-Ignore:/ IGNORE\n"
          "/^X-Strip:/ STRIP gone\n/^X-Replace: (.*)/ REPLACE X-New: $1\n/^X-Prepend:/ PREPEND X-Before: 1\n/^X-Redirect:/ REDIRECT r@y.test\n"
          "/^X-Discard:/ DISCARD\n/^X-Bcc:/ BCC copy@y.test\n/^X-Pass:/ PASS\n/^X-Bad:/ NONSENSE x\n/^X-To: (.*)/ REPLACE To: $1\n/^Content-Foo:/ WARN h\n")
LOGGED = re.compile(r"cleanup\[\d+\]: (?:warning: (?!.*symlink)|[0-9A-F]+: (?:reject|warning|info|strip|replace|prepend|redirect|discard|bcc|pass|hold):).*")


def actions(log):
    return sorted(re.sub(r"^cleanup\[\d+\]: (?:[0-9A-F]+: )?", "", m[0]) for m in LOGGED.finditer(log) if "Received" not in m[0])


@needs_postfix
def test_header_and_body_checks_do_and_log_what_postfix_does():
    names = "Reject Reject4 Warn Info Ignore Strip Replace Prepend Redirect Discard Bcc Pass Bad To".split()
    messages = [("s@x.test", ["r@y.test"], f"From: f@x.test\r\nX-{n}: text of it\r\n  folded\r\nX-Info: after\r\nSubject: x\r\n\r\nbody\r\n".encode()) for n in names]
    part = (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"AAA\"\r\nContent-Foo: y\r\n\r\npreamble\r\n--AAA\r\nContent-Type: text/plain;\r\n"
            b" name=\"x.exe\"\r\nX-Part: 1\r\n\r\nbody line\r\n..dots\r\ndrop me\r\n--AAA\r\nContent-Type: message/rfc822\r\n\r\nSubject: nested\r\n\r\nin it\r\n"
            b"change me\r\n--AAA--\r\nend\r\n")
    messages += [("s@x.test", ["r@y.test"], b"From: f@x.test\r\nX-M: 1\r\n" + part), ("s@x.test", ["r@y.test"], b"From: f@x.test\r\n\r\nrefuse me\r\n"),
                 ("s@x.test", ["r@y.test"], b"From: f@x.test\r\n\r\n" + b"filler\r\n" * 60000 + b"change me\r\nend\r\n")]
    tables = {"h": CHECKS, "m": "/^Content-Type: text/ INFO mime\n/exe/ WARN exe\n/X-Part/ IGNORE\n", "n": "/nested/ REPLACE Subject: changed\n",
              "b": "/^body line/ WARN line\n/^\\.dots/ PREPEND ..before\n/^drop/ IGNORE\n/^change/ REPLACE .changed\n/^--AAA$/ INFO boundary\n/^refuse/ REJECT\n/^end/ INFO\n"}
    settings = {"header_checks": "regexp:ETC/h", "mime_header_checks": "regexp:ETC/m", "nested_header_checks": "regexp:ETC/n", "body_checks": "regexp:ETC/b",
                "body_checks_size_limit": "10000000"}
    ours, our_log = run("postern", settings, tables, messages)
    theirs, their_log = run("postfix", settings, tables, messages)
    own = rb"^(Received|Message-Id|Date):(?:.|\r\n[ \t])*\r\n"
    for n, ((r1, m1), (r2, m2)) in enumerate(zip(ours, theirs)):
        assert (r1.code, r1.text.split("queued")[0]) == (r2.code, r2.text.split("queued")[0]), n
        strip = [[(s, r, re.sub(own, b"", c, flags=re.M)) for s, r, c in m] for m in (m1, m2)]
        assert strip[0] == strip[1], n
    assert actions(our_log) == actions(their_log)


CHECKED_MAIL = (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"AAA\"\r\nContent-Foo: y\r\n\r\npreamble\r\n--AAA\r\n"
                b"Content-Type: text/plain;\r\n name=\"x.exe\"\r\nX-Part: 1\r\n\r\nbody line\r\n..dots\r\ndrop me\r\n--AAA\r\n"
                b"Content-Type: message/rfc822\r\n\r\nSubject: nested\r\n\r\nin it\r\nchange me\r\n--AAA--\r\nend\r\n")


@needs_postfix
@pytest.mark.parametrize("kinds", ["h", "hmnb"])
def test_checks_on_the_way_out_do_and_log_what_postfix_does(kinds):
    names = "Reject Warn Info Ignore Strip Replace Prepend Redirect Discard Bad".split()
    messages = [("s@x.test", ["r@y.test"], f"From: f@x.test\r\nX-{n}: text of it\r\n  folded\r\nX-Info: after\r\nSubject: x\r\n\r\nbody\r\n".encode()) for n in names]
    messages += [("s@x.test", ["r@y.test"], b"From: f@x.test\r\nX-Replace: 1\r\n" + CHECKED_MAIL),
                 ("s@x.test", ["r@y.test"], b"From: f@x.test\r\nX-Ignore: 1\r\n\r\n" + b"filler\r\n" * 20000 + b"change me\r\nend\r\n")]
    tables = {"h": CHECKS, "m": "/^Content-Type: text/ INFO mime\n/exe/ WARN exe\n/X-Part/ IGNORE\n", "n": "/nested/ REPLACE Subject: changed\n",
              "b": "/^body line/ WARN line\n/^\\.dots/ PREPEND ..before\n/^drop/ IGNORE\n/^change/ REPLACE .changed\n/^--AAA$/ INFO boundary\n/^end/ INFO\n"}
    parameters = {"h": "smtp_header_checks", "m": "smtp_mime_header_checks", "n": "smtp_nested_header_checks", "b": "smtp_body_checks"}
    settings = {parameters[k]: f"regexp:ETC/{k}" for k in kinds} | {"body_checks_size_limit": "10000000"}
    ours, our_log = run("postern", settings, tables, messages)
    theirs, their_log = run("postfix", settings, tables, messages)
    own = rb"^(Received|Message-Id|Date):(?:.|\r\n[ \t])*\r\n"
    for n, ((r1, m1), (r2, m2)) in enumerate(zip(ours, theirs)):
        strip = [[(s, r, re.sub(own, b"", c, flags=re.M)) for s, r, c in m] for m in (m1, m2)]
        assert strip[0] == strip[1], n
    logged = re.compile(r"smtp\[\d+\]: (?:warning: |[0-9A-F]+: )((?:unsupported|reject|warning|info|strip|replace|prepend).*)")
    assert sorted(logged.findall(our_log)) == sorted(logged.findall(their_log)) != []


@needs_postfix
def test_characters_are_taken_out_or_refused_as_in_postfix():
    contents = [b"Subject: a~b\r\n\r\nc~\x01d\r\n~.\r\n~~\r\nplain\r\n", b"Subject: x\r\n\r\nbad \x02 byte\r\n", b"Subject: \xe9\r\n\r\nbad\r\n",
                b"Subject: x\r\n\r\n" + b"long ~ body\r\n" * 20000]
    messages = [("s@x.test", ["r@y.test"], b"From: f@x.test\r\n" + content) for content in contents]
    settings = {"message_strip_characters": "~\\001\\n", "message_reject_characters": "\\2\\351"}
    ours, our_log = run("postern", settings, {}, messages)
    theirs, their_log = run("postfix", settings, {}, messages)
    own = rb"^(Received|Message-Id|Date):(?:.|\r\n[ \t])*\r\n"
    for n, ((r1, m1), (r2, m2)) in enumerate(zip(ours, theirs)):
        assert (r1.code, r1.text.split("queued")[0]) == (r2.code, r2.text.split("queued")[0]), n
        strip = [[(s, r, re.sub(own, b"", c, flags=re.M)) for s, r, c in m] for m in (m1, m2)]
        assert strip[0] == strip[1], n
    assert actions(our_log) == actions(their_log) != []


@needs_postfix
def test_malformed_mime_is_refused_as_in_postfix():
    def message(head, body):
        return "s@x.test", ["r@y.test"], b"From: f@x.test\r\nMIME-Version: 1.0\r\n" + head + b"\r\n\r\n" + body
    nested = b"".join(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (i, i + 1) for i in range(8))
    messages = [message(b"Content-Type: multipart/mixed; boundary=b0", nested), message(b"Content-Type: text/plain", b"caf\xe9\r\n"),
                message(b"X-Y: caf\xe9\r\nContent-Type: text/plain", b"cafe\r\n"),
                message(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64", b"cafe\r\n"),
                message(b"Content-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: quoted-printable", b"--x\r\n\r\nt\r\n--x--\r\n"),
                message(b"Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit", b"caf\xe9\r\n"),
                message(b"Content-Type: text/plain\r\nContent-Transfer-Encoding: bogus", b"cafe\r\n")]
    settings = {"mime_nesting_limit": "5", "strict_8bitmime": "yes", "strict_mime_encoding_domain": "yes"}
    ours, our_log = run("postern", settings, {}, messages, quiet=1.0)
    theirs, their_log = run("postfix", settings, {}, messages, quiet=1.0)
    for (r1, _), (r2, _) in zip(ours, theirs):
        assert (r1.code, r1.text.split("queued")[0]) == (r2.code, r2.text.split("queued")[0])
    assert actions(our_log) == actions(their_log)


def test_headers_of_strangers_are_left_alone(make_mail, sink):
    content = b"From: joe\r\nTo: a (c), b@host\r\nX-A: 1\r\n\r\nx\r\n"
    mail = make_mail(relay=sink, settings={"local_header_rewrite_clients": "", "myorigin": "origin.test"})
    assert send("joe", ["r@far.test"], content, port=mail.port).code == 250
    got = sink.wait(lambda m: m.recipients == ["r@far.test"]).content
    assert got.endswith(content) and b"\nDate:" not in got
    mail.settings["remote_header_rewrite_domain"] = "domain.invalid"
    mail.write_config()
    mail.reload()
    time.sleep(1)
    assert send("joe", ["r2@far.test"], content, port=mail.port).code == 250
    got = sink.wait(lambda m: m.recipients == ["r2@far.test"]).content
    assert b"From: joe@domain.invalid\r\nTo: a@domain.invalid (c), b@host\r\n" in got.replace(b"b@host.domain.invalid", b"b@host")


def test_a_table_that_fails_keeps_mail_out(make_mail, sink):
    for name in ("canonical_maps", "virtual_alias_maps", "recipient_bcc_maps", "header_checks"):
        mail = make_mail(relay=sink, settings={name: "fail:broken", "smtpd_reject_unlisted_recipient": "no"})
        assert send("a@x.test", ["b@far.test"], b"From: a@x.test\r\n\r\nx\r\n", port=mail.port).code == 451, name
        mail.stop()


@pytest.mark.parametrize("target", ["postern", pytest.param("postfix", marks=needs_postfix)])
def test_generic_maps_change_what_leaves(target):
    settings = {"smtp_generic_maps": "texthash:ETC/generic", "propagate_unmatched_extensions": "generic", "recipient_delimiter": "+"}
    tables = {"generic": "me@x.test isp@y.test\n@lan.test @wan.test\nyou@x.test you@y.test\n"}
    body = b"..dots\r\n" + b"y" * 200 + b"\r\n"
    content = b"From: Me <me@x.test>\r\nTo: you@x.test,\r\n\tb@lan.test\r\nSubject: me@x.test\r\n\r\n" + body
    result, _ = run(target, settings, tables, [("me+e@x.test", ["you@x.test", "b@lan.test"], content)])
    reply, arrived = result[0]
    assert reply.code == 250
    assert {s for s, _, _ in arrived} == {"isp+e@y.test"}
    assert sorted(r for _, rs, _ in arrived for r in rs) == ["b@wan.test", "you@y.test"]
    for _, _, c in arrived:
        assert header(c, b"From") == b"Me <isp@y.test>" and header(c, b"To") == b"you@y.test,b@wan.test"
        assert header(c, b"Subject") == b"me@x.test" and c.endswith(b"\r\n\r\n" + body)


def test_trace_address_tells_which_setting_decides(make_mail, sink):
    mail = make_mail(relay=sink, start=False, settings={
        "recipient_delimiter": "+", "mydestination": "local.test", "virtual_alias_maps": "inline:{info@x.test=anna@local.test}",
        "relay_domains": "relay.test", "transport_maps": "inline:{relay.test=slow:[mx.test]}", "relocated_maps": "inline:{gone@far.test=new@y.test}"})
    mail.write_config()
    with open(f"{mail.etc}/main.cf", encoding="ascii") as f:
        line = {text.split(" =")[0]: n for n, text in enumerate(f, 1)}

    def trace(*args, status=0):
        done = mail.command("postfix", "trace-address", *args, check=False)
        assert done.returncode == status, done.stdout
        return done.stdout

    alias = trace("info+x@x.test")
    assert f'has "info@x.test": "anna@local.test"  ({mail.etc}/main.cf, line {line["virtual_alias_maps"]})' in alias
    assert f"class: local, by mydestination ({mail.etc}/main.cf, line {line['mydestination']})" in alias and "recipient: <anna+x@local.test>" in alias
    relayed = trace("--from", "a@b.test", "u@relay.test")
    assert f"next hop: [mx.test], by transport_maps ({mail.etc}/main.cf, line {line['transport_maps']})" in relayed and "transport: slow" in relayed
    assert "5.1.6 User has moved to new@y.test" in trace("gone@far.test", status=1)
    assert "is no address" in trace("no address", status=1)
    assert "usage" in trace(status=1)
    assert not sink.messages


@pytest.mark.parametrize("limit", ["1", "3"])
def test_aliases_that_go_in_circles_end(limit, make_mail, sink):
    mail = make_mail(relay=sink, settings={"virtual_alias_maps": "inline:{a@x.test=b@x.test, b@x.test=a@x.test, c@x.test=d@x.test}",
                                           "virtual_alias_recursion_limit": limit, "smtpd_reject_unlisted_recipient": "no"})
    answer = send("s@y.test", ["a@x.test"], b"Subject: x\r\n\r\nx\r\n", port=mail.port)
    assert answer.code == 451 and answer.enhanced == "4.6.0"
    assert send("s@y.test", ["c@x.test"], b"Subject: x\r\n\r\nx\r\n", port=mail.port).code == 250
    assert sink.wait(lambda m: True).recipients == ["d@x.test"]
