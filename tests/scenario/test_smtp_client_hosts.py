# SPDX-License-Identifier: Apache-2.0
"""Which hosts smtp tries, in which order, as the DNS says. The next hop is "domain:port", because the sinks can't have port 25."""
import re
import time

import pytest

from harness import reply, send
from harness.dns import Dns
from harness.sink import close, reset

BODY = b"Subject: x\r\n\r\nhi\r\n"
CALM = {"minimal_backoff_time": "100s", "maximal_backoff_time": "100s", "queue_run_delay": "100s", "resolver_timeout": "3s",
        "smtp_connect_timeout": "2s"}


@pytest.fixture
def sinks(make_sink):
    """Three, at 127.0.0.2 to 4, on one port."""
    first = make_sink(host="127.0.0.2")
    return [first] + [make_sink(host=f"127.0.0.{n}", port=first.port) for n in (3, 4)]


@pytest.fixture
def dns():
    with Dns({"mx1.test": [("A", "127.0.0.2")], "mx2.test": [("A", "127.0.0.3")], "mx3.test": [("A", "127.0.0.4")],
              "far.test": [("MX", 20, "mx2.test"), ("MX", 10, "mx1.test"), ("MX", 30, "mx3.test")]}) as server:
        yield server


@pytest.fixture
def system(make_mail, sinks, dns):
    def make(**settings):
        port = sinks[0].port
        return make_mail(dns=dns, settings=CALM | {"relayhost": f"far.test:{port}"} | settings)
    return make


def submit(mail, to="x@far.test", sender="a@src.test"):
    answer = send(sender, [to] if isinstance(to, str) else to, BODY, port=mail.port)
    assert answer.code == 250, answer
    return str(answer).split("queued as ")[1].split("'")[0].strip("])")


def result(mail, queue_id, to=r"[^>]*", seconds=20):
    return mail.wait_log(rf"{queue_id}: to=<{to}>,.* status=", seconds)[0].text


def test_best_preference_first(system, sinks):
    mail = system()
    line = result(mail, submit(mail))
    assert f"relay=mx1.test[127.0.0.2]:{sinks[0].port}, " in line and "status=sent" in line
    assert [s.sessions for s in sinks] == [1, 0, 0]
    assert not mail.complaints()


def test_backup_takes_over_when_the_first_is_down(system, sinks):
    sinks[0].stop()
    mail = system()
    assert f"relay=mx2.test[127.0.0.3]:{sinks[0].port}, " in result(mail, submit(mail))
    assert mail.log(rf"^connect to mx1.test\[127.0.0.2\]:{sinks[0].port}: Connection refused")
    assert sinks[2].sessions == 0


@pytest.mark.parametrize("stage, action", [
    ("connect", reply("554 5.3.2 no")), ("connect", reply("421 4.3.2 busy")), ("connect", close()), ("mail", reply("451 4.3.0 later")),
    ("rcpt", reply("450 4.2.0 grey")), ("data", reply("451 4.3.0 later")), ("dot", reply("451 4.3.0 later")), ("rcpt", reset()),
])
def test_backup_takes_over_on_temporary_failures(system, sinks, stage, action):
    sinks[0].on(stage, action)
    mail = system()
    assert f"relay=mx2.test[127.0.0.3]:{sinks[0].port}, " in result(mail, submit(mail))


def test_permanent_refusal_is_final(system, sinks):
    sinks[0].on("rcpt", reply("550 5.1.1 no"))
    mail = system()
    line = result(mail, submit(mail, sender=""))
    assert "relay=mx1.test[127.0.0.2]" in line and "status=bounced" in line
    assert sinks[1].sessions == 0


def test_only_the_recipients_that_are_left_go_to_the_backup(system, sinks):
    sinks[0].on("rcpt", reply("450 4.2.0 grey"), match=b"grey")
    sinks[0].on("rcpt", reply("550 5.1.1 no"), match=b"bad")
    mail = system()
    submit(mail, ["grey@far.test", "ok@far.test", "bad@far.test"], sender="")
    assert sinks[1].wait_count(1)[0].recipients == ["grey@far.test"]
    assert sinks[0].wait_count(1)[0].recipients == ["ok@far.test"]


def test_two_sessions_are_tried_at_most(system, sinks):
    for sink in sinks:
        sink.on("mail", reply("451 4.3.0 later"))
    mail = system()
    line = result(mail, submit(mail))
    assert "relay=mx2.test[127.0.0.3]" in line and "status=deferred" in line
    assert [s.sessions for s in sinks] == [1, 1, 0]


def test_refused_connections_do_not_count_as_sessions(system, sinks):
    sinks[0].stop()
    sinks[1].stop()
    mail = system()
    assert "relay=mx3.test[127.0.0.4]" in result(mail, submit(mail))


def test_equal_preferences_share_the_mail(system, sinks, dns):
    dns.zone["far.test"] = [("MX", 10, "mx1.test"), ("MX", 10, "mx2.test"), ("MX", 10, "mx3.test")]
    mail = system(smtp_connection_cache_on_demand="no", smtp_connection_cache_time_limit="0")
    for _ in range(30):
        submit(mail)
    mail.wait_log("status=sent", 30, count=30)
    assert all(s.accepted > 0 for s in sinks)


def test_address_without_mx_takes_mail(system, sinks, dns):
    dns.zone["far.test"] = [("A", "127.0.0.3")]
    mail = system()
    assert "relay=far.test[127.0.0.3]" in result(mail, submit(mail))


def test_host_in_brackets_needs_no_mx(system, sinks, dns):
    mail = system(relayhost=f"[mx2.test]:{sinks[0].port}")
    assert "relay=mx2.test[127.0.0.3]" in result(mail, submit(mail))
    assert ("mx2.test", "MX") not in dns.queries


def test_null_mx_bounces(system, dns):
    dns.zone["far.test"] = [("MX", 0, ".")]
    mail = system()
    assert "relay=none, " in (line := result(mail, submit(mail, sender="")))
    assert "dsn=5.1.10, status=bounced (Domain far.test does not accept mail (nullMX))" in line


def test_unknown_domain_bounces(system, dns):
    del dns.zone["far.test"]
    mail = system()
    assert ("dsn=5.4.4, status=bounced (Host or domain name not found. Name service error for name=far.test type=MX: "
            "Host not found)") in result(mail, submit(mail, sender=""))


@pytest.mark.parametrize("mode", ["servfail", "silent", "refused", "garbage"])
def test_failing_dns_defers(system, dns, mode):
    dns.modes["far.test"] = mode
    mail = system()
    assert ("dsn=4.4.3, status=deferred (Host or domain name not found. Name service error for name=far.test type=MX: "
            "Host not found, try again)") in result(mail, submit(mail))
    dns.modes.clear()
    assert not mail.complaints()


def test_truncated_dns_answer_is_asked_for_again_by_tcp(system, dns):
    dns.modes["far.test"] = "truncated"
    mail = system()
    assert "status=sent" in result(mail, submit(mail))


def test_mx_hosts_without_addresses_bounce(system, dns):
    for name in ("mx1.test", "mx2.test", "mx3.test"):
        dns.zone[name] = []
    mail = system()
    assert "dsn=5.4.3, status=bounced (no MX host for far.test has a valid address record)" in result(mail, submit(mail, sender=""))


def test_mx_hosts_whose_addresses_are_not_known_now_defer(system, dns):
    dns.modes.update({name: "servfail" for name in ("mx1.test", "mx2.test", "mx3.test")})
    mail = system()
    assert "status=deferred" in result(mail, submit(mail))


def test_own_address_among_mx_hosts_ends_the_list(system, sinks, dns):
    dns.zone["far.test"] = [("MX", 10, "mx1.test"), ("MX", 20, "self.test"), ("MX", 30, "mx3.test")]
    dns.zone["self.test"] = [("A", "127.0.0.1")]
    mail = system(smtp_tcp_port=str(sinks[0].port), relayhost="far.test", smtp_mx_session_limit="0")
    sinks[0].stop()
    line = result(mail, submit(mail))
    assert "connect to mx1.test" in line and "status=deferred" in line and sinks[2].sessions == 0


def test_own_address_as_the_best_host_is_a_loop(system, sinks, dns):
    dns.zone["far.test"] = [("MX", 10, "self.test"), ("MX", 30, "mx3.test")]
    dns.zone["self.test"] = [("A", "127.0.0.1")]
    mail = system(smtp_tcp_port=str(sinks[0].port), relayhost="far.test")
    assert "dsn=5.4.6, status=bounced (mail for far.test loops back to myself)" in result(mail, submit(mail, sender=""))


def test_server_with_our_name_is_a_loop(system, sinks):
    sinks[0].on("ehlo", reply("250-mail.test\n250 PIPELINING"))
    mail = system(smtp_tcp_port=str(sinks[0].port), relayhost="far.test")
    assert "mail for far.test loops back to myself" in result(mail, submit(mail, sender=""))


def test_fallback_relay_takes_what_cannot_be_reached(system, sinks, dns):
    del dns.zone["far.test"]
    mail = system(smtp_fallback_relay=f"[127.0.0.4]:{sinks[0].port}")
    assert "relay=127.0.0.4[127.0.0.4]" in result(mail, submit(mail))


def test_a_list_of_next_hops_is_tried_in_order(system, sinks):
    sinks[0].stop()
    port = sinks[1].port
    mail = system(relayhost="", default_transport=f"smtp:[127.0.0.2]:{port}, [127.0.0.4]:{port}")
    assert "relay=127.0.0.4[127.0.0.4]" in result(mail, submit(mail))


def test_relayhost_by_address_asks_no_resolver(make_mail, sink, dns):
    mail = make_mail(dns=dns, relay=sink)
    assert "status=sent" in result(mail, submit(mail))
    assert not dns.queries and not mail.processes("resolver")


def test_without_dns_hosts_come_from_the_system(system, sinks):
    mail = system(disable_dns_lookups="yes", relayhost=f"localhost:{sinks[0].port}")
    line = result(mail, submit(mail))
    assert f"connect to localhost[127.0.0.1]:{sinks[0].port}: Connection refused" in line


def test_resolver_that_died_is_only_a_delay(system, sinks):
    mail = system(smtp_connection_cache_time_limit="0")
    assert "status=sent" in result(mail, submit(mail))
    mail.kill("resolver")
    line = result(mail, submit(mail))
    assert "status=sent" in line or "dsn=4.4.3" in line
    time.sleep(1.2)
    assert "status=sent" in result(mail, submit(mail))
    assert not re.search("panic", mail.tail(100))
