/* SPDX-License-Identifier: Apache-2.0 */
/* bounce(8): tells senders what became of their mail. One program for the services bounce, defer and trace: qmgr says
 * what kind of notice it wants. See report.h for the form; it is handed to cleanup like any other message. */
#include <string.h>
#include <strings.h>

#include "bounce/report.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/conf/settings_bounce.h"
#include "lib/mail/addr.h"
#include "lib/mail/bounce_template.h"
#include "lib/mail/log_events.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_id.h"
#include "lib/mail/segment_feed.h"
#include "lib/mail/source.h"
#include "lib/mail/submit.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"

static struct bounce_settings settings;
static bool long_ids;
static const char *double_bounce; /* the sender of notices that must not cause notices */
static struct submitter *cleanup;
static struct bounce_template templates[TEMPLATE_KINDS];
static const char *texts[TEMPLATE_KINDS];                              /* of the templates, expanded */
static const char old_from[] = "MAILER-DAEMON (Mail Delivery System)"; /* header_from_format = obsolete */

static int
expand_template(const struct conf *conf, const struct bounce_template *template, const char **text, struct err *err)
{
    struct buf out = {0};
    int result = bounce_template_expand(template, conf, &out, err);

    if (result == 0)
        *text = arena_strdup(service_arena(), buf_text(&out));
    buf_release(&out);
    return result;
}

/* Notices must go out whatever is wrong with the file: then it is those that are built in. */
static int
load_templates(const struct conf *conf, struct err *err)
{
    struct bounce_template builtin[TEMPLATE_KINDS];

    bounce_templates_builtin(builtin);
    if (bounce_templates_load(service_arena(), settings.bounce_template_file, templates, err) < 0)
        log_warning("%s -- using built-in templates for what could not be read", err->text);
    for (unsigned i = 0; i < TEMPLATE_KINDS && strcmp(settings.header_from_format, "obsolete") == 0; i++) {
        if (templates[i].from == builtin[i].from)
            templates[i].from = old_from;
        builtin[i].from = old_from;
    }
    for (unsigned i = 0; i < TEMPLATE_KINDS; i++) {
        if (expand_template(conf, &templates[i], &texts[i], err) == 0)
            continue;
        log_warning("%s -- using the built-in template", err->text);
        templates[i] = builtin[i];
        if (expand_template(conf, &templates[i], &texts[i], err) < 0)
            return -1;
    }
    return 0;
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    if (bounce_settings_load(&settings, conf, service_arena(), err) < 0 ||
        conf_bool(conf, "enable_long_queue_ids", &long_ids, err) < 0 || load_templates(conf, err) < 0)
        return -1;
    double_bounce = arena_printf(service_arena(), "%s@%s", settings.double_bounce_sender, settings.myhostname);
    return 0;
}

static int
start(struct err *err)
{
    (void)err;
    cleanup =
        submitter_new(service_socket_path(arena_printf(service_arena(), "public/%s", settings.cleanup_service_name)));
    return 0;
}

/* ---- the message that it is about ---- */

struct job {
    struct arena *arena;
    const struct msg_bounce *request;
    struct source *source;
    struct buf original; /* what of it is quoted, in wire form */
    bool headers_only;
};

static struct source *
open_original(struct job *job, struct link_message *in, const struct fed_segment *segment, struct err *err)
{
    const struct msg_bounce *request = job->request;
    const struct source_hint hint = {in->payload, (uint64_t)request->content_offset};
    struct source *source;

    if (request->segment_length == 0) {
        if (in->fd_count == 1)
            return source_open_file_told(job->arena, in->fds[0], &hint, err);
        err_set(err, ERR_TEMP, "no queue file came with the request");
        return NULL;
    }
    if (!segment) {
        err_set(err, ERR_TEMP, "the journal segment is not known");
        return NULL;
    }
    source = source_open_image_told(job->arena, fed_segment_fd(segment), fed_segment_info(segment),
                                    (uint64_t)request->segment_offset, (uint64_t)request->segment_length, &hint, err);
    if (source && strcmp(source_envelope(source)->queue_id, request->queue_id) != 0) {
        err_set(err, ERR_TEMP, "the image is another message's");
        return NULL;
    }
    return source;
}

static size_t
header_length(struct slice content)
{
    const char *end;

    if (content.len >= 2 && memcmp(content.ptr, "\r\n", 2) == 0)
        return 0;
    end = memmem(content.ptr, content.len, "\r\n\r\n", 4);
    return end ? (size_t)(end - content.ptr) + 2 : content.len;
}

/* Reads as much as is quoted: all if that is little enough, else the header section. */
static int
read_original(struct job *job, struct err *err)
{
    size_t limit = (size_t)settings.bounce_size_limit;
    struct slice piece;
    int result;

    job->headers_only = job->request->kind != BOUNCE_FAILED || job->request->ret_flags == RET_HEADERS;
    while ((result = source_next_wire(job->source, &piece, err)) > 0 && job->original.len <= limit)
        buf_append_slice(&job->original, piece);
    if (result < 0)
        return -1;
    if (result > 0)
        job->headers_only = true;
    else if (job->original.len >= 3)
        job->original.len -= 3; /* the final dot line */
    if (job->headers_only)
        job->original.len = header_length(buf_slice(&job->original));
    if (job->original.len > limit)
        job->original.len = limit;
    if (job->original.len > 0 && job->original.ptr[job->original.len - 1] != '\n')
        buf_append_text(&job->original, "\r\n");
    return 0;
}

/* ---- the notice ---- */

/* Is the name in a list? */
static bool
has_class(const char *list, const char *name)
{
    struct slice rest = slice_from(list), word;

    while (slice_word(&rest, " ,\t\r\n", &word))
        if (slice_equal_text_fold(word, name))
            return true;
    return false;
}

/* Does its sender want to hear of this recipient? */
static bool
is_wanted(const struct msg_bounce *request, const struct bounce_recipient *recipient)
{
    static const int wanted[] = {[BOUNCE_FAILED] = NOTIFY_FAILURE,
                                 [BOUNCE_DELAYED] = NOTIFY_DELAY,
                                 [BOUNCE_SUCCESS] = NOTIFY_SUCCESS,
                                 [BOUNCE_VERIFY] = 0};

    if (recipient->notify == 0)
        return request->kind != BOUNCE_SUCCESS;
    return request->kind == BOUNCE_VERIFY || (recipient->notify & wanted[request->kind]);
}

/* The Message-ID of the original, in what is quoted of it; "": there is none, or none that fits a line. */
static const char *
find_message_id(const struct job *job)
{
    enum { LONGEST_ID = 900 };
    static const char name[] = "message-id:";
    struct slice rest = slice_make(job->original.ptr, header_length(buf_slice(&job->original))), line;

    while (slice_cut(&rest, '\n', &line)) {
        if (!slice_starts_with_fold(line, name))
            continue;
        line = slice_make(line.ptr + sizeof name - 1, line.len - (sizeof name - 1));
        line = slice_trim(line);
        if (line.len == 0 && rest.len > 0 && (*rest.ptr == ' ' || *rest.ptr == '\t') && slice_cut(&rest, '\n', &line))
            line = slice_trim(line); /* folded behind the colon */
        if (line.len > 2 && line.len <= LONGEST_ID && line.ptr[0] == '<' && line.ptr[line.len - 1] == '>')
            return arena_strndup(job->arena, line.ptr, line.len);
    }
    return "";
}

static enum bounce_template_kind
template_of(enum report_kind kind)
{
    switch (kind) {
    case REPORT_DELAYED:
    case REPORT_POSTMASTER_DELAY: return TEMPLATE_DELAY;
    case REPORT_SUCCESS: return TEMPLATE_SUCCESS;
    case REPORT_VERIFY: return TEMPLATE_VERIFY;
    case REPORT_FAILED:
    case REPORT_POSTMASTER_COPY:
    case REPORT_DOUBLE: break;
    }
    return TEMPLATE_FAILURE;
}

static void
fill_report(const struct job *job, struct report *report)
{
    const struct msg_bounce *request = job->request;
    struct bounce_recipient *recipients =
        arena_array(job->arena, request->recipient_count, sizeof(struct bounce_recipient));

    report->template = &templates[template_of(report->kind)];
    report->text = texts[template_of(report->kind)];
    report->myhostname = settings.myhostname;
    report->mail_name = settings.mail_name;
    report->now = loop_now_wall();
    report->original_id = request->queue_id;
    report->sender = source_envelope(job->source)->sender; /* who is told may be a list's owner, or VERP's address */
    report->envelope_id = request->envelope_id;
    report->message_id = settings.enable_threaded_bounces ? find_message_id(job) : "";
    report->arrival = request->arrival_usec;
    report->expires = request->expires;
    report->recipients = recipients;
    for (size_t i = 0; i < request->recipient_count; i++)
        if (report->kind == REPORT_DOUBLE || is_wanted(request, &request->recipients[i]))
            recipients[report->recipient_count++] = request->recipients[i];
    report->utf8 =
        source_envelope(job->source)->sendopts & (SENDOPT_SMTPUTF8 | SENDOPT_UTF8_HEADER | SENDOPT_UTF8_SENDER);
    report->is_8bit = text_has_8bit(buf_slice(&job->original));
    report->headers_only = job->headers_only;
}

static int may_wait
submit(const struct job *job, const struct report *report, int64_t number, const char *from, struct err *err)
{
    struct envelope envelope = envelope_empty();
    struct envelope_recipient recipient = {.address = report->to, .original = "", .dsn_original = ""};
    struct msg_submitted answer;
    struct buf content = {0};
    int result;

    envelope.queue_id = report->id;
    envelope.number = number;
    envelope.arrival_sec = report->now / SECONDS(1);
    envelope.arrival_usec = report->now % SECONDS(1);
    envelope.rewrite_context = "local";
    envelope.sender = from;
    envelope.encoding = report_is_8bit(report) ? "8bit" : "7bit";
    envelope.log_message_origin = "local";
    envelope.sendopts = report->utf8 ? source_envelope(job->source)->sendopts : 0;
    envelope.submit_flags = SUBMIT_INTERNAL;
    if (has_class(settings.internal_mail_filter_classes, "bounce"))
        envelope.submit_flags |= SUBMIT_FILTERED;
    envelope.recipients = &recipient;
    envelope.recipient_count = 1;
    report_begin(report, &content);
    buf_append_slice(&content, buf_slice(&job->original));
    report_end(report, &content);
    result = submitter_send(cleanup, job->arena, &envelope, &content, &answer, err);
    if (result == 0 && answer.code / 100 != 2)
        return err_set(err, ERR_TEMP, "%s", answer.text);
    return result;
}

/* Sends a notice of that kind. *id (QUEUE_ID_SIZE) gets its queue id. */
static int may_wait
notify(const struct job *job, enum report_kind kind, const char *to, const char *from, const char *what, char *id,
       struct err *err)
{
    struct report report = {.kind = kind, .to = to, .id = id};
    int64_t number;

    fill_report(job, &report);
    *id = '\0';
    if (report.recipient_count == 0)
        return 0;
    if (submitter_new_id(cleanup, long_ids, &number, id, err) < 0)
        return -1;
    if (submit(job, &report, number, from, err) < 0)
        return -1;
    log_notification(job->request->queue_id, what, id);
    return 0;
}

/* An address of main.cf, which may lack its domain. */
static const char *
qualified(struct arena *arena, const char *address)
{
    return strchr(address, '@') ? address : arena_printf(arena, "%s@%s", address, settings.myorigin);
}

/* A notice that failed, or another message without a sender. */
static int may_wait
no_sender(const struct job *job, char *id, struct err *err)
{
    if (job->request->kind != BOUNCE_FAILED)
        return 0;
    if (has_class(settings.notify_classes, "2bounce"))
        return notify(job, REPORT_DOUBLE, qualified(job->arena, settings.p_2bounce_notice_recipient), double_bounce,
                      "postmaster non-delivery", id, err);
    log_discarded(job->request->queue_id);
    return 0;
}

static void may_wait
copy_to_postmaster(const struct job *job, const char *recipient)
{
    struct job copy = *job;
    char id[QUEUE_ID_SIZE];
    struct err err;

    copy.headers_only = true;
    copy.original.len = header_length(buf_slice(&job->original));
    bool delay = job->request->kind == BOUNCE_DELAYED;
    if (notify(&copy, delay ? REPORT_POSTMASTER_DELAY : REPORT_POSTMASTER_COPY, qualified(job->arena, recipient),
               double_bounce, delay ? "postmaster delay" : "postmaster non-delivery", id, &err) < 0)
        log_warning("%s: postmaster notification failed: %s", job->request->queue_id, err.text);
}

static int may_wait
tell(const struct job *job, char *id, struct err *err)
{
    static const struct {
        enum report_kind kind;
        const char *what;
    } kinds[] = {[BOUNCE_FAILED] = {REPORT_FAILED, "sender non-delivery"},
                 [BOUNCE_DELAYED] = {REPORT_DELAYED, "sender delay"},
                 [BOUNCE_SUCCESS] = {REPORT_SUCCESS, "sender delivery status"},
                 [BOUNCE_VERIFY] = {REPORT_VERIFY, "sender delivery status"}};
    const struct msg_bounce *request = job->request;

    if (!*request->sender)
        return no_sender(job, id, err);
    if (strcasecmp(request->sender, double_bounce) == 0) {
        if (request->kind == BOUNCE_FAILED)
            log_warning("%s: undeliverable postmaster notification discarded", request->queue_id);
        return 0;
    }
    if (notify(job, kinds[request->kind].kind, request->sender, "", kinds[request->kind].what, id, err) < 0)
        return -1;
    if (request->kind == BOUNCE_FAILED && has_class(settings.notify_classes, "bounce"))
        copy_to_postmaster(job, settings.bounce_notice_recipient);
    if (request->kind == BOUNCE_DELAYED && has_class(settings.notify_classes, "delay"))
        copy_to_postmaster(job, settings.delay_notice_recipient);
    return 0;
}

/* ---- requests ---- */

static void
on_bounce(struct link_request *request, struct link_message *in, void *ctx)
{
    struct job job = {.arena = link_request_arena(request), .request = in->message};
    struct fed_segment *segment = segment_feed_hold(ctx, job.request->segment, job.request->generation);
    char id[QUEUE_ID_SIZE] = "";
    struct msg_bounced answer = {.notice_id = id};
    struct err err;

    job.source = open_original(&job, in, segment, &err);
    if (job.source && read_original(&job, &err) == 0 && tell(&job, id, &err) == 0)
        answer.done = 1;
    else
        log_warning("%s: sender notification failed: %s", job.request->queue_id, err.text);
    buf_release(&job.original);
    segment_feed_drop(segment);
    link_close_fds(in);
    link_reply(request, &type_bounced, &answer, slice_make(NULL, 0), NULL, 0);
}

static void
on_closed(void *ctx, struct link *link)
{
    struct segment_feed *feed = ctx;

    (void)link;
    segment_feed_free(&feed);
}

static const struct link_handler handlers[] = {
    {.type = &type_segment, .fn = segment_feed_take},
    {.type = &type_bounce, .task = true, .fn = on_bounce},
};

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    struct segment_feed *feed = segment_feed_new();

    (void)peer;
    (void)socket;
    if (!link_accept(fd, handlers, ARRAY_LEN(handlers), feed, on_closed))
        segment_feed_free(&feed);
}

static const struct service bounce_service = {
    .program = "bounce",
    .prepare = prepare,
    .start = start,
    .serve = serve,
    .many_workers = true,
    .sandbox = {.calls =
                    SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_FDPASS | SANDBOX_CONTENT},
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &bounce_service);
}
