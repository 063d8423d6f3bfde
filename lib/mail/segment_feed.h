/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/segment_feed.h: the journal segments whose descriptors a qmgr has passed over a link, for those who read
 * messages there (bounce, agents). One feed for each link; its segments are closed with it, or when qmgr says that they
 * are gone, but not while somebody reads. One whose header does not say what qmgr said of it (it was recycled meanwhile, or
 * can't be read) is not taken: it is not known then. */
#ifndef LIB_MAIL_SEGMENT_FEED_H
#define LIB_MAIL_SEGMENT_FEED_H

#include <stdint.h>

#include "lib/mail/journal.h"
#include "lib/run/link.h"

struct segment_feed;
struct fed_segment;

struct segment_feed *segment_feed_new(void);
void segment_feed_free(struct segment_feed **);

/* A link_handler's fn for type_segment, with the feed as its ctx. */
void segment_feed_take(struct link_request *, struct link_message *in, void *feed);

/* The segment, held until it is dropped; NULL if it is not known. */
struct fed_segment *segment_feed_hold(struct segment_feed *, int64_t number, int64_t generation);
void segment_feed_drop(struct fed_segment *); /* NULL is fine */
int fed_segment_fd(const struct fed_segment *);

/* As its header said when it was passed: for source_open_image(). */
const struct journal_segment_info *fed_segment_info(const struct fed_segment *);

#endif
