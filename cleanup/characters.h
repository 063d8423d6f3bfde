/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/characters.h: message_strip_characters and message_reject_characters: bytes that may not stand in a message. */
#ifndef CLEANUP_CHARACTERS_H
#define CLEANUP_CHARACTERS_H

#include "cleanup/message.h"

/* Reads the parameters; once. -1: an escape sequence makes no sense. */
int characters_init(struct err *) MUST_USE;

/* A piece of the content, in wire form, which may become another in *copy. Line ends always stay. -1: refused. */
int characters_filter(struct message *, struct slice *piece, struct buf *copy) MUST_USE;

#endif
