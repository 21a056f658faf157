#include "page.h"
#include "server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const char *host = getenv("HOST");
    const char *port = getenv("PORT");
    /* A client that goes away early must not end the server. */
    signal(SIGPIPE, SIG_IGN);
    serve(host != NULL ? host : "127.0.0.1", port != NULL ? atoi(port) : 8080, page_body());
    perror("server");
    return 1;
}
