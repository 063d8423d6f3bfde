/* SPDX-License-Identifier: Apache-2.0 */
/* postfix tls: turns TLS on where nothing is set yet, and makes and deploys keys and certificates of the SMTP server. Keys are
 * made and read by the openssl command (openssl_path), as an administrator would do it by hand. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/conf/param.h"
#include "tools/postfix_command.h"

/* What the options of the subcommands say. */
struct tls_options {
    const char *random;    /* -r: for tls_random_source */
    const char *algorithm; /* -a: rsa, ecdsa */
    const char *bits;      /* -b: bits, or the curve's name */
    const char *key;       /* -k */
    const char *host;      /* -h */
    char **words;          /* behind the options */
};

static const struct algorithm {
    const char *name, *key_parameter, *cert_parameter, *prefix, *bits;
} algorithms[] = {
    {"rsa", "smtpd_tls_key_file", "smtpd_tls_cert_file", "", "2048"},
    {"ecdsa", "smtpd_tls_eckey_file", "smtpd_tls_eccert_file", "ec", "prime256v1"},
};

static const struct algorithm *
find_algorithm(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++)
        if (strcmp(algorithms[i].name, name) == 0)
            return &algorithms[i];
    return NULL;
}

static const char *
setting(struct control *c, const char *name)
{
    struct err err;
    const char *value = conf_string(c->conf, c->arena, name, &err);
    return value ? value : "";
}

/* A file's name may be relative to the configuration. */
static const char *
absolute(struct control *c, const char *path)
{
    return *path == '/' ? path : arena_printf(c->arena, "%s/%s", conf_directory(c->conf), path);
}

/* --- are all settings still as they come? --- */

struct defaults {
    const char *prefix;
    bool kept;
};

static void
check_default(void *ctx, const char *name, const char *value)
{
    struct defaults *defaults = ctx;
    int index = param_find(slice_from(name));
    if (strncmp(name, defaults->prefix, strlen(defaults->prefix)) == 0 && index >= 0 &&
        strcmp(param_at((unsigned)index).text, value) != 0)
        defaults->kept = false;
}

static bool
are_defaults(struct control *c, const char *const *prefixes)
{
    for (; *prefixes; prefixes++) {
        struct defaults defaults = {.prefix = *prefixes, .kept = true};
        conf_each_setting(c->conf, check_default, &defaults);
        if (!defaults.kept)
            return false;
    }
    return true;
}

static bool
is_default_client(struct control *c)
{
    static const char *const prefixes[] = {"smtp_tls_", "smtp_use_tls", "smtp_enforce_tls", "smtp_starttls_timeout",
                                           NULL};
    return are_defaults(c, prefixes);
}

static bool
is_default_server(struct control *c)
{
    static const char *const prefixes[] = {"smtpd_tls_", "smtpd_use_tls", "smtpd_enforce_tls", "smtpd_starttls_timeout",
                                           NULL};
    return are_defaults(c, prefixes);
}

/* --- the openssl command --- */

/* Runs it with the words, NULL at the end; its output goes to out, if that is not NULL, else to ours. */
static int
openssl(struct control *c, const char *const *words, struct buf *out)
{
    size_t count = 0;
    int pipe_fds[2] = {-1, -1}, status;
    while (words[count])
        count++;
    char **argv = arena_array(c->arena, count + 3, sizeof(*argv));
    argv[0] = arena_strdup(c->arena, "/usr/bin/env");
    argv[1] = arena_strdup(c->arena, c->settings.openssl_path);
    for (size_t i = 0; i < count; i++)
        argv[i + 2] = arena_strdup(c->arena, words[i]);
    fflush(stdout);
    if (out && pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        if (out)
            dup2(pipe_fds[1], STDOUT_FILENO);
        execv(argv[0], argv);
        _exit(127);
    }
    if (out) {
        ssize_t n;
        close(pipe_fds[1]);
        while (child > 0 && ((n = read(pipe_fds[0], buf_reserve(out, 4096), 4096)) > 0 || (n < 0 && errno == EINTR)))
            if (n > 0)
                buf_added(out, (size_t)n);
        close(pipe_fds[0]);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            child = -1;
    if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    say_fatal("%s %s failed", c->settings.openssl_path, words[0]);
    return -1;
}

static int
make_key(struct control *c, const struct algorithm *algorithm, const char *bits, const char *path)
{
    const char *rsa[] = {"genpkey", "-algorithm", "RSA", "-pkeyopt", arena_printf(c->arena, "rsa_keygen_bits:%s", bits),
                         "-out",    path,         NULL};
    const char *ec[] = {"genpkey",
                        "-algorithm",
                        "EC",
                        "-pkeyopt",
                        arena_printf(c->arena, "ec_paramgen_curve:%s", bits),
                        "-pkeyopt",
                        "ec_param_enc:named_curve",
                        "-out",
                        path,
                        NULL};
    return openssl(c, *algorithm->prefix ? ec : rsa, NULL);
}

static const char *
alternative_names(struct control *c, char *const *hosts)
{
    struct buf out = {0};
    buf_append_text(&out, "subjectAltName=");
    for (size_t i = 0; hosts[i]; i++)
        buf_printf(&out, "%sDNS:%s", i > 0 ? "," : "", hosts[i]);
    const char *text = arena_strdup(c->arena, buf_text(&out));
    buf_release(&out);
    return text;
}

/* The hosts that were named, or myhostname. Names that openssl would read as something else are refused. */
static char **
hosts_of(struct control *c, const struct tls_options *o)
{
    char **hosts = o->words;
    if (!*hosts) {
        hosts = arena_array(c->arena, 2, sizeof(*hosts));
        hosts[0] = arena_strdup(c->arena, setting(c, "myhostname"));
    }
    for (size_t i = 0; hosts[i]; i++)
        if (!*hosts[i] ||
            hosts[i][strspn(hosts[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*")]) {
            say_fatal("bad host name: \"%s\"", hosts[i]);
            return NULL;
        }
    return hosts;
}

/* --- subcommands --- */

static int
make_certificate(struct control *c, char *const *hosts, const char *key, const char *cert)
{
    const char *words[] = {"req",
                           "-x509",
                           "-new",
                           "-key",
                           key,
                           "-subj",
                           arena_printf(c->arena, "/CN=%s", hosts[0]),
                           "-addext",
                           alternative_names(c, hosts),
                           "-days",
                           "36500",
                           "-sha256",
                           "-out",
                           cert,
                           NULL};
    return openssl(c, words, NULL);
}

static int
copy_key(struct control *c, const char *from, const char *to)
{
    const char *words[] = {"pkey", "-in", from, "-out", to, NULL};
    return openssl(c, words, NULL);
}

/* The names of new files, with the time in them. */
static void
name_files(struct control *c, const struct algorithm *algorithm, const char **key, const char **cert)
{
    char stamp[32] = "";
    struct tm tm;
    time_t now = time(NULL);
    if (gmtime_r(&now, &tm))
        strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
    *key = arena_printf(c->arena, "%s/%skey-%s.pem", conf_directory(c->conf), algorithm->prefix, stamp);
    *cert = arena_printf(c->arena, "%s/%scert-%s.pem", conf_directory(c->conf), algorithm->prefix, stamp);
}

/* Makes a key (a new one, or a copy of the one in use) and a certificate for it. */
static int
make_pair(struct control *c, const struct tls_options *o, bool new_key, const struct algorithm **algorithm,
          const char **key, const char **cert)
{
    char **hosts = hosts_of(c, o);
    *algorithm = find_algorithm(o->algorithm ? o->algorithm : "rsa");
    if (!*algorithm)
        say_fatal("unknown key algorithm: \"%s\" (rsa and ecdsa are known)", o->algorithm);
    if (!hosts || !*algorithm)
        return -1;
    const char *old = setting(c, (*algorithm)->key_parameter);
    name_files(c, *algorithm, key, cert);
    mode_t mask = umask(0077);
    int result = !new_key && *old && strcmp(old, "none") != 0
                     ? copy_key(c, absolute(c, old), *key)
                     : make_key(c, *algorithm, o->bits ? o->bits : (*algorithm)->bits, *key);
    umask(0022);
    if (result == 0)
        result = make_certificate(c, hosts, *key, *cert);
    umask(mask);
    return result;
}

static void
tell_next_steps(const char *key, const char *cert)
{
    say("new private key and self-signed certificate created:");
    say("  key: %s", key);
    say("  certificate: %s", cert);
    say("to have a certificate signed: postfix tls output-server-csr -k %s", key);
    say("for DNS (DANE): postfix tls output-server-tlsa %s", key);
    say("to use it: postfix tls deploy-server-cert %s %s", cert, key);
}

static int
new_pair(struct control *c, const struct tls_options *o, bool new_key)
{
    const struct algorithm *algorithm;
    const char *key, *cert;
    if (make_pair(c, o, new_key, &algorithm, &key, &cert) < 0)
        return 1;
    tell_next_steps(key, cert);
    return 0;
}

static int
tls_new_server_key(struct control *c, const struct tls_options *o)
{
    return new_pair(c, o, true);
}

static int
tls_new_server_cert(struct control *c, const struct tls_options *o)
{
    return new_pair(c, o, false);
}

/* The public key as DER, or as PEM. from: "x509" or "pkey". */
static int
public_key(struct control *c, bool of_certificate, const char *path, struct buf *out)
{
    const char *cert[] = {"x509", "-noout", "-pubkey", "-in", path, NULL};
    const char *key[] = {"pkey", "-pubout", "-in", path, NULL};
    return openssl(c, of_certificate ? cert : key, out);
}

static const struct algorithm *
algorithm_of_key(struct control *c, const char *path)
{
    struct buf text = {0};
    const char *words[] = {"pkey", "-noout", "-text_pub", "-in", path, NULL};
    int result = openssl(c, words, &text);
    bool ec = result == 0 && strstr(buf_text(&text), "ASN1 OID");
    bool rsa = result == 0 && strstr(buf_text(&text), "Modulus");
    buf_release(&text);
    if (result == 0 && !ec && !rsa)
        say_fatal("%s: this kind of key is not known here (rsa and ecdsa are)", path);
    return ec ? &algorithms[1] : rsa ? &algorithms[0] : NULL;
}

static int
deploy(struct control *c, const char *cert, const char *key)
{
    struct buf of_cert = {0}, of_key = {0};
    const struct algorithm *algorithm = algorithm_of_key(c, absolute(c, key));
    int result = 1;
    if (algorithm && public_key(c, true, absolute(c, cert), &of_cert) == 0 &&
        public_key(c, false, absolute(c, key), &of_key) == 0) {
        if (!slice_equal(buf_slice(&of_cert), buf_slice(&of_key))) {
            say_fatal("the certificate in %s is not for the key in %s", cert, key);
        } else {
            char *settings[] = {arena_printf(c->arena, "%s=%s", algorithm->cert_parameter, absolute(c, cert)),
                                arena_printf(c->arena, "%s=%s", algorithm->key_parameter, absolute(c, key)), NULL};
            result = edit_settings(c, settings);
        }
    }
    buf_release(&of_cert);
    buf_release(&of_key);
    return result;
}

static int
tls_deploy_server_cert(struct control *c, const struct tls_options *o)
{
    if (!o->words[0] || !o->words[1] || o->words[2]) {
        say_fatal("usage: postfix tls deploy-server-cert certfile keyfile");
        return 1;
    }
    if (deploy(c, o->words[0], o->words[1]) != 0)
        return 1;
    if (!*setting(c, "smtpd_tls_security_level"))
        say("TLS is still off: postfix tls enable-server, or set smtpd_tls_security_level");
    say("to take it over: postfix reload");
    return 0;
}

/* A file, or the name of an algorithm whose deployed key is meant. NULL: there is none. */
static const char *
key_file(struct control *c, const char *word)
{
    const struct algorithm *algorithm = find_algorithm(word);
    const char *path = algorithm ? setting(c, algorithm->key_parameter) : word;
    return *path && strcmp(path, "none") != 0 ? absolute(c, path) : NULL;
}

static int
tls_output_server_csr(struct control *c, const struct tls_options *o)
{
    const char *key = key_file(c, o->key ? o->key : "rsa");
    char **hosts = hosts_of(c, o);
    if (!key)
        say_fatal("no %s key is deployed", o->key ? o->key : "rsa");
    if (!key || !hosts)
        return 1;
    const char *words[] = {"req",     "-new",
                           "-key",    key,
                           "-subj",   arena_printf(c->arena, "/CN=%s", hosts[0]),
                           "-addext", alternative_names(c, hosts),
                           NULL};
    return openssl(c, words, NULL) < 0;
}

/* The digest of the public key, as TLSA records of kind 3 1 1 have it. */
static int
print_tlsa(struct control *c, const char *host, const char *key)
{
    struct buf digest = {0}, der = {0};
    char name[] = "/tmp/postfix-tls-XXXXXX";
    int result = -1, fd = -1;
    const char *words[] = {"pkey", "-pubout", "-outform", "DER", "-in", key, NULL};
    const char *sum[] = {"dgst", "-sha256", "-r", name, NULL};
    if (openssl(c, words, &der) == 0 && (fd = mkostemp(name, O_CLOEXEC)) >= 0 &&
        write(fd, der.ptr, der.len) == (ssize_t)der.len)
        result = openssl(c, sum, &digest);
    if (fd >= 0) {
        close(fd);
        unlink(name);
    }
    if (result == 0)
        printf("_25._tcp.%s. IN TLSA 3 1 1 %.*s\n", host, (int)strcspn(buf_text(&digest), " "), buf_text(&digest));
    buf_release(&digest);
    buf_release(&der);
    return result;
}

static int
tls_output_server_tlsa(struct control *c, const struct tls_options *o)
{
    char *all[] = {arena_strdup(c->arena, "rsa"), arena_strdup(c->arena, "ecdsa"), NULL};
    char **names = *o->words ? o->words : all;
    const char *host = o->host ? o->host : setting(c, "myhostname");
    bool any = false;
    for (; *names; names++) {
        const char *key = key_file(c, *names);
        if (!key)
            continue;
        any = true;
        if (print_tlsa(c, host, key) < 0)
            return 1;
    }
    if (!any)
        say_fatal("no key is deployed");
    return any ? 0 : 1;
}

/* --- turning it on --- */

static char *
random_setting(struct control *c, const struct tls_options *o)
{
    return o->random ? arena_printf(c->arena, "tls_random_source=%s", o->random) : NULL;
}

static void
suggest(char *const *settings)
{
    say("TLS settings are not at their defaults, so nothing was changed. To change them:");
    for (; *settings; settings++)
        say("  postconf '%s'", *settings);
}

static int
turn_on(struct control *c, bool allowed, char *const *settings)
{
    if (!allowed) {
        suggest(settings);
        return 1;
    }
    if (edit_settings(c, settings) != 0)
        return 1;
    say("TLS is on; to take it over: postfix reload");
    return 0;
}

static int
tls_enable_client(struct control *c, const struct tls_options *o)
{
    char *settings[] = {
        arena_strdup(c->arena, "smtp_tls_security_level=may"), arena_strdup(c->arena, "smtp_tls_loglevel=1"),
        arena_strdup(c->arena, "smtp_tls_session_cache_database=$default_cache_db_type:${data_directory}/smtp_scache"),
        random_setting(c, o), NULL};
    return turn_on(c, is_default_client(c), settings);
}

static int
tls_enable_server(struct control *c, const struct tls_options *o)
{
    const struct algorithm *algorithm;
    const char *key, *cert;
    char *settings[] = {arena_strdup(c->arena, "smtpd_tls_security_level=may"),
                        arena_strdup(c->arena, "smtpd_tls_loglevel=1"),
                        arena_strdup(c->arena, "smtpd_tls_received_header=yes"), random_setting(c, o), NULL};
    if (!is_default_server(c)) {
        suggest(settings);
        return 1;
    }
    if (make_pair(c, o, true, &algorithm, &key, &cert) < 0 || deploy(c, cert, key) != 0)
        return 1;
    return turn_on(c, true, settings);
}

static int
tls_all_default_client(struct control *c, const struct tls_options *o)
{
    (void)o;
    return is_default_client(c) ? 0 : 1;
}

static int
tls_all_default_server(struct control *c, const struct tls_options *o)
{
    (void)o;
    return is_default_server(c) ? 0 : 1;
}

static const struct subcommand {
    const char *name, *options;
    int (*run)(struct control *, const struct tls_options *);
} subcommands[] = {
    {"enable-client", "+r:", tls_enable_client},           {"enable-server", "+r:a:b:", tls_enable_server},
    {"new-server-key", "+a:b:", tls_new_server_key},       {"new-server-cert", "+a:b:", tls_new_server_cert},
    {"deploy-server-cert", "+", tls_deploy_server_cert},   {"output-server-csr", "+k:", tls_output_server_csr},
    {"output-server-tlsa", "+h:", tls_output_server_tlsa}, {"all-default-client", "+", tls_all_default_client},
    {"all-default-server", "+", tls_all_default_server},
};

static int
parse(const struct subcommand *sub, char **args, struct tls_options *o)
{
    int count = 0, option;
    while (args[count])
        count++;
    optind = 0; /* main() has used getopt() already */
    while ((option = getopt(count, args, sub->options)) != -1)
        switch (option) {
        case 'r': o->random = optarg; break;
        case 'a': o->algorithm = optarg; break;
        case 'b': o->bits = optarg; break;
        case 'k': o->key = optarg; break;
        case 'h': o->host = optarg; break;
        default: return -1;
        }
    o->words = args + optind;
    return 0;
}

int
command_tls(struct control *c, char **args)
{
    struct tls_options options = {0};
    for (size_t i = 0; args[0] && i < ARRAY_LEN(subcommands); i++)
        if (strcmp(subcommands[i].name, args[0]) == 0) {
            if (parse(&subcommands[i], args, &options) == 0)
                return subcommands[i].run(c, &options);
            break;
        }
    say_fatal("usage: postfix tls enable-client|enable-server|new-server-key|new-server-cert|deploy-server-cert|"
              "output-server-csr|output-server-tlsa|all-default-client|all-default-server");
    return 1;
}
