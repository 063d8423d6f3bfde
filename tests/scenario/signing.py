# SPDX-License-Identifier: Apache-2.0
"""Signed messages by the programs that people sign with, and their judgement of what arrived."""
import base64
import os
import re
import shutil
import subprocess
import tempfile

TEXT = b"Lines that tend to be mistreated:\r\n.\r\n..dot\r\n trailing \t \r\n\r\n-- \r\n- dash\r\n>From quoted\r\ngr\xc3\xbc\xc3\x9fe \xff\x80\x01\r\n" + b"x" * 990 + b"\r\n\r\n"
PART = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + TEXT
HEAD = (b"From: Signer <signer@src.test>\r\nTo: \"A, B\" <b@far.test>,\r\n\tc@far.test\r\nSubject:  two  blanks and\r\n folded \r\n"
        b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <%s@src.test>\r\n")


def missing():
    """Why nothing can be signed here; "" if it can."""
    absent = [p for p in ("openssl", "gpg") if not shutil.which(p)]
    try:
        import dkim  # noqa: F401
    except ImportError:
        absent.append("python3-dkim")
    return f"not here: {', '.join(absent)}" if absent else ""


def run(*argv, data=b"", env=None):
    done = subprocess.run(argv, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, env={"PATH": "/usr/bin:/bin", **(env or {})})
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")


def must(*argv, **options):
    status, out, text = run(*argv, **options)
    assert status == 0, (argv, text)
    return out


def signed_part(protocol, signature, header):
    return (b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=sha-256;\r\n protocol=\"" + protocol + b"\"; boundary=\"bound\"\r\n\r\n--bound\r\n" +
            PART + b"\r\n--bound\r\nContent-Type: " + protocol + header + b"\r\n\r\n" + signature.replace(b"\n", b"\r\n") + b"\r\n--bound--\r\n")


class Signer:
    KINDS = ("smime", "smime-opaque", "pgp", "dkim-simple", "dkim-relaxed")

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="sign-")
        os.chmod(self.top, 0o700)
        self.gpg = {"GNUPGHOME": self.top}
        must("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{self.top}/key", "-out", f"{self.top}/cert", "-days", "30",
             "-subj", "/CN=signer/emailAddress=signer@src.test")
        must("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "signer@src.test", "ed25519", "sign", "never", env=self.gpg)
        self.public = must("openssl", "pkey", "-in", f"{self.top}/key", "-pubout", "-outform", "DER")
        with open(f"{self.top}/key", "rb") as f:
            self.key = f.read()

    def close(self):
        run("gpgconf", "--kill", "all", env=self.gpg)
        shutil.rmtree(self.top, ignore_errors=True)

    def cms(self, *args, data):
        return must("openssl", "cms", *args, "-binary", "-outform", "DER", "-signer", f"{self.top}/cert", "-inkey", f"{self.top}/key", data=data)

    def verify_cms(self, der, *args):
        return run("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-CAfile", f"{self.top}/cert", *args, data=der)

    def sign(self, kind):
        """A message, lines ending in CRLF."""
        head = HEAD % kind.encode()
        if kind == "smime-opaque":
            der = self.cms("-sign", "-nodetach", data=PART)
            return (head + b"MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
                    base64.encodebytes(der).replace(b"\n", b"\r\n"))
        if kind == "smime":
            signature = base64.encodebytes(self.cms("-sign", data=PART))
            return head + signed_part(b"application/pkcs7-signature", signature, b"\r\nContent-Transfer-Encoding: base64")
        if kind == "pgp":
            return head + signed_part(b"application/pgp-signature", must("gpg", "--batch", "--armor", "--detach-sign", data=PART, env=self.gpg), b"")
        import dkim
        way = kind.partition("-")[2].encode()
        message = head + b"MIME-Version: 1.0\r\n" + PART
        return dkim.sign(message, b"key", b"src.test", self.key, canonicalize=(way, way), include_headers=[
            b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type", b"content-transfer-encoding"]) + message

    def verify(self, kind, message):
        """"" or what is wrong with it; lines may end in LF."""
        message = re.sub(rb"\r?\n", b"\r\n", message)
        if kind == "smime-opaque":
            status, out, text = self.verify_cms(base64.b64decode(message.partition(b"\r\n\r\n")[2]))
            return "" if status == 0 and out == PART else text
        if kind in ("smime", "pgp"):
            part, signature = re.search(rb"\r\n--bound\r\n(.*)\r\n--bound\r\n.*?\r\n\r\n(.*?)\r\n--bound--", message, re.S).groups()
            with open(f"{self.top}/part", "wb") as f:
                f.write(part)
            if kind == "smime":
                status, _, text = self.verify_cms(base64.b64decode(signature), "-content", f"{self.top}/part")
            else:
                status, _, text = run("gpg", "--batch", "--verify", "-", f"{self.top}/part", data=signature, env=self.gpg)
            return "" if status == 0 and part == PART else text
        import dkim
        record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(self.public)
        return "" if dkim.verify(message, dnsfunc=lambda name, timeout=5: record) else "DKIM does not verify"
