# SPDX-License-Identifier: Apache-2.0
"""Servers of data bases from Debian, each in a directory of its own, on 127.0.0.1 and a Unix socket, with nothing of the system's
configuration. They run as their own user where they refuse to be root.

    with MariaDB() as db:                # MariaDB(certificates) for one with TLS
        db.run("CREATE TABLE ...")
        db.kill(); db.start()          # the data stay
        db.freeze(); db.thaw()         # connections stand open, nothing is answered
"""
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .instance import free_port


def _user(name):
    """Arguments of Popen that make the child this user, where we can and have it."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return {}
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


class Certificates:
    """An authority (ca.pem), what it signed (server for localhost and 127.0.0.1, elsewhere for another host, client), and an authority that
    nobody trusts (other.pem). Each key stands beside its certificate: server.key."""
    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="certs-")
        os.chmod(self.base, 0o755)
        for name in ("ca", "other"):
            self._make(name, f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE")
        self._make("server", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", issuer="ca")
        self._make("elsewhere", "/CN=elsewhere.test", "-addext", "subjectAltName=DNS:elsewhere.test", issuer="ca")
        self._make("client", "/CN=client", "-addext", "extendedKeyUsage=clientAuth", issuer="ca")
        os.chmod(f"{self.base}/client.key", 0o644)

    def __getattr__(self, name):
        return f"{self.base}/{name}.pem"

    def key(self, name):
        return f"{self.base}/{name}.key"

    def _make(self, name, subject, *extensions, issuer=None):
        command = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, *extensions, "-keyout", self.key(name)]
        if issuer is None:
            subprocess.run([*command, "-x509", "-days", "2", "-out", f"{self.base}/{name}.pem"], check=True, capture_output=True)
            return
        request = f"{self.base}/{name}.csr"
        subprocess.run([*command, "-out", request], check=True, capture_output=True)
        subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", f"{self.base}/{issuer}.pem", "-CAkey", self.key(issuer), "-days", "2",
                        "-copy_extensions", "copy", "-out", f"{self.base}/{name}.pem"], check=True, capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.base, ignore_errors=True)


class Server:
    program = ""
    user = ""

    def __init__(self, certificates=None):
        """certificates: it knows TLS."""
        self.base = tempfile.mkdtemp(prefix="db-")
        os.chmod(self.base, 0o755)
        self.owner = _user(self.user) if self.user else {}
        if self.owner:
            os.chown(self.base, self.owner["user"], self.owner["group"])
        self.port = free_port()
        self.process = None
        self.certificates = certificates
        if certificates:
            self.take_certificate("server")
        self.make()

    def take_certificate(self, name):
        """From its next start on it is who this certificate says."""
        c = self.certificates
        for file, source in (("tls.pem", f"{c.base}/{name}.pem"), ("tls.key", c.key(name)), ("ca.pem", c.ca)):
            shutil.copyfile(source, f"{self.base}/{file}")
            os.chmod(f"{self.base}/{file}", 0o600)
            if self.owner:
                os.chown(f"{self.base}/{file}", self.owner["user"], self.owner["group"])

    @classmethod
    def unavailable(cls):
        return "" if cls.find(cls.program) else f"no {cls.program}"

    @staticmethod
    def find(program):
        places = ["/usr/sbin", "/usr/bin", *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
        return next((f"{p}/{program}" for p in places if os.access(f"{p}/{program}", os.X_OK)), None)

    def make(self):
        pass

    def arguments(self):
        raise NotImplementedError

    def is_ready(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def start(self, seconds=60):
        with open(f"{self.base}/log", "ab") as log:
            self.process = subprocess.Popen(self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.base,
                                            **self.owner)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if self.is_ready():
                    return self
            except (OSError, subprocess.SubprocessError):
                pass
            time.sleep(0.1)
        with open(f"{self.base}/log", errors="replace") as log:
            raise RuntimeError(f"{self.program} does not start: {log.read()[-2000:]}")

    def kill(self):
        if self.process:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _signal(self, number):
        """To the server and its children: PostgreSQL's make sessions of their own."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True).stdout
        for pid in (self.process.pid, *map(int, children.split())):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def freeze(self):
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def tool(self, *args, stdin=None):
        return subprocess.run(args, input=stdin, capture_output=True, text=True, check=True, timeout=120, cwd=self.base,
                              **self.owner).stdout

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.base, ignore_errors=True)


class MariaDB(Server):
    program = "mariadbd"
    user = "mysql"

    def make(self):
        self.socket = f"{self.base}/sock"
        subprocess.run(["/usr/bin/mariadb-install-db", "--no-defaults", f"--datadir={self.base}/data", "--skip-test-db",
                        "--auth-root-authentication-method=normal", *(["--user=mysql"] if self.owner else [])],
                       check=True, capture_output=True, timeout=120)

    def arguments(self):
        return [self.find(self.program), "--no-defaults", f"--datadir={self.base}/data", f"--socket={self.socket}",
                *([f"--ssl-cert={self.base}/tls.pem", f"--ssl-key={self.base}/tls.key", f"--ssl-ca={self.base}/ca.pem"] if self.certificates else []),
                f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={self.base}/pid", "--skip-name-resolve",
                "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=2", "--key-buffer-size=1M"]

    def is_ready(self):
        return self.run("SELECT 1") == "1\n"

    def run(self, sql):
        return self.tool("/usr/bin/mariadb", "--no-defaults", f"--socket={self.socket}", "-uroot", "-N", "-B", "-e", sql)


class PostgreSQL(Server):
    program = "postgres"
    user = "postgres"

    def make(self):
        self.socket = f"{self.base}/.s.PGSQL.{self.port}"
        self.tool(self.find("initdb"), "-D", f"{self.base}/data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        if self.certificates:
            with open(f"{self.base}/data/pg_hba.conf", "w") as f:
                f.write("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")

    def arguments(self):
        return [self.find(self.program), "-D", f"{self.base}/data", "-k", self.base, "-p", str(self.port), "-h", "127.0.0.1", "-F",
                "-c", "shared_buffers=8MB", *(["-c", "ssl=on", "-c", f"ssl_cert_file={self.base}/tls.pem", "-c", f"ssl_key_file={self.base}/tls.key"]
                                              if self.certificates else [])]

    def is_ready(self):
        return self.run("SELECT 1") == "1\n"

    def run(self, sql):
        return self.tool(self.find("psql"), "-X", "-q", "-At", "-h", self.base, "-p", str(self.port), "-U", "postgres", "-c", sql)


class OpenLDAP(Server):
    program = "slapd"
    admin, password = "cn=admin,dc=test", "secret"

    def make(self):
        os.mkdir(f"{self.base}/data")
        self.uri, self.secure_port = f"ldap://127.0.0.1:{self.port}", free_port() if self.certificates else 0
        tls = (f"TLSCACertificateFile {self.base}/ca.pem\nTLSCertificateFile {self.base}/tls.pem\nTLSCertificateKeyFile {self.base}/tls.key\n"
               "TLSVerifyClient allow\nauthz-regexp uid=([^,]*),cn=[^,]*,cn=auth uid=$1,dc=test\nauthz-regexp ^cn=client$ uid=admin,dc=test\n"
               "sasl-host localhost\n") if self.certificates else ""
        with open(f"{self.base}/slapd.conf", "w") as f:
            f.write("include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n"
                    "include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
                    f"{tls}pidfile {self.base}/pid\nallow bind_v2\ndatabase mdb\nmaxsize 10485760\nsuffix dc=test\nrootdn {self.admin}\n"
                    f"rootpw {self.password}\ndirectory {self.base}/data\naccess to * by anonymous auth by users read\n")

    def arguments(self):
        return [self.find(self.program), "-f", f"{self.base}/slapd.conf", "-h",
                f"{self.uri} ldaps://127.0.0.1:{self.secure_port} ldapi://{self.base.replace('/', '%2F')}%2Fsock" if self.certificates else self.uri, "-d", "0"]

    def add(self, ldif):
        self.tool("/usr/bin/ldapadd", "-x", "-H", self.uri, "-D", self.admin, "-w", self.password, stdin=ldif)


class Memcached(Server):
    program = "memcached"

    def arguments(self):
        return [self.find(self.program), "-l", "127.0.0.1", "-p", str(self.port), "-m", "8", "-t", "1",
                *(["-u", "nobody"] if os.geteuid() == 0 else [])]

    def say(self, text):
        """Sends a command, gives what comes until the end of a line."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            s.sendall(text.encode())
            return s.makefile("r", newline="\r\n").readline().strip()


class Redis(Memcached):
    program = "redis-server"

    def arguments(self):
        return [self.find(self.program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.base]
