/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/messages.h: the structs of messages.def, their type objects, and the values that their fields take. */
#ifndef LIB_MAIL_MESSAGES_H
#define LIB_MAIL_MESSAGES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/run/link.h"
#include "lib/run/msg.h"

/* Who is who on links: the program names are in messages.c. */
enum {
    ROLE_SMTPD = 1 << 0,
    ROLE_CLEANUP = 1 << 1,
    ROLE_QMGR = 1 << 2,
    ROLE_BOUNCE = 1 << 3,
    ROLE_AGENT = 1 << 4, /* smtp, lmtp, error, pipe, virtual */
    ROLE_LOCAL = 1 << 5, /* local: an agent that also submits */
    ROLE_PICKUP = 1 << 6,
    ROLE_REWRITE = 1 << 7,
    ROLE_RESOLVER = 1 << 8,
    ROLE_ANVIL = 1 << 9,
    ROLE_SHOWQ = 1 << 10,
    ROLE_TOOL = 1 << 11,   /* postsuper, postqueue, postcat */
    ROLE_FRONT = 1 << 12,  /* imapd, pop3d: before the login */
    ROLE_READER = 1 << 13, /* imap-session, pop3-session */
    ROLE_AUTH = 1 << 15,   /* 14 is proxymap's: lib/table/proxy_messages.h */
    ROLE_FLUSH = 1 << 16,
};

#define MSG_ROWS "lib/mail/messages.def"
#include "lib/run/msg_structs.h"

extern const struct msg_type type_envelope, type_submitted, type_want_ids, type_ids, type_segment, type_announce,
    type_released, type_seal, type_deliver, type_delivered, type_bounce, type_bounced, type_resolve, type_resolved,
    type_rewrite, type_rewritten, type_dns_query, type_dns_answer, type_anvil, type_anvil_count, type_queue_control,
    type_queue_list, type_session, type_session_taken, type_parked, type_user_job, type_user_done, type_flush_note,
    type_flush_site, type_flushed;

/* All of them and the roles, for link_init(). */
extern const struct link_protocol mail_protocol;

/* An envelope whose texts are "", to fill in. */
struct envelope envelope_empty(void);

/* envelope_recipient.notify, DSN NOTIFY= (RFC 3461); 0: not given. */
enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };

enum { RCPT_TODO, RCPT_DONE, RCPT_CANCELLED };

/* envelope.ret_flags, DSN RET= */
enum { RET_FULL = 1, RET_HEADERS = 2 };

/* envelope.sendopts, as in a queue file's size record */
enum {
    SENDOPT_SMTPUTF8 = 1,
    SENDOPT_UTF8_HEADER = 2,
    SENDOPT_UTF8_SENDER = 4,
    SENDOPT_TLS_NOT_REQUIRED = 16,
    SENDOPT_REQUIRETLS = 32
};

/* envelope.content_flags */
enum { CONTENT_8BIT = 1, CONTENT_NUL = 2, CONTENT_HAS_HEADER_END = 4 };

/* envelope.submit_flags */
enum {
    SUBMIT_INTERNAL = 1, /* our own notice: no checks of the header, no bounce if too many hops */
    SUBMIT_HOLD = 2,     /* goes to the hold queue */
    SUBMIT_DISCARD = 4,
    SUBMIT_NO_HEADER_CHECKS = 8,
    SUBMIT_NO_ADDRESS_MAPPINGS = 16,
    SUBMIT_NO_MILTERS = 32,
    SUBMIT_DETECT_UTF8 = 128, /* smtputf8_autodetect_classes: SMTPUTF8 if it is found to need that */
    SUBMIT_FILTERED = 64,     /* our own notice, whose content is checked nevertheless (internal_mail_filter_classes) */
};

/* msg_deliver.flags */
enum { DELIVER_VERIFY = 1, DELIVER_TRACE = 2, DELIVER_KEEP = 4 /* more will follow for this destination */ };

/* delivered_recipient.result */
enum { DELIVERED_SENT, DELIVERED_DEFERRED, DELIVERED_BOUNCED, DELIVERED_DISCARDED, DELIVERED_EXPANDED };

/* msg_delivered.hop */
enum { HOP_OK, HOP_DEAD, HOP_BUSY };

/* msg_bounce.kind */
enum { BOUNCE_FAILED, BOUNCE_DELAYED, BOUNCE_SUCCESS, BOUNCE_VERIFY };

/* msg_flushed.result */
enum { FLUSHED_DONE, FLUSHED_NOT_ELIGIBLE /* the site is not in fast_flush_domains */, FLUSHED_FAILED };

/* route_answer.flags: one class, and what went wrong */
enum {
    ROUTE_LOCAL = 1,   /* the domain is in mydestination (or inet_interfaces) */
    ROUTE_ALIAS = 2,   /* virtual_alias_domains */
    ROUTE_VIRTUAL = 4, /* virtual_mailbox_domains */
    ROUTE_RELAY = 8,   /* relay_domains */
    ROUTE_DEFAULT = 16,
    ROUTE_ERROR = 32, /* the address can't be routed: reason; permanent */
    ROUTE_FAIL = 64,  /* a look-up failed: reason; temporary, never taken for "no" */
    ROUTE_ROUTED =
        128, /* has routing characters in the local part: percent hack, bang path, @ in quotes, source route */
};
enum { ROUTE_CLASSES = ROUTE_LOCAL | ROUTE_ALIAS | ROUTE_VIRTUAL | ROUTE_RELAY | ROUTE_DEFAULT };

/* msg_user_job.work, and what it needs */
enum {
    USER_STORE,   /* the content into a mailbox; but if one of texts is a file that exists, only say which */
    USER_FORWARD, /* read a .forward file */
    USER_INCLUDE, /* read an :include: file */
    USER_COMMAND, /* the content to a command */
    USER_LOOK,    /* is one of texts a file that exists? */
};
/* msg_user_job.flags */
enum {
    USER_JOB_DEVICES = 1,      /* store_target.devices */
    USER_JOB_STRICT_OWNER = 2, /* store_target.strict_owner; of a list: it must be the user's */
    USER_JOB_DOTLOCK_TRY = 4,
    USER_JOB_NEEDS_HOME = 8, /* defer if directory is missing */
};
/* msg_user_done.result */
enum {
    USER_DONE,
    USER_FAILED,  /* status, reason */
    USER_THERE,   /* USER_STORE: texts[position] exists */
    USER_IGNORED, /* USER_FORWARD: the file is not to be used; reason: why, to be logged */
};

/* msg_dns_answer.status */
enum {
    DNS_FOUND,
    DNS_NODATA, /* the name exists, without such a record */
    DNS_NXDOMAIN,
    DNS_FAIL,    /* temporary: SERVFAIL, time-out, bogus */
    DNS_INVALID, /* the name is no domain name */
};

#endif
