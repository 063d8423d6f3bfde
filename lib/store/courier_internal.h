/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_STORE_COURIER_INTERNAL_H
#define LIB_STORE_COURIER_INTERNAL_H

#include <limits.h>
#include <stdint.h>

#include "lib/run/stream.h"
#include "lib/store/courier.h"
#include "lib/store/deliver.h"

#define COURIER_BROKEN UINT32_MAX

enum {
    COURIER_CHUNK = 64 * 1024,
    COURIER_MESSAGE_LIMIT = 16 << 20,
    COURIER_GROUP_LIMIT = 160, /* a namespace's ids are one write of less than a page: lines of up to 24 bytes, and one more */
};

/* In front of every job and answer. */
struct courier_head {
    uint32_t length;  /* of the message that follows */
    uint32_t content; /* 1: chunks come behind it */
};

/* Daemon to helper, one datagram each; with HELPER_FORK and HELPER_GROUP comes the process's end of its socket. */
enum { HELPER_FORK = 1, HELPER_STAT, HELPER_GROUP };
struct helper_request {
    uint32_t what;
    uint32_t uid, gid; /* of a courier; what a group process is between recipients */
    uint32_t count;    /* of ids: whom it may become; no root, no id twice as both uid and gid */
    union {
        char path[PATH_MAX];
        struct courier_ids ids[COURIER_GROUP_LIMIT];
    };
};
struct helper_answer {
    int32_t error; /* errno; 0: done */
    uint32_t uid, gid, mode;
};

/* ---- what courier.c and courier_group.c share ---- */
int courier_ask_helper(struct helper_request *, int fd, struct helper_answer *, struct err *) MUST_USE;
int may_wait courier_send_content(struct stream *, struct source *, usec_t deadline, struct err *) MUST_USE;
/* *done NULL: an empty answer. */
int may_wait courier_receive(struct arena *, struct stream *, const struct msg_user_done **done, struct err *) MUST_USE;

/* ---- what courier_work.c and courier_group_work.c share ---- */
/* 0: the end came first. */
int courier_read(int fd, void *bytes, size_t n);
int courier_write(int fd, const void *bytes, size_t n);
struct store_target courier_target(const struct msg_user_job *);
/* Is there one of the files that go before the mailbox? 1: *position tells which. */
int courier_find_file(const struct msg_user_job *, int64_t *position, struct store_fault *) MUST_USE;
int courier_check_home(const struct msg_user_job *, struct store_fault *) MUST_USE;

/* The courier's life, after it became the user: never returns. */
void courier_work(int fd, uid_t uid) NORETURN;

/* The helper's. */
void courier_help(int fd) NORETURN;

#endif
