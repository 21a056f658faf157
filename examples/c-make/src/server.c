#define _GNU_SOURCE

#include "server.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_listener(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1) return -1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0) return -1;
    return listener;
}

/* Reads up to the blank line that ends the head of the request; what it asks for does not matter. */
static int read_request(int client) {
    char head[8192];
    size_t length = 0;
    while (length < sizeof head - 1) {
        ssize_t count = read(client, head + length, sizeof head - 1 - length);
        if (count <= 0) return -1;
        length += (size_t)count;
        head[length] = '\0';
        if (strstr(head, "\r\n\r\n") != NULL) return 0;
    }
    return -1;
}

static void answer(int client, const char *body) {
    if (read_request(client) < 0) return;
    dprintf(client,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
            strlen(body), body);
}

int serve(const char *host, int port, const char *body) {
    int listener = open_listener(host, port);
    if (listener < 0) return -1;
    printf("listening on http://%s:%d\n", host, port);
    fflush(stdout);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) return -1;
        answer(client, body);
        close(client);
    }
}
