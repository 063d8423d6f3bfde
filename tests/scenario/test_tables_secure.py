# SPDX-License-Identifier: Apache-2.0
"""Tables in real servers with TLS, client certificates and SASL, and what ldap_table(5) says of entries that refer to others. An error is
never "not found"."""
import contextlib
import os
import subprocess

import pytest
from harness.databases import Certificates, MariaDB, Memcached, OpenLDAP, PostgreSQL, Redis
from harness.instance import build_dir
from test_tables_remote import code, started

FOUND, NONE, ERROR = "found", "none", "error"


@pytest.fixture(scope="module")
def certificates():
    with Certificates() as made:
        yield made


class Asking:
    def __init__(self, directory):
        self.directory = directory
        self.main_cf = f"compatibility_level=3.6\nmyhostname=h.test\nshlib_directory={os.path.abspath(build_dir())}/lib/table\n"

    def postmap(self, key, table, *more):
        (self.directory / "main.cf").write_text(self.main_cf)
        done = subprocess.run([f"{build_dir()}/tools/postmap", "-c", self.directory, *more, "-q", key, table], capture_output=True, text=True, timeout=60,
                              env={k: v for k, v in os.environ.items() if not k.startswith(("LDAP", "PG", "MYSQL"))})
        self.said = done.stderr
        return done

    def ask(self, kind, text, key="a@b.test"):
        """The value found, or what else came of it."""
        source = self.directory / "source.cf"
        source.write_text("".join(line.strip() + "\n" for line in text.splitlines()))
        done = self.postmap(key, f"{kind}:{source}")
        if done.returncode == 0:
            return done.stdout.rstrip("\n")
        return ERROR if "fatal" in done.stderr else NONE


@pytest.fixture
def asking(tmp_path):
    return Asking(tmp_path)


def need(server):
    if server.unavailable():
        pytest.skip(server.unavailable())


# ---- SQL ----

@pytest.fixture(scope="module")
def mysql(certificates):
    need(MariaDB)
    with MariaDB(certificates) as db:
        db.run("CREATE DATABASE d; CREATE TABLE d.a (k VARCHAR(200), v VARCHAR(200)); INSERT INTO d.a VALUES ('a@b.test','found');"
               "CREATE USER tls@'%' IDENTIFIED BY 'p$w' REQUIRE SSL; CREATE USER cert@'%' IDENTIFIED BY 'pw' REQUIRE X509;"
               "CREATE USER plain@'%' IDENTIFIED BY 'pw'; CREATE USER nobody@'%' IDENTIFIED BY 'pw';"
               "GRANT SELECT ON d.* TO tls@'%'; GRANT SELECT ON d.* TO cert@'%'; GRANT SELECT ON d.* TO plain@'%';"
               "GRANT SELECT ON d.* TO u@localhost IDENTIFIED BY 'pw'")
        yield db


def test_mysql_with_tls(asking, mysql, certificates):
    c = certificates
    base = f"hosts = 127.0.0.1:{mysql.port}\ndbname = d\nquery = SELECT v FROM a WHERE k = '%s'\ntimeout = 5\n"
    tls, cert = base + "user = tls\npassword = p$w\n", base + "user = cert\npassword = pw\n"
    verified = f"tls_CAfile = {c.ca}\ntls_verify_cert = yes\n"
    files = f"tls_cert_file = {c.client}\ntls_key_file = {c.key('client')}\n"
    for what, text, want in (
            ("no TLS is asked for", tls, ERROR),
            ("the server is verified", tls + verified, FOUND),
            ("not verified", tls + f"tls_CAfile = {c.ca}\n", FOUND),
            ("another authority", tls + f"tls_CAfile = {c.other}\ntls_verify_cert = yes\n", ERROR),
            ("another authority, not verified by name", tls + f"tls_CAfile = {c.other}\ntls_verify_cert = no\n", ERROR),
            ("no certificate of ours", cert + verified, ERROR),
            ("a certificate of ours", cert + verified + files, FOUND),
            ("a file that is not there", cert + verified + files.replace("client.pem", "none.pem"), ERROR),
            ("a cipher", tls + verified + "tls_ciphers = ECDHE-RSA-AES256-GCM-SHA384\n", FOUND),
            ("no such cipher", tls + verified + "tls_ciphers = NO-SUCH-CIPHER\n", ERROR),
            ("a wrong password", base + "user = plain\npassword = wrong\n", ERROR),
            ("no right to read", base + "user = nobody\npassword = pw\n", ERROR)):
        assert asking.ask("mysql", text) == want, (what, asking.said)
        assert asking.ask("mysql", text, "x@b.test") == (NONE if want == FOUND else want), what


@contextlib.contextmanager
def elsewhere(db):
    """The server calls itself another host."""
    for name in ("elsewhere", "server"):
        db.kill()
        db.take_certificate(name)
        db.start()
        if name == "elsewhere":
            yield


def test_mysql_refuses_another_host(asking, mysql, certificates):
    text = (f"hosts = 127.0.0.1:{mysql.port}\nuser = tls\npassword = p$w\ndbname = d\nquery = SELECT v FROM a WHERE k = '%s'\n"
            f"tls_CAfile = {certificates.ca}\n")
    with elsewhere(mysql):
        assert asking.ask("mysql", text + "tls_verify_cert = yes\n") == ERROR
        assert asking.ask("mysql", text + "tls_verify_cert = no\n") == FOUND
        for switch in ("tls_verify_cert = true\n", "require_result_set = 0\n"):
            assert asking.ask("mysql", text + switch) == ERROR, "what is neither yes nor no is no no"


def test_mysql_with_an_option_file(asking, mysql, certificates, tmp_path):
    (tmp_path / "my.cnf").write_text(f"[client]\nuser=plain\npassword=wrong\n[mail]\nuser=tls\npassword=p$w\nssl-ca={certificates.ca}\n"
                                     f"ssl-verify-server-cert\nport={mysql.port}\n")
    text = f"hosts = 127.0.0.1\ndbname = d\nquery = SELECT v FROM a WHERE k = '%s'\noption_file = {tmp_path}/my.cnf\n"
    assert asking.ask("mysql", text + "option_group = mail\n") == FOUND, asking.said
    assert asking.ask("mysql", text) == ERROR, "the group client has no port, and a wrong password"
    unix = f"hosts = unix:{mysql.socket}\nuser = u\npassword = pw\ndbname = d\nquery = SELECT v FROM a WHERE k = '%s'\noption_group =\n"
    assert asking.ask("mysql", unix) == FOUND, asking.said


@pytest.fixture(scope="module")
def pgsql(certificates):
    need(PostgreSQL)
    with PostgreSQL(certificates) as db:
        db.run("CREATE TABLE a (k TEXT, v TEXT)")
        db.run("INSERT INTO a VALUES ('a@b.test', 'found')")
        db.run("CREATE ROLE u LOGIN PASSWORD 'p$w'; GRANT SELECT ON a TO u")
        yield db


def test_pgsql_with_tls(asking, pgsql, certificates):
    c = certificates
    query = "query = SELECT v FROM a WHERE k = '%s'\ntimeout = 5\n"

    def uri(mode, root, host="127.0.0.1", password="p%24w"):
        return f"hosts = postgresql://u:{password}@{host}:{pgsql.port}/postgres?sslmode={mode}&sslrootcert={root}\n" + query
    for what, text, want in (
            ("the server is verified", uri("verify-full", c.ca), FOUND),
            ("by its name, too", uri("verify-full", c.ca, "localhost"), FOUND),
            ("by its authority alone", uri("verify-ca", c.ca), FOUND),
            ("another authority", uri("verify-ca", c.other), ERROR),
            ("no TLS", uri("disable", c.ca), ERROR),
            ("a wrong password", uri("require", c.ca, password="wrong"), ERROR),
            ("TLS where the server has it", f"hosts = 127.0.0.1:{pgsql.port}\nuser = u\npassword = p$w\ndbname = postgres\n" + query, FOUND),
            ("a Unix socket", f"hosts = unix:{pgsql.socket}\nuser = u\ndbname = postgres\n" + query, FOUND),
            ("no such data base", f"hosts = unix:{pgsql.socket}\nuser = u\ndbname = nothing\n" + query, ERROR)):
        assert asking.ask("pgsql", text) == want, (what, asking.said)
        assert "p%24w" not in asking.said, "a password in a message"
        assert asking.ask("pgsql", text, "x@b.test") == (NONE if want == FOUND else want), what


# ---- LDAP ----

ENTRIES = """
dn: dc=test
objectClass: dcObject
objectClass: organization
o: x
dc: test

dn: uid=admin,dc=test
objectClass: inetOrgPerson
uid: admin
cn: admin
sn: x
userPassword: secret

dn: ou=b.test,dc=test
objectClass: organizationalUnit
ou: b.test

dn: uid=a,ou=b.test,dc=test
objectClass: inetOrgPerson
uid: a
cn: found
sn: x
mail: a@b.test
description: a terminal value

dn: ou=c.test,dc=test
objectClass: organizationalUnit
ou: c.test

dn: uid=a,ou=c.test,dc=test
objectClass: inetOrgPerson
uid: a
cn: other
sn: x
mail: a@c.test

dn: cn=one,dc=test
objectClass: inetOrgPerson
cn: one
sn: one's leaf
mail: one@b.test
title: one's own

dn: cn=list,dc=test
objectClass: groupOfNames
objectClass: extensibleObject
cn: list
sn: the list's leaf
mail: list@b.test
member: cn=one,dc=test
member: uid=gone,dc=test
labeledURI: ldap:///ou=c.test,dc=test?title,mail,sn?sub?(uid=a)

dn: cn=ring,dc=test
objectClass: groupOfNames
objectClass: extensibleObject
cn: ring
mail: ring@b.test
member: cn=ring,dc=test
"""


@pytest.fixture(scope="module")
def ldap(certificates):
    need(OpenLDAP)
    with OpenLDAP(certificates) as db:
        db.add(ENTRIES.lstrip())
        yield db


def test_ldap_with_tls(asking, ldap, certificates):
    c = certificates
    plain, secure = f"server_host = 127.0.0.1:{ldap.port}\n", f"server_host = ldaps://127.0.0.1:{ldap.secure_port}\n"
    base = f"version = 3\nbind_dn = {ldap.admin}\nbind_pw = {ldap.password}\nsearch_base = dc=test\nquery_filter = (mail=%s)\nresult_attribute = cn\ntimeout = 5\n"
    verified = base + f"tls_ca_cert_file = {c.ca}\ntls_require_cert = yes\n"
    for what, text, want in (
            ("start_tls, verified", plain + verified + "start_tls = yes\n", FOUND),
            ("start_tls, not verified", plain + base + "start_tls = yes\n", FOUND),
            ("start_tls, another authority", plain + base + f"start_tls = yes\ntls_ca_cert_file = {c.other}\ntls_require_cert = yes\n", ERROR),
            ("start_tls, no authority", plain + base + "start_tls = yes\ntls_require_cert = yes\n", ERROR),
            ("start_tls with version 2", plain + base.replace("= 3", "= 2") + "start_tls = yes\n", ERROR),
            ("ldaps, verified", secure + verified, FOUND),
            ("ldaps, not verified", secure + base, FOUND),
            ("ldaps, another authority", secure + base + f"tls_ca_cert_file = {c.other}\ntls_require_cert = yes\n", ERROR),
            ("ldaps behind a server that is down", secure.replace("=", "= ldaps://127.0.0.1:1", 1) + verified, FOUND),
            ("ldaps where TLS is not spoken", f"server_host = ldaps://127.0.0.1:{ldap.port}\n" + verified, ERROR),
            ("ciphers that are not there", secure + verified + "tls_cipher_suite = NO-SUCH\n", ERROR),
            ("a wrong password", (secure + verified).replace("= secret", "= wrong"), ERROR),
            ("a Unix socket", f"server_host = ldapi://{ldap.base.replace('/', '%2F')}%2Fsock\n" + base, FOUND)):
        assert asking.ask("ldap", text) == want, (what, asking.said)
        assert asking.ask("ldap", text, "x@b.test") == (NONE if want == FOUND else want), what


def test_ldap_refuses_another_host(asking, ldap, certificates):
    with elsewhere(ldap):
        for where in (f"ldaps://127.0.0.1:{ldap.secure_port}\n", f"ldap://127.0.0.1:{ldap.port}\nstart_tls = yes\n"):
            text = (f"server_host = {where}version = 3\nbind_dn = {ldap.admin}\nbind_pw = {ldap.password}\nsearch_base = dc=test\nquery_filter = (mail=%s)\n"
                    f"result_attribute = cn\ntls_ca_cert_file = {certificates.ca}\n")
            assert asking.ask("ldap", text + "tls_require_cert = yes\n") == ERROR
            assert asking.ask("ldap", text + "tls_require_cert = no\n") == FOUND


def test_ldap_with_sasl(asking, ldap, certificates):
    c = certificates
    base = (f"server_host = ldap://127.0.0.1:{ldap.port}\nversion = 3\nbind = sasl\nsearch_base = dc=test\nquery_filter = (mail=%s)\nresult_attribute = cn\n"
            "timeout = 5\n")
    login = base + "bind_dn = admin\nbind_pw = secret\n"
    tls = f"start_tls = yes\ntls_ca_cert_file = {c.ca}\ntls_require_cert = yes\n"
    for what, text, want in (
            ("a digest", login + "sasl_mechs = DIGEST-MD5\n", FOUND),
            ("SCRAM", login + "sasl_mechs = SCRAM-SHA-256\n", FOUND),
            ("a choice", login + "sasl_mechs = SCRAM-SHA-256 DIGEST-MD5\n", FOUND),
            ("a wrong password", login.replace("secret", "wrong") + "sasl_mechs = SCRAM-SHA-256\n", ERROR),
            ("no such mechanism", login + "sasl_mechs = NONE-SUCH\n", ERROR),
            ("an identity that is not ours", login + "sasl_mechs = SCRAM-SHA-256\nsasl_authz_id = dn:cn=one,dc=test\n", ERROR),
            ("no strength without TLS", login + "sasl_mechs = SCRAM-SHA-256\nsasl_minssf = 128\n", ERROR),
            ("strength by TLS", login + tls + "sasl_mechs = SCRAM-SHA-256\nsasl_minssf = 128\n", FOUND),
            ("a client's certificate", base + tls + f"tls_cert = {c.client}\ntls_key = {c.key('client')}\nsasl_mechs = EXTERNAL\n", FOUND),
            ("no client's certificate", base + tls + "sasl_mechs = EXTERNAL\n", ERROR),
            ("version 2", login.replace("version = 3", "version = 2"), ERROR)):
        assert asking.ask("ldap", text) == want, (what, asking.said)


def test_ldap_entries_that_refer_to_others(asking, ldap):
    base = (f"server_host = 127.0.0.1:{ldap.port}\nversion = 3\nbind_dn = {ldap.admin}\nbind_pw = {ldap.password}\nsearch_base = dc=test\n"
            "query_filter = (mail=%s)\ntimeout = 5\n")
    special = "special_result_attribute = member, labeledURI\n"
    for what, text, key, want in (
            ("members", base + "result_attribute = title\n" + special, "list@b.test", "one's own"),
            ("a URL's entries", base + "result_attribute = title, mail\n" + special.replace("member,", ""), "list@b.test", "list@b.test,a@c.test"),
            ("all", base + "result_attribute = mail\n" + special, "list@b.test", "list@b.test,one@b.test,a@c.test"),
            ("leaves", base + "result_attribute = title\nleaf_result_attribute = sn\n" + special, "list@b.test", "one's own,one's leaf,x"),
            ("a leaf that is none", base + "result_attribute = title\nleaf_result_attribute = sn\n", "list@b.test", "the list's leaf"),
            ("a terminal value", base + "result_attribute = cn\nterminal_result_attribute = description\n", "a@b.test", "a terminal value"),
            ("no terminal value", base + "result_attribute = cn\nterminal_result_attribute = description\n", "a@c.test", "other"),
            ("a ring", base + "result_attribute = title\n" + special, "ring@b.test", ERROR),
            ("a short one", base + "result_attribute = mail\nrecursion_limit = 3\nspecial_result_attribute = member\n", "list@b.test", "list@b.test,one@b.test"),
            ("too deep", base + "result_attribute = mail\nrecursion_limit = 1\nspecial_result_attribute = member\nsize_limit = 1\n", "ring@b.test", ERROR),
            ("too many", base + "result_attribute = mail\nexpansion_limit = 2\n" + special, "list@b.test", ERROR),
            ("a format", base + "result_attribute = mail\nresult_format = smtp:[%d]\n", "one@b.test", "smtp:[b.test]"),
            ("a base from the key", base.replace("= dc=test", "= ou=%d,dc=test").replace("(mail=%s)", "(uid=%u)") + "result_attribute = cn\n", "a@c.test", "other"),
            ("a base that is not there", base.replace("= dc=test", "= ou=%d,dc=test") + "result_attribute = cn\n", "a@d.test", NONE),
            ("a fixed base that is not there", base.replace("= dc=test", "= ou=none,dc=test") + "result_attribute = cn\n", "a@b.test", ERROR),
            ("one level", base + "scope = one\nresult_attribute = cn\n", "a@b.test", NONE),
            ("one level that has it", base + "scope = one\nresult_attribute = cn\n", "one@b.test", "one"),
            ("a domain that is not ours", base + "domain = c.test\nresult_attribute = cn\n", "a@b.test", NONE),
            ("a domain that is", base + "domain = x.test, c.test\nresult_attribute = cn\n", "a@c.test", "other"),
            ("no domain", base.replace("mail=%s", "uid=%s") + "domain = c.test\nresult_attribute = cn\n", "a", NONE)):
        assert asking.ask("ldap", text, key) == want, (what, asking.said)


# ---- settings in main.cf, by the table's name ----

def test_tables_whose_settings_are_in_main_cf(asking, mysql, pgsql, ldap):
    query = "SELECT v FROM a WHERE k = '%s'"
    password = "p$$w"  # main.cf's values are expanded
    asking.main_cf += (
        f"users_hosts = unix:{mysql.socket}\nusers_user = u\nusers_password = pw\nusers_dbname = d\nusers_option_group =\n"
        "users_select_field = v\nusers_table = a\nusers_where_field = k\nusers_additional_conditions = and 1 = 1\n"
        f"pgusers_hosts = 127.0.0.1:{pgsql.port}\npgusers_user = u\npgusers_password = {password}\npgusers_dbname = postgres\npgusers_query = {query}\n"
        f"people_server_host = 127.0.0.1\npeople_server_port = {ldap.port}\npeople_version = 3\npeople_bind = no\npeople_bind_dn = x\n"
        "people_search_base = dc=test\npeople_query_filter = (mail=%s)\npeople_result_attribute = cn\n"
        f"admins_server_host = ldap://127.0.0.1:{ldap.port}\nadmins_version = 3\nadmins_bind_dn = {ldap.admin}\nadmins_bind_pw = {ldap.password}\n"
        "admins_search_base = $the_base\nthe_base = dc=test\nadmins_query_filter = (mail=%s)\nadmins_result_attribute = cn\nadmins_result_filter = <%s>\n")
    for table, want in (("mysql:users", "found"), ("pgsql:pgusers", "found"), ("ldap:admins", "<found>")):
        done = asking.postmap("a@b.test", table)
        assert (done.returncode, done.stdout) == (0, want + "\n"), (table, done.stderr)
        done = asking.postmap("x@b.test", table)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", ""), table
    assert "fatal" in asking.postmap("a@b.test", "mysql:unheard").stderr and "main.cf has no parameter unheard_" in asking.said
    shown = subprocess.run([f"{build_dir()}/tools/postconf", "-c", asking.directory, "-n"], capture_output=True, text=True, timeout=60)
    assert "unused parameter" in shown.stderr, "no setting names these tables"
    with open(asking.directory / "main.cf", "a") as f:
        f.write("virtual_alias_maps = mysql:users, pgsql:pgusers, ldap:people, ldap:admins\n")
    shown = subprocess.run([f"{build_dir()}/tools/postconf", "-c", asking.directory, "-n"], capture_output=True, text=True, timeout=60)
    assert "unused parameter" not in shown.stderr


# ---- caches before other tables ----

@pytest.mark.parametrize("server", [Memcached, Redis])
def test_a_cache_is_filled_from_its_backup_and_not_needed(asking, tmp_path, server):
    need(server)
    name = "memcache" if server is Memcached else "redis"
    (tmp_path / "backup").write_text("a@b.test found\n")
    subprocess.run([f"{build_dir()}/tools/postmap", "-c", "/dev/null", f"lmdb:{tmp_path}/backup"], capture_output=True, timeout=60)
    (tmp_path / "main.cf").write_text(asking.main_cf)
    subprocess.run([f"{build_dir()}/tools/postmap", "-c", tmp_path, f"lmdb:{tmp_path}/backup"], check=True, timeout=60)
    with server() as cache:
        text = (f"{name} = inet:127.0.0.1:{cache.port}\nbackup = lmdb:{tmp_path}/backup\nkey_format = x:%s\nttl = 600\nmax_try = 1\ntimeout = 2\n"
                "domain = b.test\n")
        get = (lambda key: cache.say(f"get {key}\r\n")) if server is Memcached else (lambda key: cache.say(f"EXISTS {key}\r\n"))
        assert get("x:a@b.test") in ("END", ":0")
        assert asking.ask(name, text) == FOUND, asking.said
        assert get("x:a@b.test") in ("VALUE x:a@b.test 0 5", ":1"), "what the backup has goes to the cache"
        (tmp_path / "backup").write_text("c@b.test other\n")
        subprocess.run([f"{build_dir()}/tools/postmap", "-c", tmp_path, f"lmdb:{tmp_path}/backup"], check=True, timeout=60)
        assert asking.ask(name, text) == FOUND, "from the cache"
        assert asking.ask(name, text, "x@b.test") == NONE
        assert asking.ask(name, text, "c@elsewhere.test") == NONE, "no domain of the table's"
        cache.kill()
        assert asking.ask(name, text, "c@b.test") == "other", "from the backup alone"
        assert asking.ask(name, text, "x@b.test") == NONE
        (tmp_path / "backup.lmdb").unlink()
        assert asking.ask(name, text, "c@b.test") == ERROR, "neither answers"
        cache.start()


# ---- by proxymap, which has given up what it had ----

def test_proxymap_reaches_servers_by_tls(make_mail, sink, mysql, ldap, certificates):
    c = certificates
    sql = (f"hosts = 127.0.0.1:{mysql.port}\nuser = tls\npassword = p$w\ndbname = d\nquery = SELECT '550 no' FROM a WHERE k = '%s'\n"
           f"tls_CAfile = {c.ca}\ntls_verify_cert = yes\n")
    directory = (f"server_host = ldap://127.0.0.1:{ldap.port}\nversion = 3\nbind = sasl\nsasl_mechs = SCRAM-SHA-256\nbind_dn = admin\nbind_pw = secret\n"
                 "search_base = dc=test\nquery_filter = (mail=%s)\nresult_attribute = cn\nresult_format = 551 %s\n"
                 f"start_tls = yes\ntls_ca_cert_file = {c.ca}\ntls_require_cert = yes\n")
    mail = started(make_mail, sink, "check_recipient_access <sql>, check_recipient_access <ldap>", {"sql": ("mysql", sql), "ldap": ("ldap", directory)})
    assert code(mail, "a@b.test") == 550
    assert code(mail, "one@b.test") == 551
    assert code(mail, "x@b.test") == 250
    assert not mail.complaints()
