# SPDX-License-Identifier: Apache-2.0
"""A receiving SMTP (or LMTP) server with programmable behaviour, for tests.

    with Sink() as sink:                         # 127.0.0.1, a free port: sink.port
        sink.on("rcpt", reply("550 5.1.1 no such user"), match=b"nobody@")      # by pattern, for ever
        sink.on("dot", reply("451 4.3.0 later"), times=2)                       # the next two messages
        sink.on("body", reset(), after=10000)                                   # RST after 10,000 bytes of content
        ...
        message = sink.wait(lambda m: b"Subject: x" in m.content)               # bounded; raises TimeoutError
        assert message.recipients == ["a@far.test"]

Stages: connect (the greeting), ehlo, helo, lhlo, starttls, mail, rcpt, data, body (while the content comes in), dot (the
answer to the content), rset, noop, vrfy, quit, other. A rule replaces what the server would do there. Actions:
    reply("450 4.2.0 text")   that reply; lines are split at "\\n"; it counts for the transaction as the code says
    hang()                    never an answer; ends when the client goes away or the sink stops
    close(), reset()          FIN, RST; with text first: close("421 4.3.2 bye")
    raw(b"...")               these bytes as they are, then go on (nonsense, an unfinished line, two replies at once)
    drip("250 ok", 1.0)       the reply, one byte each so many seconds
    delay(2.0)                wait, then do what comes without the rule
Rules are tried in the order in which they were added; `sink.clear()` forgets them; rule.hits counts.

The switches pipelining, starttls (a self-signed certificate is made on demand), size, eightbit, lmtp, extra are attributes and may be
changed while it runs. A rule at "starttls" keeps the offer but breaks the promise: raw(b"220 go\\r\\nnonsense\\r\\n").
sink.messages holds what was accepted (answered 2xx at the dot); sink.refused what was received whole but not accepted.
sink.transcript holds (session, line) for each command line, the latest 10,000. `on_message` is called, in the sink's thread,
for each accepted message before the client is told; with keep=False nothing is stored.
The server runs in a thread of its own; all methods may be called from any thread.
"""
import asyncio
import collections
import dataclasses
import os
import re
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time


@dataclasses.dataclass
class Action:
    kind: str
    text: str | bytes | None = None
    seconds: float = 0.0


def reply(text):
    return Action("reply", text)


def hang():
    return Action("hang")


def close(text=None):
    return Action("close", text)


def reset(text=None):
    return Action("reset", text)


def raw(data):
    return Action("raw", data)


def drip(text, seconds=1.0):
    return Action("drip", text, seconds)


def delay(seconds):
    return Action("delay", None, seconds)


@dataclasses.dataclass
class Rule:
    stage: str
    action: Action
    times: int | None = None   # None: for ever
    match: bytes | None = None  # regular expression searched in the command line (at the dot: in the content)
    after: int = 0             # for "body": bytes of content that are read first
    chance: float = 1.0        # applies with this probability
    hits: int = 0


@dataclasses.dataclass
class Received:
    sender: str
    mail_parameters: str
    recipients: list
    recipient_parameters: list
    content: bytes             # lines end with CRLF, dots unstuffed
    session: int
    number: int                # of the message in its session, from 1
    helo: str
    tls: bool
    time: float
    answer: str = ""

    def header(self, name):
        """The value of the first header of that name, unfolded; None if there is none."""
        head = self.content.split(b"\r\n\r\n", 1)[0]
        found = re.search(rb"(?im)^" + re.escape(name.encode()) + rb":[ \t]*((?:.*\r?\n[ \t])*.*)", head + b"\r\n")
        return None if not found else re.sub(rb"\r?\n[ \t]+", b" ", found[1]).strip().decode("utf-8", "replace")

    @property
    def body(self):
        return self.content.partition(b"\r\n\r\n")[2]


class Gone(Exception):
    """The client or we ended the session."""


class Sink:
    def __init__(self, host="127.0.0.1", port=0, *, name="sink.test", keep=True, on_message=None):
        self.host, self.port, self.name = host, port, name
        self.keep, self.on_message = keep, on_message
        self.pipelining, self.eightbit, self.starttls, self.lmtp = True, True, False, False
        self.tls = None  # an ssl.SSLContext for STARTTLS, instead of a self-signed certificate
        self.size = 100_000_000
        self.extra = []  # more lines of the answer to EHLO
        self.rules, self.messages, self.refused = [], [], []
        self.transcript = collections.deque(maxlen=10_000)
        self.sessions = 0
        self.open_sessions = 0
        self.most_sessions = 0
        self.accepted = 0
        self.changed = threading.Condition()
        self._loop = self._thread = self._server = None
        self._tasks = set()

    # Life

    def start(self):
        """Listens; the port stays the same over stop() and start()."""
        listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(1000)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(listener,), daemon=True, name=f"sink-{self.port}")
        self._thread.start()
        return self

    def stop(self):
        """Resets every session and closes the port."""
        if self._loop and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join(10)
        self._loop = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _run(self, listener):
        asyncio.set_event_loop(self._loop)
        self._finish = asyncio.Event()
        self._loop.run_until_complete(self._main(listener))
        self._loop.close()

    async def _main(self, listener):
        server = await asyncio.start_server(self._serve, sock=listener, limit=1 << 18)
        await self._finish.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self):
        self._finish.set()

    # What tests program and ask

    def on(self, stage, action, *, times=None, match=None, after=0, chance=1.0):
        rule = Rule(stage, action, times, match, after, chance)
        self.rules.append(rule)
        return rule

    def clear(self):
        self.rules = []

    def wait(self, condition, seconds=15):
        """The first accepted message for which condition(message) holds."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                for message in self.messages:
                    if condition(message):
                        return message
                if not self.changed.wait(max(0, end - time.monotonic())):
                    raise TimeoutError(f"sink {self.host}:{self.port}: no such message within {seconds} s; "
                                       f"{len(self.messages)} accepted, {self.sessions} sessions; last: {list(self.transcript)[-5:]}")

    def wait_count(self, count, seconds=15):
        """Returns the accepted messages once there are that many."""
        end = time.monotonic() + seconds
        with self.changed:
            while self.accepted < count:
                if not self.changed.wait(max(0, end - time.monotonic())):
                    raise TimeoutError(f"sink {self.host}:{self.port}: {self.accepted} of {count} messages within {seconds} s; "
                                       f"{self.sessions} sessions; last: {list(self.transcript)[-5:]}")
            return list(self.messages)

    # The server

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self.sessions += 1
        self.open_sessions += 1
        self.most_sessions = max(self.most_sessions, self.open_sessions)
        try:
            await _Session(self, self.sessions, reader, writer).run()
        except (Gone, OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            _abort(writer)
        finally:
            self.open_sessions -= 1
            self._tasks.discard(task)
            writer.close()

    def _deliver(self, message, accepted):
        if accepted and self.on_message:
            self.on_message(message)
        with self.changed:
            if accepted:
                self.accepted += 1
            if self.keep:
                (self.messages if accepted else self.refused).append(message)
            self.changed.notify_all()

    def _rule(self, stage, line):
        for rule in self.rules:
            if rule.stage != stage or rule.times == 0 or (rule.match and not re.search(rule.match, line, re.S)):
                continue
            if rule.chance < 1 and int.from_bytes(os.urandom(4), "big") >= rule.chance * (1 << 32):
                continue
            if rule.times is not None:
                rule.times -= 1
            rule.hits += 1
            return rule
        return None


def _abort(writer):
    sock = writer.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()


class _Session:
    VERBS = {b"EHLO": "ehlo", b"HELO": "helo", b"LHLO": "lhlo", b"STARTTLS": "starttls", b"MAIL": "mail", b"RCPT": "rcpt",
             b"DATA": "data", b"RSET": "rset", b"NOOP": "noop", b"VRFY": "vrfy", b"QUIT": "quit"}

    def __init__(self, sink, number, reader, writer):
        self.sink, self.number, self.reader, self.writer = sink, number, reader, writer
        self.buffer = bytearray()
        self.helo, self.tls, self.count = "", False, 0
        self.reset()

    def reset(self):
        self.sender, self.parameters, self.recipients, self.rcpt_parameters = None, "", [], []

    async def run(self):
        await self.answer("connect", b"", f"220 {self.sink.name} {'LMTP' if self.sink.lmtp else 'ESMTP'}")
        while True:
            line = await self.line()
            self.sink.transcript.append((self.number, line.decode("utf-8", "replace")))
            stage = self.VERBS.get(line[:8].split(b" ")[0].split(b":")[0].upper(), "other")
            await getattr(self, "do_" + stage)(line)

    # Commands

    async def do_ehlo(self, line):
        self.reset()
        self.helo = line[5:].decode("utf-8", "replace").strip()
        s, features = self.sink, []
        if s.pipelining:
            features.append("PIPELINING")
        if s.eightbit:
            features.append("8BITMIME")
        if s.size:
            features.append(f"SIZE {s.size}")
        if s.starttls and not self.tls:
            features.append("STARTTLS")
        features += ["ENHANCEDSTATUSCODES", *s.extra]
        lines = [s.name] + features
        stage = "lhlo" if line[:1] in b"lL" else "ehlo"
        await self.answer(stage, line, "\n".join(f"250 {text}" for text in lines))

    do_lhlo = do_ehlo

    async def do_helo(self, line):
        self.reset()
        self.helo = line[5:].decode("utf-8", "replace").strip()
        await self.answer("helo", line, f"250 {self.sink.name}")

    async def do_starttls(self, line):
        code = await self.answer("starttls", line, "220 2.0.0 go ahead" if self.sink.starttls else "502 5.5.1 not offered")
        if code == 220:
            self.buffer.clear()
            await self.writer.start_tls(self.sink.tls or server_context())
            self.tls = True
            self.reset()

    async def do_mail(self, line):
        address, parameters = split_path(line)
        if 200 <= await self.answer("mail", line, "250 2.1.0 ok") < 300:
            self.reset()
            self.sender, self.parameters = address, parameters

    async def do_rcpt(self, line):
        address, parameters = split_path(line)
        normal = "250 2.1.5 ok" if self.sender is not None else "503 5.5.1 MAIL first"
        if 200 <= await self.answer("rcpt", line, normal) < 300:
            self.recipients.append(address)
            self.rcpt_parameters.append(parameters)

    async def do_data(self, line):
        normal = "354 go on" if self.recipients else "554 5.5.1 no valid recipients"
        if await self.answer("data", line, normal) == 354:
            await self.content()

    async def do_rset(self, line):
        self.reset()
        await self.answer("rset", line, "250 2.0.0 ok")

    async def do_noop(self, line):
        await self.answer("noop", line, "250 2.0.0 ok")

    async def do_vrfy(self, line):
        await self.answer("vrfy", line, "252 2.0.0 perhaps")

    async def do_other(self, line):
        await self.answer("other", line, "500 5.5.2 what?")

    async def do_quit(self, line):
        await self.answer("quit", line, "221 2.0.0 bye")
        await self.writer.drain()
        raise Gone

    async def content(self):
        early = None  # the code of an answer that comes before the content's end: then there is none at the dot
        rule = self.sink._rule("body", b"")
        if rule:
            while len(self.buffer) < rule.after and b"\r\n.\r\n" not in self.buffer:
                await self.more()
            early = await self.act(rule.action, "body", None)
        data = await self.until_dot()
        self.count += 1
        message = Received(self.sender, self.parameters, self.recipients, self.rcpt_parameters, data, self.number, self.count,
                           self.helo, self.tls, time.time())
        if early is not None:
            message.answer = str(early)
            self.sink._deliver(message, 200 <= early < 300)
            self.reset()
            return
        rule = self.sink._rule("dot", data)
        normal = f"250 2.0.0 ok {self.number}.{self.count}"
        action = rule.action if rule else None
        if action and action.kind == "delay":
            await self.pause(action.seconds)
            action = None
        text = normal if action is None else action.text if action.kind in ("reply", "drip") else ""
        message.answer = text or ""
        accepted = isinstance(text, str) and text[:1] == "2"
        self.sink._deliver(message, accepted)
        times = len(self.recipients) if self.sink.lmtp else 1
        self.reset()
        for _ in range(times):
            if action is None:
                await self.send(normal)
            else:
                await self.act(action, "dot", normal)

    # The wire

    async def answer(self, stage, line, normal):
        """Sends the normal reply or does what a rule says. Returns the code that the client has seen, 0 if none."""
        rule = self.sink._rule(stage, line)
        if rule is None:
            await self.send(normal)
            return int(normal[:3])
        return await self.act(rule.action, stage, normal) or 0

    async def act(self, action, stage, normal):
        text = action.text
        if action.kind == "delay":
            await self.pause(action.seconds)
            if normal is None:
                return None
            await self.send(normal)
            return int(normal[:3])
        if action.kind == "reply":
            await self.send(text)
            return int(text[:3])
        if action.kind == "drip":
            for byte in wire(text):
                self.writer.write(bytes([byte]))
                await self.writer.drain()
                await self.pause(action.seconds)
            return int(text[:3])
        if action.kind == "raw":
            self.writer.write(text)
            await self.writer.drain()
            return 0
        if action.kind == "hang":
            await self.pause(1e6)
        if text:
            await self.send(text)
            await self.writer.drain()
        if action.kind == "reset":
            _abort(self.writer)
        raise Gone

    async def pause(self, seconds):
        """Waits; ends early, with the session, when the client goes away. What it sends meanwhile is kept."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.more(), left)
            except asyncio.TimeoutError:
                return

    async def send(self, text):
        self.writer.write(wire(text))
        if not self.buffer:  # more pipelined commands are at hand: answer them together
            await self.writer.drain()

    async def more(self):
        data = await self.reader.read(1 << 17)
        if not data:
            raise Gone
        self.buffer += data

    async def line(self):
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > 65536:
                raise Gone
            await self.more()
        line = bytes(self.buffer[:end + 1])
        del self.buffer[:end + 1]
        return line.rstrip(b"\r\n")

    async def until_dot(self):
        """Content up to CRLF . CRLF, nothing else ends it."""
        start = 0
        while True:
            if self.buffer[:3] == b".\r\n":
                del self.buffer[:3]
                return b""
            at = self.buffer.find(b"\r\n.\r\n", start)
            if at >= 0:
                data = bytes(self.buffer[:at + 2])
                del self.buffer[:at + 5]
                data = data.replace(b"\r\n.", b"\r\n")
                return data[1:] if data[:1] == b"." else data
            start = max(0, len(self.buffer) - 4)
            await self.more()


def wire(text):
    """A reply as it goes over the line: "250 a\n250 b" becomes 250-a CR LF 250 b CR LF."""
    if isinstance(text, bytes):
        return text
    lines = text.split("\n")
    code = lines[0][:3]
    out = []
    for i, line in enumerate(lines):
        rest = line[4:] if line[:3] == code else line
        out.append(f"{code}{' ' if i == len(lines) - 1 else '-'}{rest}\r\n")
    return "".join(out).encode("utf-8", "surrogateescape")


def split_path(line):
    """(address without <>, parameters) of a MAIL or RCPT line."""
    found = re.match(rb'[^:]*:\s*<((?:"(?:\\.|[^"\\])*"|[^>"])*)>\s*(.*)', line, re.S)
    if not found:
        return line.partition(b":")[2].strip().decode("utf-8", "replace"), ""
    return found[1].decode("utf-8", "replace"), found[2].decode("utf-8", "replace")


_certificate_lock = threading.Lock()
_certificate_dir = None


def certificate(name="localhost"):
    """(certificate file, key file), self-signed, made once in this process."""
    global _certificate_dir
    with _certificate_lock:
        if _certificate_dir is None:
            _certificate_dir = tempfile.TemporaryDirectory(prefix="sink-cert-")
            os.chmod(_certificate_dir.name, 0o755)
        cert, key = (os.path.join(_certificate_dir.name, f"{name}.{kind}") for kind in ("pem", "key"))
        if not os.path.exists(cert):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                            "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert],
                           check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return cert, key


def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    return context
