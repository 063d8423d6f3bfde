#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Read and write Postfix queue files. The format is that of Postfix 3.7 to 3.12.

usage: queue_file.py show FILE                          the message as JSON
       queue_file.py content FILE > CONTENT.eml         the content alone, lines ended by LF
       queue_file.py make ENVELOPE.json CONTENT.eml > FILE
       queue_file.py log FILE                           a bounce, defer or trace log as JSON

A message is {"kind": "queue" | "maildrop", "size": {...}, "envelope": {...}, "extracted": {...}, "content": text}.
The two envelope segments map names to values in the order of the records; a name that FIELDS does not have is a named
attribute. The recipients come last, as a list of {"address", "original", "dsn_original", "notify", "status"}.
`make` computes "size" but for its "sendopts", and "flags" if given. Text is UTF-8; other bytes are kept as surrogates.
"""
import json, sys
from dataclasses import dataclass

FIELDS = {"T": "arrival_time", "L": "content_filter", "I": "inspector", "F": "full_name", "S": "sender",
          "V": "verp", ">": "redirect", "W": "warn_time"}
LETTERS = {name: letter for letter, name in FIELDS.items()}
PSEUDO = {"c": "create_time", "i": "envelope_id", "<": "ret_flags", "n": "notify_flags", "o": "dsn_orig_rcpt"}
STATUS = {"R": "todo", "D": "done", "/": "cancelled"}
STATUS_LETTERS = {name: letter for letter, name in STATUS.items()}
OBSOLETE = "reP"  # return-receipt, errors-to, priority: nobody looks at them
LAST_WINS = {"content_filter", "inspector", "redirect", "envelope_id", "ret_flags", "encoding"}
NUMBERS = {"create_time", "ret_flags", "trace_flags", "warn_time"}
SEGMENT = {"envelope": "CTLIFSVW>A" + "RD/OKp" + "ci<no" + OBSOLETE, "content": "NLwp"}
SEGMENT["extracted"] = SEGMENT["envelope"].replace("C", "")
SIZE = ["content_bytes", "content_offset", "recipients", "flags", "content_length", "sendopts"]
FLAGS_KNOWN = 0x1f    # bit 0: recipients are mixed with other records; bits 1-4: notify flags of all recipients
NOTIFY = {"never": 1, "success": 2, "failure": 4, "delay": 8}
LINE_LIMIT = 2048     # line_length_limit
BACK_JUMPS = 10000


class QueueFileError(ValueError):
    """The bytes are not a queue file that a mail system should deliver."""


def bad(offset, text):
    raise QueueFileError(f"offset {offset}: {text}")


def text_of(data):
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text):
    return str(text).encode("utf-8", "surrogateescape")


# Records

@dataclass
class Record:
    offset: int
    type: str
    data: bytes
    end: int


def record_at(data, offset):
    """The record at offset: a type byte, the length in 7-bit groups (lowest first, high bit: more), that many bytes."""
    if offset >= len(data):
        bad(offset, "the file ends without an end record")
    length, pos = 0, offset + 1
    for shift in (0, 7, 14, 21, 28):
        if pos >= len(data):
            bad(offset, "the file ends in a record's length")
        byte = data[pos]
        pos += 1
        length |= (byte & 0x7f) << shift
        if byte < 0x80:
            break
    else:
        bad(offset, "record length of more than five bytes")
    if pos + length > len(data):
        bad(offset, f"record of {length} bytes, but {len(data) - pos} are left")
    return Record(offset, chr(data[offset]), data[pos:pos + length], pos + length)


def encode_record(letter, data=b""):
    if not isinstance(data, bytes):
        data = bytes_of(data)
    if letter not in "NLw" and any(c in data for c in b"\0\r\n"):
        raise QueueFileError(f"NUL or line break in record {letter}: {data!r}")
    out, rest = bytearray(letter.encode("latin-1")), len(data)
    while True:
        out.append(rest & 0x7f | (0x80 if rest > 0x7f else 0))
        rest >>= 7
        if not rest:
            return bytes(out) + data


def walk(data, offset=0):
    """Records in the order that a reader sees them: pointers are yielded, then followed. Ends after the end record."""
    seen, jumps = 0, 0
    while True:
        record = record_at(data, offset)
        yield record
        offset = record.end
        if record.type == "E":
            return
        if record.type == "p":
            target = number(record, record.data)
            if target > len(data):
                bad(record.offset, f"pointer to {target}, past the end of the file")
            if target:
                jumps += target <= seen
                if jumps > BACK_JUMPS:
                    bad(record.offset, "too many backward pointers")
                offset = seen = target


def number(record, text):
    text = text.strip()
    if not text.isdigit():
        bad(record.offset, f"not a number: {text_of(text)!r} in record {record.type}")
    return int(text)


# Reading

def parse(data):
    """A queue file's bytes as a message. Raises QueueFileError."""
    size = parse_size(record_at(data, 0)) if data[:1] == b"C" else None
    message = {"kind": "queue" if size else "maildrop", "size": size or {}, "envelope": {}, "extracted": {}, "warnings": []}
    segment, builder, content_start, content, found = "envelope", SegmentReader(message, "envelope"), 0, [], 0
    for record in walk(data):
        if segment == "envelope" and record.type == "M":
            builder.close()
            segment, content_start = "content", record.end
        elif segment == "content" and record.type == "X":
            segment, builder = "extracted", SegmentReader(message, "extracted")
            if size and (content_start, record.offset) != (size["content_offset"], size["content_offset"] + size["content_bytes"]):
                bad(0, "the size record does not say where the content begins and ends")
        elif segment == "extracted" and record.type == "E":
            builder.close()
        elif record.type not in SEGMENT[segment]:
            bad(record.offset, f"unexpected record {record.type!r} in the {segment} segment")
        elif segment == "content":
            if record.type in "NL":
                content += [record.data, b"\n"] if record.type == "N" else [record.data]
        else:
            builder.add(record)
            found += record.type in STATUS
    check_message(message, size, found)
    message["content"] = b"".join(content)
    return message


def parse_size(record):
    fields = record.data.split()
    if len(fields) < 3:
        bad(0, "size record with fewer than three numbers")
    size = dict(zip(SIZE, [number(record, f) for f in fields[:6]] + [0] * 6))
    if not size["content_bytes"] or not size["content_offset"]:
        bad(0, "unfinished file: the size record is still zero")
    if size["flags"] & ~FLAGS_KNOWN:
        bad(0, f"unknown flags in the size record: {size['flags']}")
    return size


class SegmentReader:
    """Collects the records of one envelope segment."""
    def __init__(self, message, name):
        self.message, self.out, self.recipients, self.parts = message, message[name], [], {}

    def add(self, record):
        letter, value = record.type, text_of(record.data.split(b"\0")[0])
        if letter == "C" and not self.message["size"]:  # in a maildrop file of Postfix 3.11: only the send options count
            self.message["size"]["sendopts"] = number(record, (record.data.split() + [b"0"] * 6)[5])
        if letter in "CKp" + OBSOLETE:
            return
        name = FIELDS.get(letter) or PSEUDO.get(letter)
        if letter == "A":
            name, equals, value = (part.strip() for part in value.partition("="))
            if not name or not equals:
                bad(record.offset, f"attribute without a name or '=': {value!r}")
        if letter in STATUS:
            notify = [n for n, bit in NOTIFY.items() if self.parts.get("notify_flags", 0) & bit]
            self.recipients.append({"address": value, "original": self.parts.get("original"), "status": STATUS[letter],
                                    "dsn_original": self.parts.get("dsn_orig_rcpt"), "notify": notify})
            self.parts = {}
        elif letter == "O":
            self.parts["original"] = value
        elif name == "dsn_orig_rcpt":
            self.parts[name] = value
        elif name == "notify_flags":
            if value.isascii() and value.isdigit() and (value == "1" or 0 < int(value) < 16 and not int(value) & 1):
                self.parts[name] = int(value)
            else:
                self.message["warnings"].append(f"ignored: notify_flags={value}")
        else:
            self.set(record, name, value)

    def set(self, record, name, value):
        if name in self.out and name not in LAST_WINS and not name.startswith("log_client_"):
            return
        if name == "arrival_time":
            value = [number(record, f) for f in bytes_of(value).split()[:2]]
            value += [0] * (2 - len(value))
        elif name in NUMBERS:
            digits = value.strip().removeprefix("-")
            if not (digits.isascii() and digits.isdigit()) or name == "ret_flags" and value not in ("1", "2"):
                self.message["warnings"].append(f"ignored: {name}={value}")
                return
            value = int(value)
        self.out[name] = value

    def close(self):
        if self.parts:
            self.message["warnings"].append(f"no recipient follows {self.parts}")
        self.out["recipients"] = self.recipients


def check_message(message, size, found):
    both = {**message["extracted"], **message["envelope"]}
    if "sender" not in both:
        bad(0, "no sender record")
    if not both.get("arrival_time", [size is None])[0]:
        bad(0, "no arrival time record")
    if size and size["recipients"] != found:
        message["warnings"].append(f"the size record counts {size['recipients']} recipients, there are {found}")
    if not found:
        message["warnings"].append("no recipients: Postfix removes such a file and tells nobody")


# Writing

def build(message):
    """A message's queue file. Raises QueueFileError where its reader would not take it."""
    recipients = [r for s in ("envelope", "extracted") for r in message.get(s, {}).get("recipients", [])]
    if not recipients or not message.get("content"):
        raise QueueFileError("a queue file needs a recipient and some content")
    head = b"" if message.get("kind") == "maildrop" else bytes(97)
    head += encode_segment(message["envelope"]) + encode_record("M")
    content = encode_content(message["content"])
    data = head + content + encode_record("X") + encode_segment(message.get("extracted", {})) + encode_record("E")
    if message.get("kind") != "maildrop":
        flags = sum(NOTIFY[n] << 1 for n in NOTIFY if any(n in r.get("notify", ()) for r in recipients))
        given = message.get("size", {})
        size = [len(content), len(head), len(recipients), given.get("flags", flags), len(content), given.get("sendopts", 0)]
        data = encode_record("C", " ".join(f"{n:15}" for n in size)) + data[97:]
    parse(data)
    return data


def encode_segment(segment):
    out = b""
    for name, value in segment.items():
        if name == "recipients":
            out += b"".join(map(encode_recipient, value))
        elif name == "arrival_time":
            out += encode_record("T", "%d %d" % tuple(value))
        elif name == "warn_time":
            out += encode_record("W", f"{value:15}")
        elif name in LETTERS:
            out += encode_record(LETTERS[name], value)
        else:
            out += encode_record("A", f"{name}={value}")
    return out


def encode_recipient(recipient):
    notify, out = sum(NOTIFY[n] for n in recipient.get("notify", ())), b""
    if notify:
        out += encode_record("A", f"notify_flags={notify}")
    if recipient.get("dsn_original"):
        out += encode_record("A", f"dsn_orig_rcpt={recipient['dsn_original']}")
    if recipient.get("original") is not None:
        out += encode_record("O", recipient["original"])
    return out + encode_record(STATUS_LETTERS[recipient.get("status", "todo")], recipient["address"])


def encode_content(content):
    """A record for each line. Longer lines are cut as Postfix does: a header over, a body line at or over the limit."""
    out, header = [], True
    lines = content.split(b"\n")
    for i, line in enumerate(lines):
        header = header and line != b""
        while len(line) > LINE_LIMIT or len(line) == LINE_LIMIT and not header:
            out.append(encode_record("L", line[:LINE_LIMIT]))
            line = line[LINE_LIMIT:]
        if i < len(lines) - 1:
            out.append(encode_record("N", line))
        elif line:  # the last line has no newline
            out.append(encode_record("L", line))
    return b"".join(out)


# File names

SAFE = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"


def to_base(value, base, width=0):
    digits = ""
    while value:
        value, digit = divmod(value, base)
        digits = SAFE[digit] + digits
    return digits.rjust(width, "0")


def from_base(text, base):
    value = 0
    for c in text:
        digit = SAFE.find(c)
        if not 0 <= digit < base:
            raise QueueFileError(f"not a base-{base} digit: {c!r}")
        value = value * base + digit
    return value


def short_id(microseconds, inode):
    return f"{microseconds:05X}{inode:X}"


def long_id(seconds, microseconds, inode):
    return to_base(seconds, 52, 6) + to_base(microseconds, 52, 4) + "z" + to_base(inode, 51)


def split_id(queue_id):
    """(seconds or None, microseconds, inode)"""
    at = queue_id.rfind("z")
    if at >= 10:
        return from_base(queue_id[:at - 4], 52), from_base(queue_id[at - 4:at], 52), from_base(queue_id[at + 1:], 51)
    return None, int(queue_id[:5], 16), int(queue_id[5:], 16)


def queue_path(queue, queue_id, hashed=("deferred", "defer"), depth=1):
    """The path below the queue directory; long ids are hashed by their microseconds, written as in a short id."""
    key = queue_id
    if queue_id.rfind("z") >= 10:
        key = f"{split_id(queue_id)[1]:05X}"
    levels = list(key.ljust(depth, "_")[:depth]) if queue in hashed else []
    return "/".join([queue, *levels, queue_id])


# Log files

def parse_log(data):
    """The entries of a bounce, defer or trace log: one dict for each."""
    entries = []
    for block in data.split(b"\n\n"):
        entry = {}
        for line in filter(None, text_of(block).split("\n")):
            name, equals, value = line.partition("=")
            if line[0] == "<" and ">: " in line:
                entry["recipient"], entry["reason"] = line[1:].split(">: ", 1)
            elif equals and line[0].isalnum():
                entry[name.strip()] = value.strip()
            else:
                raise QueueFileError(f"malformed log line: {line!r}")
        if entry:
            entries.append(entry)
    return entries


def build_log(entries):
    """Log text as bounce writes it: each entry with a line of the old form first."""
    order = ("recipient original_recipient offset dsn_orig_rcpt notify_flags status action diag_type diag_text mta_type"
             " mta_mname reason").split()
    out = ""
    for e in entries:
        first = "" if e["recipient"] == "<>" else e["recipient"]
        out += f"\n<{first}>: {e['reason']}\n" + "".join(f"{n}={e[n]}\n" for n in order if n in e) + "\n"
    return bytes_of(out)


def main(argv):
    if len(argv) == 3 and argv[1] in ("show", "content", "log"):
        with open(argv[2], "rb") as f:
            data = f.read()
        if argv[1] == "content":
            sys.stdout.buffer.write(parse(data)["content"])
            return
        shown = parse_log(data) if argv[1] == "log" else parse(data)
        json.dump(shown, sys.stdout, indent=1, default=text_of)
        print()
    elif len(argv) == 4 and argv[1] == "make":
        with open(argv[2], encoding="utf-8") as f:
            message = json.load(f)
        with open(argv[3], "rb") as f:
            message["content"] = f.read().replace(b"\r\n", b"\n")
        sys.stdout.buffer.write(build(message))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv)
    except (QueueFileError, OSError, KeyError) as e:
        sys.exit(f"queue_file.py: {e}")
