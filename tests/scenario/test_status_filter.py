# SPDX-License-Identifier: Apache-2.0
"""default_delivery_status_filter and its kin: the status of a delivery becomes another one."""
import os

import pytest

from harness import send
from harness.sink import reply

CONTENT = b"From: a@src.test\r\nSubject: x\r\n\r\nhi\r\n"
FILTER = ("pcre:{{/^4(\\.\\d+\\.\\d+) (.*hard.*)/ 5$1 made hard: $2}, {/^5(\\.\\d+\\.\\d+) (.*soft.*)/ 4$1 made soft: $2}, "
          "{/^2\\.0\\.0 .*/ 2.7.7 all is well}, {/wrong/ 2.0.0 was wrong}, {/short/ 5.0.0}}").replace("$", "$$")


def test_statuses_of_smtp(make_mail, sink):
    mail = make_mail(relay=sink, settings={"smtp_delivery_status_filter": FILTER, "queue_run_delay": "1000s", "minimal_backoff_time": "1000s"})
    for name, answer in (("hard", "450 4.2.1 hard"), ("soft", "550 5.1.1 soft"), ("wrong", "550 5.1.1 wrong"), ("short", "550 5.1.1 short")):
        sink.on("rcpt", reply(answer), match=f"<{name}@".encode())
    send("a@src.test", [f"{n}@dst.test" for n in ("good", "hard", "soft", "wrong", "short")], CONTENT, port=mail.port)
    assert "dsn=2.7.7, status=sent (all is well)" in mail.wait_log(r"to=<good@dst\.test>.*status=")[0].text
    assert "dsn=5.2.1, status=bounced (made hard: host " in mail.wait_log(r"to=<hard@dst\.test>.*status=")[0].text
    assert "dsn=4.1.1, status=deferred (made soft: host " in mail.wait_log(r"to=<soft@dst\.test>.*status=")[0].text
    for name in ("wrong", "short"):
        assert "dsn=5.1.1, status=bounced (host " in mail.wait_log(rf"to=<{name}@dst\.test>.*status=")[0].text
    assert len(mail.log(r"delivery status filter: ")) == 2
    told = sink.wait(lambda m: m.sender == "" and m.recipients == ["a@src.test"])
    assert b"made hard" in told.content and b"Status: 5.2.1" in told.content
    assert b"Action: failed" in told.content and b"soft@dst" not in told.content
    mail.wait(lambda: mail.queue_files("deferred")["deferred"], 20, "what became soft is deferred")


@pytest.mark.parametrize("transport", ["local", "virtual", "pipe", "lmtp"])
def test_each_agent_has_one(make_mail, make_sink, transport):
    if os.geteuid():
        pytest.skip("delivers as another user")
    sink = make_sink()
    services = ["filter unix - n n - - pipe user=nobody argv=/bin/false"]
    mail = make_mail(settings={f"{transport}_delivery_status_filter": "static:{5.9.9 filtered}", "mydestination": "local.test", "local_recipient_maps": "",
                               "virtual_mailbox_domains": "virtual.test", "virtual_mailbox_base": "/", "virtual_mailbox_maps": "",
                               "transport_maps": f"inline:{{ pipe.test=filter:, lmtp.test=lmtp:[127.0.0.1]:{sink.port} }}", "notify_classes": ""},
                     services=services)
    sink.lmtp = True
    sink.on("rcpt", reply("550 5.1.1 no"))
    send("", [f"nobody-of-that-name@{transport}.test"], CONTENT, port=mail.port)
    assert "dsn=5.9.9, status=bounced (filtered)" in mail.wait_log(r"status=")[0].text


def test_a_filter_that_fails_changes_nothing(make_mail, sink):
    mail = make_mail(relay=sink, settings={"default_delivery_status_filter": "lmdb:/no/such/table"})
    send("a@src.test", ["b@dst.test"], CONTENT, port=mail.port)
    assert "dsn=2.0.0, status=sent (250 " in mail.wait_log(r"to=<b@dst\.test>.*status=")[0].text
    assert mail.log(r"delivery status filter: ")
