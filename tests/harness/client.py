# SPDX-License-Identifier: Apache-2.0
"""A plain blocking SMTP client for tests that want to say exactly what goes over the wire.

    with Client(instance.port) as smtp:               # connects and reads the greeting
        smtp.ehlo()
        assert smtp.cmd("MAIL FROM:<a@src.test>").code == 250
        reply = smtp.cmd("RCPT TO:<b@far.test>")       # reply.code, .enhanced ("2.1.5" or ""), .text, .lines
        smtp.raw(b"DATA\\r\\n"); smtp.read_reply()       # any bytes, in any pieces
    send("a@src.test", ["b@far.test"], b"Subject: x\\r\\n\\r\\nhello\\r\\n", port=instance.port)    # all in one; returns the last reply
"""
import dataclasses
import re
import socket
import ssl
import struct


@dataclasses.dataclass
class Reply:
    code: int
    lines: list

    @property
    def text(self):
        return "\n".join(self.lines)

    @property
    def enhanced(self):
        found = re.match(r"[245]\.\d{1,3}\.\d{1,3}(?= |$)", self.lines[0])
        return found[0] if found else ""


class Closed(Exception):
    """The server closed or reset the connection."""


class Client:
    def __init__(self, port, host="127.0.0.1", *, timeout=15, greet=True, source=None):
        self.sock = socket.create_connection((host, port), timeout, source_address=(source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.features = {}
        self.greeting = self.read_reply() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Ends the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Closed(str(e)) from e

    def line(self):
        while b"\n" not in self.buffer:
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                raise
            except OSError as e:
                raise Closed(str(e)) from e
            if not data:
                raise Closed(f"end of file, after {self.buffer!r}")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def read_reply(self):
        lines = []
        while True:
            line = self.line()
            if not re.match(r"\d\d\d([ -]|$)", line):
                raise AssertionError(f"not a reply line: {line!r}")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply(int(line[:3]), lines)

    def cmd(self, line):
        self.raw(line.encode("utf-8", "surrogateescape") + b"\r\n" if isinstance(line, str) else line + b"\r\n")
        return self.read_reply()

    def ehlo(self, name="client.test", verb="EHLO"):
        reply = self.cmd(f"{verb} {name}")
        self.features = {line.split(" ")[0].upper(): line.partition(" ")[2] for line in reply.lines[1:]}
        return reply

    def starttls(self):
        """STARTTLS and the handshake; no check of the certificate."""
        reply = self.cmd("STARTTLS")
        if reply.code == 220:
            self.handshake()
        return reply

    def handshake(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)
        self.buffer = b""

    def send(self, sender, recipients, content):
        """One transaction. Returns the reply that decided it. The content is dot-stuffed here; its lines must end with CRLF."""
        reply = self.cmd(f"MAIL FROM:<{sender}>")
        if reply.code != 250:
            return reply
        good = 0
        for recipient in recipients:
            reply = self.cmd(f"RCPT TO:<{recipient}>")
            good += reply.code // 10 == 25
        if not good:
            return reply
        reply = self.cmd("DATA")
        if reply.code != 354:
            return reply
        self.raw(stuff(content) + b".\r\n")
        return self.read_reply()

    def quit(self):
        return self.cmd("QUIT")


def stuff(content):
    if content[:1] == b".":
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..")


def send(sender, recipients, content, *, port, host="127.0.0.1", timeout=15):
    with Client(port, host, timeout=timeout) as smtp:
        smtp.ehlo()
        reply = smtp.send(sender, recipients, content)
        smtp.quit()
        return reply
