#ifndef PAGE_H
#define PAGE_H

/* The body of every answer. */
const char *page_body(void);

#endif
