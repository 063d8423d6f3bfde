# SPDX-License-Identifier: Apache-2.0
"""Tables in data bases and servers, asked through proxymap by smtpd: found, not found, and every kind of failure, which defers."""
import os
import re
import socket
import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import Client
from harness.databases import MariaDB, Memcached, OpenLDAP, PostgreSQL, Redis
from harness.instance import build_dir, owner

ODD = ("o'k@b.test", 'q"q@b.test', "p*p@b.test", "br(k)@b.test")


class SQLite:
    """The same handles as a server has; a kill takes the file away."""
    @classmethod
    def unavailable(cls):
        return ""

    def __init__(self):
        import tempfile
        self.base = tempfile.mkdtemp(prefix="db-")
        os.chmod(self.base, 0o755)

    def __enter__(self):
        with sqlite3.connect(f"{self.base}/d") as db:
            db.execute("CREATE TABLE a (k TEXT, v TEXT)")
        return self

    def __exit__(self, *_):
        import shutil
        shutil.rmtree(self.base)

    def kill(self):
        os.rename(f"{self.base}/d", f"{self.base}/gone")

    def start(self):
        os.rename(f"{self.base}/gone", f"{self.base}/d")


def quoted(text):
    return text.replace("\\", "\\\\").replace("'", "''")


def fill_sql(db, pairs):
    rows = ",".join(f"('{quoted(k)}','{quoted(v)}')" for k, v in pairs)
    if isinstance(db, SQLite):
        with sqlite3.connect(f"{db.base}/d") as connection:
            connection.executemany("INSERT INTO a VALUES (?,?)", pairs)
    elif isinstance(db, MariaDB):
        db.run("CREATE DATABASE d; CREATE TABLE d.a (k VARCHAR(200), v VARCHAR(200)); CREATE USER u@'%' IDENTIFIED BY 'p$w';"
               "GRANT SELECT ON d.* TO u@'%'; INSERT INTO d.a VALUES " + rows)
    else:
        db.run("CREATE TABLE a (k TEXT, v TEXT)")
        db.run("INSERT INTO a VALUES " + rows)


def fill_ldap(db, pairs):
    text = "dn: dc=test\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: test\n\n"
    for n, (key, value) in enumerate(pairs):
        text += f"dn: uid=u{n},dc=test\nobjectClass: inetOrgPerson\nuid: u{n}\ncn: {value}\nsn: x\nmail: {key}\n\n"
    db.add(text)


SQL = "query = SELECT v FROM a WHERE k = '%s'\ntimeout = 2\nretry_interval = 1\n"


def source(db):
    """type and configuration file for a filled server."""
    if isinstance(db, SQLite):
        return "sqlite", f"dbpath = {db.base}/d\n" + SQL
    if isinstance(db, MariaDB):
        return "mysql", (f"hosts = unix:{db.base}/none inet:127.0.0.1:{db.port}\nuser = u\npassword = p$w\ndbname = d\n"
                         "option_group =\n" + SQL)
    if isinstance(db, PostgreSQL):
        return "pgsql", f"hosts = 127.0.0.1:{db.port}\nuser = postgres\ndbname = postgres\n" + SQL
    return "ldap", (f"server_host = 127.0.0.1:{db.port}\nversion = 3\nbind_dn = {db.admin}\nbind_pw = {db.password}\n"
                    "search_base = dc=test\nquery_filter = (mail=%s)\nresult_attribute = cn\ntimeout = 2\nretry_interval = 1\n")


def write(mail, name, text):
    """A source that only root may read: proxymap opens it before it gives root up."""
    path = f"{mail.etc}/{name}"
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o600)
    return path


def started(make_mail, sink, restrictions, sources, **settings):
    """restrictions and settings name a source as <NAME>."""
    mail = make_mail(relay=sink, start=False)
    mail.settings["shlib_directory"] = f"{os.path.abspath(build_dir())}/lib/table"
    mail.settings["smtpd_recipient_restrictions"] = restrictions
    mail.settings.update(settings)
    for name, (kind, text) in sources.items():
        path = write(mail, name, text)
        for key, value in mail.settings.items():
            mail.settings[key] = value.replace(f"<{name}>", f"{kind}:{path}")
    mail.write_config()
    mail.start()
    return mail


def rcpt(mail, recipient):
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        assert smtp.cmd("MAIL FROM:<a@src.test>").code == 250
        return smtp.cmd(f"RCPT TO:<{recipient}>")


def code(mail, recipient):
    return rcpt(mail, recipient).code


@pytest.mark.parametrize("server", [SQLite, MariaDB, PostgreSQL, OpenLDAP])
def test_a_data_base_answers_fails_and_comes_back(make_mail, sink, server):
    if server.unavailable():
        pytest.skip(server.unavailable())
    pairs = [("a@b.test", "550 found it"), *((key, "551 odd") for key in ODD)]
    with server() as db:
        (fill_ldap if server is OpenLDAP else fill_sql)(db, pairs)
        mail = started(make_mail, sink, "check_recipient_access <it>", {"it": source(db)})
        assert "found it" in rcpt(mail, "a@b.test").text
        for key in ODD:
            local, domain = key.split("@")
            escaped = local.replace("\\", "\\\\").replace('"', '\\"')
            assert code(mail, f'"{escaped}"@{domain}') == 551, key
        for key in ("none@b.test", '"\' OR \'1\'=\'1"@b.test', '"*"@b.test', '")(mail=*"@b.test', '"x\'/**/UNION/**/SELECT/**/1--"@b.test', '"\\\\\' OR 1=1 -- "@b.test'):
            assert code(mail, key) == 250, key
        db.kill()
        assert rcpt(mail, "none2@b.test").code == 451
        assert code(mail, "a@c.test") == 451, "not found is what only a server can say"
        db.start()
        mail.wait(lambda: code(mail, "none3@b.test") == 250, 30, "the table to answer again")
        assert code(mail, "a@b.test") == 550
        if hasattr(db, "freeze"):
            db.freeze()
            assert code(mail, "none4@b.test") == 451
            db.thaw()
            mail.wait(lambda: code(mail, "none5@b.test") == 250, 30, "the table to answer again")
        assert not mail.complaints()


def test_a_slow_data_base_does_not_hold_up_others(make_mail, sink):
    if PostgreSQL.unavailable():
        pytest.skip(PostgreSQL.unavailable())
    with PostgreSQL() as db, SQLite() as other:
        fill_sql(db, [("a@b.test", "550 slow")])
        fill_sql(other, [("a@c.test", "551 fast")])
        mail = started(make_mail, sink, "check_recipient_access <fast>, check_recipient_access <slow>",
                       {"slow": source(db), "fast": source(other)})
        assert code(mail, "a@b.test") == 550
        db.freeze()
        replies = []
        askers = [threading.Thread(target=lambda n=n: replies.append(code(mail, f"x{n}@d.test"))) for n in range(12)]
        for asker in askers:
            asker.start()
        assert code(mail, "a@c.test") == 551
        assert len(replies) < 12, "those who wait for the slow one still wait"
        for asker in askers:
            asker.join()
        assert replies == [451] * 12
        db.thaw()


def test_proxymap_has_given_up_root_and_answers_only_what_is_named(make_mail, sink):
    with SQLite() as db:
        fill_sql(db, [("a@b.test", "550 found")])
        mail = started(make_mail, sink, "check_recipient_access proxy:<named>, check_recipient_access proxy:<other>",
                       {"named": source(db), "other": source(db)}, proxy_read_maps="proxy:<named>")
        assert code(mail, "a@b.test") == 550
        assert code(mail, "x@b.test") == 451, "what is not approved is no 'not found'"
        assert mail.wait_log(r"request for unapproved table: \"proxy:sqlite:.*other\"")
        pid = mail.processes("proxymap")[0]
        pid = getattr(pid, "pid", pid)
        with open(f"/proc/{pid}/status") as f:
            status = f.read()
        assert re.search(r"^NoNewPrivs:\s*1$", status, re.M)
        if os.geteuid() == 0:
            import pwd
            uid = pwd.getpwnam(owner()[0]).pw_uid
            assert re.search(rf"^Uid:\s*{uid}\s+{uid}\s+{uid}\s+{uid}$", status, re.M)
            assert re.search(r"^CapEff:\s*0+$", status, re.M)
            assert re.search(r"^CapBnd:\s*0+$", status, re.M)
        if re.search(r"^Seccomp:\s*0$", status, re.M):
            with open(f"{build_dir()}/config.h") as f:
                assert "define POSTERN_SANITIZERS 1" in f.read(), "no filter of system calls"
        assert not mail.complaints()


def test_a_missing_module_names_its_package(tmp_path):
    (tmp_path / "main.cf").write_text(f"shlib_directory = {tmp_path}\n")
    (tmp_path / "x.cf").write_text("query = SELECT 1\ndbpath = x\n")
    result = subprocess.run([f"{build_dir()}/tools/postmap", "-c", tmp_path, "-q", "a", f"sqlite:{tmp_path}/x.cf"],
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "need the package postern-sqlite" in result.stderr


class Answering(threading.Thread):
    """A server that answers each request with the bytes that answer(request) gives; None: it closes the connection."""
    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            while request := connection.recv(65536):
                answer = self.answer(request)
                if answer is None:
                    return
                connection.sendall(answer)

    def close(self):
        self.listener.close()


def netstring(text):
    return f"{len(text)}:{text},".encode()


@pytest.mark.parametrize("kind", ["tcp", "socketmap"])
def test_what_a_server_of_lookups_answers(make_mail, sink, kind):
    lines = {"found": b"200 550%20found%20it\n", "none": b"500 no\n", "temp": b"400 later\n", "odd": b"700 what\n", "bad": b"200 x%zz\n",
             "nul": b"200 x%00y\n", "long": b"200 " + b"x" * 5000 + b"\n", "empty": b"\n"}
    strings = {"found": netstring("OK 550 found it"), "none": netstring("NOTFOUND "), "temp": netstring("TEMP later"),
               "odd": netstring("MAYBE x"), "bad": b"7:OK x", "nul": netstring("OK x\0y"), "long": b"100001:x", "empty": netstring(""),
               "time": netstring("TIMEOUT x"), "perm": netstring("PERM x"), "head": b"x:OK y,"}
    answers = lines if kind == "tcp" else strings

    def answer(request):
        for name, text in answers.items():
            if f"{name}@" in request.decode().replace("%40", "@"):
                return text
        return None if b"close" in request else answers["none"]
    server = Answering(answer)
    where = f"tcp:127.0.0.1:{server.port}" if kind == "tcp" else f"socketmap:inet:127.0.0.1:{server.port}:name"
    mail = started(make_mail, sink, f"check_recipient_access {where}", {})
    for name in answers:
        if name == "bad" and kind == "socketmap":
            continue  # it would wait for the rest
        assert code(mail, f"{name}@b.test") == {"found": 550, "none": 250}.get(name, 451), name
    assert code(mail, "close@b.test") == 451
    assert code(mail, "found@b.test") == 550, "good again after bad answers"
    server.close()
    assert not mail.complaints()


def test_after_a_reload_nobody_waits_for_what_the_old_proxymap_waits_for(make_mail, sink):
    asked, go = threading.Event(), threading.Event()

    def answer(request):
        if b"slow" in request:
            asked.set()
            go.wait(90)
        return b"500 no\n"
    server = Answering(answer)
    mail = started(make_mail, sink, f"check_recipient_access tcp:127.0.0.1:{server.port}", {})
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(code, mail, "slow@b.test")
        try:
            assert asked.wait(30)
            mail.reload()
            mail.wait_log(r"reload -- version")
            assert code(mail, "fast@b.test") == 250
            assert not slow.done(), "it was to wait all the while"
        finally:
            go.set()
        assert slow.result(60) == 250, "what the old one was asked is answered"
    server.close()
    assert not mail.complaints()


@pytest.mark.parametrize("server", [Memcached, Redis])
def test_memcache_and_redis_answer_and_fail(make_mail, sink, server):
    if server.unavailable():
        pytest.skip(server.unavailable())
    name = "memcache" if server is Memcached else "redis"
    text = "{} = inet:127.0.0.1:{}\nkey_format = acc:%s\nmax_try = 1\ntimeout = 2\n"
    with server() as cache:
        value = "550 cached"
        cache.say(f"set acc:a@b.test 0 0 {len(value)}\r\n{value}\r\n" if server is Memcached else f"SET acc:a@b.test \"{value}\"\r\n")
        mail = started(make_mail, sink, "check_recipient_access <it>", {"it": (name, text.format(name, cache.port))})
        assert code(mail, "a@b.test") == 550
        assert code(mail, "c@b.test") == 250
        assert code(mail, '"a b"@b.test') == 250, "a key that can't be in it"
        cache.kill()
        assert code(mail, "d@b.test") == 451
        cache.start()
        mail.wait(lambda: code(mail, "d@b.test") == 250, 20, "the table to answer again")
        assert not mail.complaints()
