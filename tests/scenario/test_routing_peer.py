# SPDX-License-Identifier: Apache-2.0
"""Which transport and next hop an address gets: transport_maps in all forms, relayhost, default_transport, sender_dependent_* and relocated_maps, beside Debian's
Postfix. Every transport is a discard(8) with a name of its own in the log, which gives its next hop as reason."""
import re

import pytest

from harness import Instance, send, unavailable

pytestmark = pytest.mark.skipif(bool(unavailable("postfix")), reason=unavailable("postfix") or "-")

TRANSPORTS = ["one", "two", "three", "four", "deflt", "loc", "rel", "virt"]
TABLE = """
u@far.test one:2.1.1 user
u2@far.test one
far.test two:2.1.2 domain
.far.test three:2.1.3 below
colon.test :2.1.4 next hop alone
.colon.test :
only.test two
onlycolon.test two:
host.test two:[gw.test]
hostport.test two:[gw.test]:26
loc@local.test three:2.1.5 local user
rel.test four:2.1.6 relayed
virt.test one:2.1.7 virtual
user+ext@far.test four:2.1.8 extension
user@far.test four:2.1.9 no extension
UPPER.test four:2.2.0 case
bad.test nosuch:x
quoted.test "two:2.1.1 x"
blank.test two: 2.1.1 after a blank
<> four:2.2.1 null
bounce@far.test four:2.2.2 b
"""
ADDRESSES = ["u@far.test", "u2@far.test", "x@far.test", "x@sub.far.test", "x@a.b.far.test", "x@colon.test", "x@sub.colon.test", "x@only.test", "x@onlycolon.test",
             "x@host.test", "x@hostport.test", "loc@local.test", "other@local.test", "x@rel.test", "x@sub.rel.test", "x@virt.test", "user+ext@far.test", "user+e2@far.test",
             "user@far.test", "x@UPPER.TEST", "x@else.test", "x@quoted.test", "x@blank.test", "moved@far.test", "gone@local.test", "x@left.test",
             "moved+e@far.test", "x@[127.0.0.9]", "x@relayed.test", "y@virtual.test", "bounce@far.test"]
SENDERS = ["s@x.test", "dep@x.test", "x@dep.test", "dep+e@x.test", "def@x.test", "x@def.test", "dunno@x.test", "both@x.test", ""]
BASE = {"mydestination": "local.test", "relay_domains": "rel.test relayed.test", "virtual_mailbox_domains": "virt.test virtual.test", "virtual_mailbox_maps": "", "local_recipient_maps": "",
        "local_transport": "loc:2.3.1 local", "relay_transport": "rel:2.3.2 relay", "virtual_transport": "virt:2.3.3 virtual", "default_transport": "deflt:2.3.4 default",
        "recipient_delimiter": "+", "smtpd_reject_unlisted_recipient": "no", "smtpd_relay_restrictions": "permit_mynetworks, reject", "disable_dns_lookups": "yes",
        "bounce_queue_lifetime": "0", "maximal_backoff_time": "1h", "minimal_backoff_time": "1h", "queue_run_delay": "1h", "notify_classes": "",
        "relocated_maps": "texthash:ETC/relocated"}
CASES = {
    "nothing": {},
    "transport_maps": {"transport_maps": "texthash:ETC/transport"},
    "parents": {"transport_maps": "texthash:ETC/transport", "parent_domain_matches_subdomains": ""},
    "catch all": {"transport_maps": "inline:{ {*=four:2.4.1 all} , {far.test=two:2.4.2 far} }"},
    "relayhost": {"relayhost": "[gw.test]:26", "default_transport": "deflt"},
    "relayhost and default": {"relayhost": "2.4.3 relayhost"},
    "relayhost and transport_maps": {"relayhost": "2.4.3 relayhost", "transport_maps": "texthash:ETC/transport"},
    "dependent relayhost": {"relayhost": "2.4.3 relayhost", "default_transport": "deflt", "sender_dependent_relayhost_maps": "texthash:ETC/dependent"},
    "dependent transport": {"sender_dependent_default_transport_maps": "texthash:ETC/default", "sender_dependent_relayhost_maps": "texthash:ETC/dependent",
                            "transport_maps": "texthash:ETC/transport"},
    "empty_address": {"sender_dependent_default_transport_maps": "texthash:ETC/default", "empty_address_default_transport_maps_lookup_key": "def@x.test",
                      "empty_address_relayhost_maps_lookup_key": "dep@x.test", "sender_dependent_relayhost_maps": "texthash:ETC/dependent"},
    "a table that fails": {"transport_maps": "fail:broken"},
    "a dependent table that fails": {"sender_dependent_default_transport_maps": "fail:broken"},
}
TABLES = {
    "transport": TABLE,
    "relocated": "moved@far.test new@y.test\ngone@local.test gone for good\n@left.test nobody here\n",
    "dependent": "dep@x.test 2.5.1 by sender\n@dep.test 2.5.2 by domain\ndunno@x.test DUNNO\nboth@x.test 2.5.3 both\n",
    "default": "def@x.test one:2.6.1 by sender\n@def.test two:2.6.2 by domain\ndunno@x.test DUNNO\nboth@x.test three:\n",
}
FATE = re.compile(r" postfix/(\S+)\[\d+\]: \w+: to=<([^>]*)>,(?: orig_to=<[^>]*>,)? relay=(\S+), .*dsn=(\S+), status=(\w+) \((.*)\)$", re.M)


def fates(target, settings):
    """{(sender, address): what became of it}"""
    mail = Instance(target=target, start=False, services=[f"{name} unix - - n - - discard -o syslog_name=postfix/{name}" for name in TRANSPORTS])
    for name, text in TABLES.items():
        with open(f"{mail.etc}/{name}", "w", encoding="ascii") as f:
            f.write(text)
    mail.settings = {k: v.replace("ETC", mail.inside(mail.etc)) for k, v in (BASE | settings).items()}
    mail.write_config()
    result = {}
    with mail:
        mail.start()
        senders = SENDERS if any("dependent" in name for name in settings) else SENDERS[:1] + SENDERS[-1:]
        for number, sender in enumerate(senders):
            addresses = ADDRESSES if number == 0 else ["x@else.test", "x@far.test", "x@relayed.test", "x@colon.test", "x@only.test"]
            reply = send(sender, addresses, b"Subject: x\r\n\r\nx\r\n", port=mail.port)
            if reply.code != 250:
                result[sender] = reply.code, reply.enhanced
                continue
            ident = re.search(r"queued as (\w+)", reply.text)[1]
            mail.wait_log(rf"{ident}: to=<", count=len(addresses), seconds=60)
            with open(mail.log_file, encoding="utf-8", errors="replace") as f:
                for line in f:
                    found = FATE.search(line) if f" {ident}: to=<" in line else None
                    if found:
                        program, address, relay, dsn, status, why = found.groups()
                        if re.search("address resolver failure|fail:broken", why):
                            why = "a table fails"  # we say which
                        result[sender, address] = (program, relay, dsn, status, why)
    return result


@pytest.mark.parametrize("case", CASES)
def test_addresses_go_where_postfix_sends_them(case):
    ours, peer = (fates(target, CASES[case]) for target in ("postern", "postfix"))
    assert ours and not [f"{key}: {ours.get(key)} != {peer.get(key)}" for key in sorted(set(ours) | set(peer), key=str) if ours.get(key) != peer.get(key)]
