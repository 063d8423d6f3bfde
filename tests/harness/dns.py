# SPDX-License-Identifier: Apache-2.0
"""A small authoritative name server (UDP and TCP) with programmable behaviour, for tests.

    with Dns({"far.test": [("MX", 10, "mx1.far.test")], "mx1.far.test": [("A", "127.0.0.2")]}) as dns:    # dns.host, dns.port
        dns.mode = "silent"          # no answer at all; "servfail", "refused", "truncated" (UDP says: ask by TCP), "garbage", "slow"
        dns.modes["far.test"] = "servfail"      # for one name
Records: ("A", addr) ("AAAA", addr) ("MX", preference, name) ("CNAME", name) ("TXT", text) ("NS", name). A name without records of the
asked type gives an empty answer, an unknown name NXDOMAIN (with a SOA of ttl 1, so that nothing is cached for long).
dns.queries lists (name, type) as asked. Runs in threads of its own.
"""
import os
import socket
import struct
import threading
import time

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
NAMES = {number: name for name, number in TYPES.items()}


class Dns:
    def __init__(self, zone=None, host="127.0.0.1", port=0, ttl=1):
        self.zone = {name.lower().rstrip("."): records for name, records in (zone or {}).items()}
        self.host, self.port, self.ttl = host, port, ttl
        self.mode, self.modes, self.delay = "", {}, 3.0
        self.queries = []
        self._stop = threading.Event()

    def start(self):
        for _ in range(20):  # the same port for both
            self.udp = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind((self.host, self.port))
            self.tcp = socket.socket(self.udp.family)
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self.tcp.bind((self.host, self.udp.getsockname()[1]))
                break
            except OSError:
                self.udp.close()
                self.tcp.close()
        self.port = self.udp.getsockname()[1]
        self.tcp.listen(50)
        self.udp.settimeout(.2)
        self.tcp.settimeout(.2)
        self._stop.clear()
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self._serve_udp, self._serve_tcp)]
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()
        for thread in self.threads:
            thread.join(5)
        self.udp.close()
        self.tcp.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _serve_udp(self):
        while not self._stop.is_set():
            try:
                data, peer = self.udp.recvfrom(4096)
            except OSError:
                continue
            threading.Thread(target=self._answer_udp, args=(data, peer), daemon=True).start()

    def _answer_udp(self, data, peer):
        try:
            reply = self.answer(data, True)
            if reply:
                self.udp.sendto(reply, peer)
        except (OSError, ValueError, IndexError, struct.error):
            pass

    def _serve_tcp(self):
        while not self._stop.is_set():
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                continue
            threading.Thread(target=self._answer_tcp, args=(connection,), daemon=True).start()

    def _answer_tcp(self, connection):
        with connection:
            connection.settimeout(5)
            try:
                while head := connection.recv(2, socket.MSG_WAITALL):
                    data = connection.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
                    reply = self.answer(data, False)
                    if reply:
                        connection.sendall(struct.pack("!H", len(reply)) + reply)
            except (OSError, ValueError, IndexError, struct.error):
                pass

    def answer(self, data, is_udp):
        """The bytes to send; None for silence."""
        ident, flags = struct.unpack("!HH", data[:4])
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode("latin-1"))
            at += 1 + data[at]
        question = data[12:at + 5]
        kind = NAMES.get(struct.unpack("!H", data[at + 1:at + 3])[0], "?")
        name = ".".join(labels).lower()
        self.queries.append((name, kind))
        mode = self.modes.get(name, self.mode)
        base = 0x8480 | flags & 0x0100  # answer, authoritative, recursion available
        if mode == "silent":
            return None
        if mode == "garbage":
            return data[:2] + os.urandom(40)
        if mode == "slow":
            time.sleep(self.delay)
        if mode == "truncated" and is_udp:
            return struct.pack("!HHHHHH", ident, base | 0x0200, 1, 0, 0, 0) + question
        if mode in ("servfail", "refused"):
            return struct.pack("!HHHHHH", ident, base | {"servfail": 2, "refused": 5}[mode], 1, 0, 0, 0) + question
        return self._normal(ident, base, question, name, kind)

    def _normal(self, ident, base, question, name, kind):
        records, answers, seen = self.zone.get(name), [], set()
        owner = name
        while records is not None and owner not in seen:
            seen.add(owner)
            alias = next((r for r in records if r[0] == "CNAME"), None)
            if alias and kind != "CNAME":
                answers.append(self._record(owner, alias))
                owner = alias[1].lower().rstrip(".")
                records = self.zone.get(owner)
                continue
            answers += [self._record(owner, r) for r in records if r[0] == kind]
            break
        missing = self.zone.get(name) is None and not any(n.endswith("." + name) for n in self.zone)
        authority = [] if answers else [encode_name(name) + struct.pack("!HHIH", 6, 1, self.ttl, 22) + b"\0\0" + struct.pack("!IIIII", 1, 60, 60, 60, self.ttl)]
        return (struct.pack("!HHHHHH", ident, base | (3 if missing else 0), 1, len(answers), len(authority), 0) + question +
                b"".join(answers) + b"".join(authority))

    def _record(self, owner, record):
        kind, value = record[0], record[1:]
        if kind == "A":
            data = socket.inet_pton(socket.AF_INET, value[0])
        elif kind == "AAAA":
            data = socket.inet_pton(socket.AF_INET6, value[0])
        elif kind == "MX":
            data = struct.pack("!H", value[0]) + encode_name(value[1])
        elif kind == "TXT":
            data = bytes([len(value[0])]) + value[0].encode()
        else:
            data = encode_name(value[0])
        return encode_name(owner) + struct.pack("!HHIH", TYPES[kind], 1, self.ttl, len(data)) + data


def encode_name(name):
    out = b""
    for label in name.rstrip(".").split("."):
        if label:
            out += bytes([len(label)]) + label.encode("latin-1")
    return out + b"\0"
