/* SPDX-License-Identifier: Apache-2.0 */
/* Lines a second through streams, with and without TLS, between two processes over TCP on the loopback address: in one
 * direction, and as commands and replies, alone and pipelined. Prints a table.
 * Usage: bench_stream [seconds for each row] */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/stream.h"
#include "lib/run/task.h"
#include "lib/run/tls.h"

static const char command[] = "RCPT TO:<somebody.or.other@destination.example>\r\n";

struct row {
    const char *what;
    bool tls, replies;
    unsigned batch; /* lines that are sent before an answer is waited for */
};

struct bench {
    const struct row *row;
    struct net_addr addr;
    int listener;
    usec_t duration;
    const char *pem;
};

/* --- the server: counts lines, answers each if so wanted -------------------------------------------------------- */

static void
serve(void *arg)
{
    struct bench *bench = arg;
    struct err err;
    struct slice line;
    enum stream_line_end ending;
    struct tls_context *context = NULL;
    int fd = accept(bench->listener, NULL, NULL);
    check(fd >= 0);
    struct stream *s = stream_new(fd);
    if (bench->row->tls) {
        const struct tls_settings settings = {.role = TLS_SERVER, .cert_file = bench->pem};
        if (!(context = tls_context_new(&settings, &err)) || stream_start_tls(s, context, NULL, &err) < 0)
            fatal("%s", err.text);
    }
    stream_set_deadline(s, loop_now() + SECONDS(100));
    while (stream_read_line(s, 1000, &line, &ending, &err) == 0)
        if (bench->row->replies)
            stream_write_text(s, "250 2.1.5 Ok\r\n");
    stream_free(&s);
    tls_context_free(&context);
}

/* --- the client ------------------------------------------------------------------------------------------------- */

static unsigned long
send_lines(struct stream *s, const struct row *row, usec_t until)
{
    struct err err;
    struct slice line;
    enum stream_line_end ending;
    unsigned long sent = 0;
    while (clock_monotonic() < until) {
        for (unsigned i = 0; i < row->batch; i++)
            stream_write(s, command, sizeof(command) - 1);
        if (stream_flush(s, &err) < 0)
            fatal("%s", err.text);
        for (unsigned i = 0; i < row->batch && row->replies; i++)
            if (stream_read_line(s, 1000, &line, &ending, &err) < 0)
                fatal("%s", err.text);
        sent += row->batch;
    }
    return sent;
}

static void
run_client(void *arg)
{
    struct bench *bench = arg;
    const struct row *row = bench->row;
    struct err err;
    struct tls_context *context = NULL;
    int fd = net_connect(&bench->addr, NULL, loop_now() + SECONDS(5), &err);
    if (fd < 0)
        fatal("%s", err.text);
    struct stream *s = stream_new(fd);
    if (row->tls) {
        const struct tls_settings settings = {.role = TLS_CLIENT};
        if (!(context = tls_context_new(&settings, &err)) || stream_start_tls(s, context, NULL, &err) < 0)
            fatal("%s", err.text);
    }
    usec_t before = clock_monotonic();
    unsigned long sent = send_lines(s, row, before + bench->duration);
    double seconds = (double)(clock_monotonic() - before) / 1e6;
    stream_free(&s);
    tls_context_free(&context);
    int status;
    check(wait(&status) > 0 && status == 0);
    printf("| %s | %s | %.0f |\n", row->what, row->tls ? "TLS 1.3" : "clear", (double)sent / seconds);
    fflush(stdout);
}

static void
run_row(struct bench *bench)
{
    pid_t pid = fork();
    check(pid >= 0);
    loop_init();
    task_run_main(pid == 0 ? serve : run_client, bench);
    loop_release();
    if (pid == 0)
        exit(0);
}

/* A key and a certificate of our own, in one file. */
static void
make_pem(char *path)
{
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    check(file && key && cert);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    check(X509_sign(cert, key, EVP_sha256()) > 0);
    check(PEM_write_X509(file, cert) == 1 && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

int
main(int argc, char **argv)
{
    static const struct row rows[] = {
        {"lines in one direction", false, false, 256},
        {"lines in one direction", true, false, 256},
        {"command and reply", false, true, 1},
        {"command and reply", true, true, 1},
        {"10 commands, then their replies", false, true, 10},
        {"10 commands, then their replies", true, true, 10},
        {"100 commands, then their replies", false, true, 100},
        {"100 commands, then their replies", true, true, 100},
    };
    char pem[] = "/tmp/bench_stream.XXXXXX";
    struct bench bench = {.duration = SECONDS(argc > 1 ? strtol(argv[1], NULL, 10) : 2), .pem = pem};
    struct err err;
    bench.addr.len = sizeof(bench.addr.in6);
    log_init("bench");
    make_pem(pem);
    struct net_addr local;
    check(net_addr_parse("127.0.0.1", 0, &local, &err) == 0);
    bench.listener = net_listen(&local, 5, 0, &err);
    check(bench.listener >= 0 && net_set_nonblocking(bench.listener, false) == 0);
    check(getsockname(bench.listener, &bench.addr.any, &bench.addr.len) == 0);
    printf("| what | wire | lines a second |\n| --- | --- | --- |\n");
    fflush(stdout);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bench.row = &rows[i];
        run_row(&bench);
    }
    unlink(pem);
    return 0;
}
