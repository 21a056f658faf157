#ifndef SERVER_H
#define SERVER_H

/* Answers every request on host:port with the same page. Returns only on failure, with errno set. */
int serve(const char *host, int port, const char *body);

#endif
