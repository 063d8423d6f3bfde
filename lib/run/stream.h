/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/stream.h: buffered bytes over a connected socket, plain or TLS, for one task (a second task may only shut it
 * down with stream_cancel()).
 *
 * Input: lines and blocks with limits. Output is gathered and goes out when the task is about to wait for input, when
 * it calls stream_flush(), and when STREAM_OUT_LIMIT bytes have gathered; so an SMTP round trip costs one read and one
 * write, and pipelined commands get their replies together. Buffers come from a pool and go back when they are empty,
 * so a connection that idles holds none.
 *
 * Every wait has the deadline that was set last. Errors are sticky: after the first, every call fails with it. */
#ifndef LIB_RUN_STREAM_H
#define LIB_RUN_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/clock.h"
#include "lib/base/compiler.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

enum {
    STREAM_IN_SIZE = 16 * 1024,
    STREAM_OUT_LIMIT = 64 * 1024,
    STREAM_BULK_SIZE = 128 * 1024,
    STREAM_BULK_COUNT = 16, /* streams that may have a buffer of that size at the same time */
};

struct stream;
struct tls_context; /* tls.h */

/* Takes over the descriptor (made non-blocking). */
struct stream *stream_new(int fd);
void stream_free(struct stream **); /* closes the descriptor; output that was not flushed is lost */
int stream_fd(const struct stream *);

/* While this is on, one task reads and another writes: reading sends nothing that has gathered, so the writer flushes. For relays,
 * and for sessions that are told things while they wait for input. */
void stream_set_duplex(struct stream *, bool on);

/* While this is on, much is expected to come: input is read in blocks of up to STREAM_BULK_SIZE, unless many streams of the process
 * do so. It changes how many system calls that takes, and how much stream_peek() may show; nothing else. */
void stream_set_bulk(struct stream *, bool on);

/* When waits give up: loop_now() time. The default is NO_DEADLINE only for tests; every protocol sets one. */
void stream_set_deadline(struct stream *, usec_t deadline);

/* Takes back a time-out of a read, or that it was cancelled, so that the peer can still be told of it. Set a new deadline. Not after a TLS
 * handshake that timed out. */
void stream_forgive_timeout(struct stream *);

/* Reads a line of at most max bytes, its end not counted; *line lies in the stream's buffer and stays until the next
 * read. The end is LF; *ending says what stood there. A longer line: its first max bytes, with *ending
 * STREAM_LINE_CUT; the next call goes on where this one ended. At the end of the input: ERR_CLOSED (bytes without an
 * LF before it are dropped). max is at most STREAM_IN_SIZE - 2. */
enum stream_line_end { STREAM_LINE_CRLF, STREAM_LINE_LF, STREAM_LINE_CUT };
int may_wait stream_read_line(struct stream *, size_t max, struct slice *line, enum stream_line_end *ending,
                              struct err *) MUST_USE;

/* Waits until at least one byte is there and shows all that is buffered, without taking it. stream_take() then takes
 * from the front. ERR_CLOSED at the end. */
int may_wait stream_peek(struct stream *, struct slice *bytes, struct err *) MUST_USE;
/* The same, but waits for more than is already buffered; fails with ERR_SYNTAX if the buffer is full. */
int may_wait stream_peek_more(struct stream *, struct slice *bytes, struct err *) MUST_USE;
void stream_take(struct stream *, size_t n);

/* Reads exactly n bytes. */
int may_wait stream_read(struct stream *, void *bytes, size_t n, struct err *) MUST_USE;

/* Puts bytes in front of all input, as if they had come from the peer: for a connection that another process read from before
 * it handed it over. On a new stream only; at most STREAM_IN_SIZE bytes. */
void stream_unread(struct stream *, struct slice);

/* What is buffered now, without waiting; and is there anything in the buffer or in the socket (one system call)? */
size_t stream_buffered(const struct stream *);
bool stream_has_input(struct stream *);

/* Gather output. They wait only when STREAM_OUT_LIMIT is reached; a failure shows at the next flush or read. */
void may_wait stream_write(struct stream *, const void *bytes, size_t n);
void may_wait stream_write_text(struct stream *, const char *text);
void may_wait stream_printf(struct stream *, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Writes all that has gathered. */
int may_wait stream_flush(struct stream *, struct err *) MUST_USE;

/* Writes what has gathered and then n bytes straight from the caller's memory, without copying them if the
 * connection is not encrypted. */
int may_wait stream_write_through(struct stream *, const void *bytes, size_t n, struct err *) MUST_USE;

/* Turns TLS on as server or client, in mid-connection. All input that came before the switch is thrown away (RFC 3207
 * section 4.2): what is buffered, and what lies in the socket while the other side can't have begun its handshake
 * (for a server, if the reply that invites to it is still unflushed, as it should be). Then output is flushed and the
 * handshake done, before the deadline. From then on nothing is read as clear text. On failure the stream is dead.
 * peer_name may be NULL: what the client asks for by SNI and, with verification, what the certificate must name. The
 * context may be freed before the stream. */
int may_wait stream_start_tls(struct stream *, struct tls_context *, const char *peer_name, struct err *) MUST_USE;
/* The same as a client, with more to say of the peer. */
struct tls_peer; /* tls.h */
int may_wait stream_start_tls_peer(struct stream *, struct tls_context *, const struct tls_peer *,
                                   struct err *) MUST_USE;
bool stream_is_tls(const struct stream *);

/* Compresses from here on, both ways (DEFLATE, RFC 1951: IMAP's COMPRESS, RFC 4978), after flushing; what is buffered of the input is taken
 * for compressed. Not on a stream with TLS. What the peer's bytes become is never more than was asked for. */
int may_wait stream_start_deflate(struct stream *, struct err *) MUST_USE;

/* For the log and Received: "TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, 256, "X25519", "RSA-PSS (2048 bits)", "SHA256";
 * the last two are the server's. Strings live as long as the stream. */
struct tls_info {
    const char *protocol, *cipher;
    int used_bits, algorithm_bits;
    const char *key_exchange, *signature, *digest; /* "" where unknown */
    bool peer_has_certificate, peer_is_trusted, peer_name_matches;
    bool resumed;
    const char *peer_subject, *peer_issuer; /* common names in the peer's certificate; "" */
};
void stream_tls_info(const struct stream *, struct tls_info *);

/* The digest ("sha256") of the peer's certificate, or of the public key in it, as "0A:1B:..."; text holds at least 200
 * bytes. -1: no certificate, no such digest. */
int stream_tls_fingerprint(const struct stream *, const char *digest, bool of_key, char *text, size_t size) MUST_USE;

/* What both ends of this TLS session, and nobody else, can compute (RFC 9266, tls-exporter): for SCRAM-...-PLUS. */
enum { STREAM_BINDING_SIZE = 32 };
int stream_tls_binding(const struct stream *, unsigned char binding[STREAM_BINDING_SIZE]) MUST_USE;

/* Makes the wait that the owner is in, and all later ones, fail with ERR_CLOSED. For another task, or the loop. */
void stream_cancel(struct stream *);

/* Is the peer still there, as far as can be told without waiting? For idle connections about to be used again:
 * false if it closed, or sent something unasked. On a stream that has waited for input it costs no system call: what the
 * loop has not seen by now comes to light at the next read. */
bool stream_is_idle_alive(struct stream *);

#endif
