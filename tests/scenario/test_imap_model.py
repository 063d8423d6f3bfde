# SPDX-License-Identifier: Apache-2.0
"""Several sessions on one mailbox, with random commands in each, against a model: no untagged response names what its session does not know,
every sequence number is right, and no flag is lost. IMAP_MODEL_EXAMPLES: how many runs (default 8)."""
import os
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from reading import Reading
from test_imap_extensions import Client

FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "Junk", "Work"]
KEYS = {"SEEN": "\\Seen", "FLAGGED": "\\Flagged", "ANSWERED": "\\Answered", "DELETED": "\\Deleted", "KEYWORD Junk": "Junk", "KEYWORD Work": "Work"}
SESSIONS = 3
session = st.integers(0, SESSIONS - 1)
which = st.integers(0, 30)
command = st.one_of(
    st.tuples(st.just("append"), session, st.sampled_from(FLAGS)),
    st.tuples(st.just("deliver"), session),
    st.tuples(st.just("store"), session, which, st.sampled_from("+-="), st.sampled_from(FLAGS), st.booleans()),
    st.tuples(st.just("expunge"), session),
    st.tuples(st.just("noop"), session),
    st.tuples(st.just("fetch"), session),
    st.tuples(st.just("copy"), session, which),
    st.tuples(st.just("search"), session, st.sampled_from(sorted(KEYS))))


@pytest.fixture(scope="module")
def server():
    with Reading(users=1) as mail:
        yield mail


class Watched(Client):
    """A session with what its client knows: the UIDs behind the numbers (None: not told yet), and flags by UID."""
    def watch(self, mailbox):
        self.uids, self.flags = [], {}
        self.read(self.ok(f"SELECT {mailbox}"))
        self.learn()

    def learn(self):
        """Asks for what the numbers stand for: UIDs that were known must be where they were."""
        before = list(self.uids)
        self.read(self.ok("FETCH 1:* (UID FLAGS)") if self.uids else [])
        for old, new in zip(before, self.uids):
            assert old in (None, new), (before, self.uids)
        known = [uid for uid in self.uids if uid]
        assert known == sorted(set(known)), self.uids

    def read(self, lines):
        for line in lines:
            words = line.split()
            if len(words) < 3 or words[0] != b"*" or not words[1].isdigit():
                continue
            number = int(words[1])
            if words[2] == b"EXISTS":
                assert number >= len(self.uids), (line, self.uids)
                self.uids += [None] * (number - len(self.uids))
            elif words[2] == b"EXPUNGE":
                assert 1 <= number <= len(self.uids), (line, self.uids)
                self.flags.pop(self.uids.pop(number - 1), None)
            elif words[2] == b"FETCH":
                assert 1 <= number <= len(self.uids), (line, self.uids)
                uid = int(re.search(rb"UID (\d+)", line).group(1))
                assert self.uids[number - 1] in (None, uid), (line, self.uids)
                self.uids[number - 1] = uid
                self.flags[uid] = set(re.search(rb"FLAGS \(([^)]*)\)", line).group(1).decode().split()) - {"\\Recent"}


class Model:
    def __init__(self, server, mailbox):
        self.server, self.mailbox, self.flags = server, mailbox, {}
        self.sessions = [Watched(server, n=1) for _ in range(SESSIONS)]
        self.sessions[0].ok(f"CREATE {mailbox}")
        for s in self.sessions:
            s.watch(mailbox)

    def step(self, what, n, *args):
        s = self.sessions[n]
        getattr(self, what)(s, *args)

    def append(self, s, flag):
        lines = s.ok(f"APPEND {self.mailbox} ({flag}) {{}}", b"Subject: x\r\n\r\nx\r\n")
        uid = int(re.search(rb"APPENDUID \d+ (\d+)", lines[-1]).group(1))
        assert not self.flags or uid > max(self.flags)
        self.flags[uid] = {flag}
        s.read(lines)

    def deliver(self, s):
        self.server.put(1, b"Subject: y\n\ny\n", folder=f".{self.mailbox}/")
        s.read(s.ok("NOOP"))
        s.learn()
        for uid in s.uids:
            self.flags.setdefault(uid, set())

    def pick(self, s, at):
        known = [uid for uid in s.uids if uid in self.flags]
        return known[at % len(known)] if known else None

    def store(self, s, at, how, flag, silent):
        uid = self.pick(s, at)
        if uid is None:
            return
        s.read(s.ok(f"UID STORE {uid} {how if how != '=' else ''}FLAGS{'.SILENT' if silent else ''} ({flag})"))
        if how == "+":
            self.flags[uid] |= {flag}
        elif how == "-":
            self.flags[uid] -= {flag}
        else:
            self.flags[uid] = {flag}
        if silent:
            s.flags[uid] = set(self.flags[uid])

    def expunge(self, s):
        s.learn()
        doomed = [u for u in s.uids if u and "\\Deleted" in self.flags.get(u, set())]
        if doomed:
            lines = s.ok("UID EXPUNGE " + ",".join(map(str, doomed)))
            for uid in doomed:
                del self.flags[uid]
            s.read(lines)

    def noop(self, s):
        s.read(s.ok("NOOP"))

    def fetch(self, s):
        s.learn()

    def copy(self, s, at):
        uid = self.pick(s, at)
        if uid is None:
            return
        lines = s.ok(f"UID COPY {uid} {self.mailbox}")
        made = int(re.search(rb"COPYUID \d+ %d (\d+)" % uid, lines[-1]).group(1))
        self.flags[made] = set(self.flags[uid])
        s.read(lines)

    def search(self, s, key):
        s.read(s.ok("NOOP"))
        s.learn()
        before = set(s.uids)
        lines = s.ok(f"UID SEARCH {key}")
        found = next(line for line in lines if line.startswith(b"* SEARCH"))
        s.read(lines)
        got = {int(word) for word in found.split()[2:]} & before & set(self.flags)
        assert got == {uid for uid in before if KEYS[key] in self.flags.get(uid, ())}, (key, found, before, self.flags)

    def end(self):
        for s in self.sessions:
            s.read(s.ok("NOOP"))
            s.learn()
            s.read(s.ok("NOOP"))
            assert s.uids == sorted(self.flags), (s.uids, self.flags)
            assert {u: s.flags[u] for u in s.uids} == self.flags
            s.ok("LOGOUT")


def test_sessions_see_one_mailbox(server):
    runs = iter(range(10000))

    @settings(max_examples=int(os.environ.get("IMAP_MODEL_EXAMPLES", "8")), deadline=None, database=None,
              suppress_health_check=list(HealthCheck), phases=[Phase.generate], derandomize="IMAP_MODEL_EXAMPLES" not in os.environ)
    @given(st.lists(command, min_size=10, max_size=40))
    def run(steps):
        model = Model(server, f"Box{next(runs)}")
        try:
            for step in steps:
                model.step(*step)
            model.end()
        finally:
            for s in model.sessions:
                s.s.close()

    run()
