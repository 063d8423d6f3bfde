/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/program_pages.h: memory that only a program's start needed. */
#ifndef LIB_BASE_PROGRAM_PAGES_H
#define LIB_BASE_PROGRAM_PAGES_H

/* Gives back the pages of code and constants, of the program and its libraries, that this process has used so far. Nothing
 * is lost: what is used again comes from the page cache, for a soft fault each 64 KiB. A daemon calls it when it is ready
 * for work, since what read the configuration, bound the libraries and built the sandbox is not run again. Needs
 * madvise() only, so it may be called in a sandbox. */
void program_pages_release(void);

#endif
