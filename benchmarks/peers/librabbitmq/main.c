/* librabbitmq, the client in C, as a worker of benchmarks/harness.py: it drains a queue.
 *
 * It counts the bytes of the rows and decodes nothing: the least that a consumer does. It reads a
 * line of JSON with its setup, then one command per line, and replies to each with a line; see
 * benchmarks/worker.py. No value in these lines has an escaped character.
 */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { CHANNEL = 1, PREFETCH = 500, ACK_EVERY = 100, FRAME_MAX = 131072 };

static void fail(const char *what) {
    fprintf(stderr, "librabbitmq: %s failed\n", what);
    exit(1);
}

static void check(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail(what);
}

static double cpu_us(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* Return the position of a field's value in a line of JSON. */
static char *value_of(char *line, const char *name) {
    char field[64];
    snprintf(field, sizeof field, "\"%s\": ", name);
    char *found = strstr(line, field);
    if (found == NULL) fail(name);
    return found + strlen(field);
}

/* Return a copy of a field's text. */
static char *text_of(char *line, const char *name) {
    char *start = value_of(line, name) + 1;
    return strndup(start, strcspn(start, "\""));
}

static amqp_connection_state_t open_connection(char *uri) {
    struct amqp_connection_info at;
    if (amqp_parse_url(uri, &at) != AMQP_STATUS_OK) fail("reading the URI");
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    if (amqp_socket_open(socket, at.host, at.port) != AMQP_STATUS_OK) fail("connecting");
    check(amqp_login(connection, at.vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, at.user,
                     at.password),
          "logging in");
    amqp_channel_open(connection, CHANNEL);
    check(amqp_get_rpc_reply(connection), "opening a channel");
    amqp_basic_qos(connection, CHANNEL, 0, PREFETCH, 0);
    check(amqp_get_rpc_reply(connection), "setting the prefetch");
    return connection;
}

static void drain(amqp_connection_state_t connection, const char *queue, long count) {
    double cpu = cpu_us(), began = seconds();
    size_t bytes = 0;
    amqp_bytes_t tag = amqp_cstring_bytes("drain");
    amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(queue), tag, 0, 0, 0,
                       amqp_empty_table);
    check(amqp_get_rpc_reply(connection), "consuming");
    for (long row = 1; row <= count; row++) {
        amqp_envelope_t message;
        amqp_maybe_release_buffers(connection);
        check(amqp_consume_message(connection, &message, NULL, 0), "receiving");
        bytes += message.message.body.len;
        if (row % ACK_EVERY == 0 || row == count)
            amqp_basic_ack(connection, CHANNEL, message.delivery_tag, 1);
        amqp_destroy_envelope(&message);
    }
    printf("{\"count\": %ld, \"seconds\": %.6f, \"cpu_us\": %.1f, \"bytes\": %zu}\n", count,
           seconds() - began, cpu_us() - cpu, bytes);
    amqp_basic_cancel(connection, CHANNEL, tag);
}

int main(void) {
    char *line = NULL, *queue = NULL;
    size_t size = 0;
    if (getline(&line, &size, stdin) < 0) return 0;
    amqp_connection_state_t connection = open_connection(text_of(line, "uri"));
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("\"ready\"");
    while (getline(&line, &size, stdin) > 0) { /* the end of the input ends the worker */
        char *command = text_of(line, "command");
        if (strcmp(command, "receive") == 0) {
            drain(connection, queue, atol(value_of(line, "count")));
        } else if (strcmp(command, "connect") == 0) {
            free(queue);
            queue = text_of(line, "queue");
            puts("null");
        } else {
            puts("null"); /* settle */
        }
        free(command);
    }
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    return 0;
}
