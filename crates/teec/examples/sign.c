/*
 * sign - signs a digest with a device key, the way any program of the TEE Client API would.
 *
 *   sign TA-UUID LABEL CERTIFICATE.PEM SIGNATURE.DER < DIGEST
 *
 * The key was made in the TEE by the enrolment TA, for the user who asked for it under this label:
 *
 *   tegata-agent --config agent.toml enrol --label web
 *   openssl dgst -sha256 -binary letter.txt | ./sign $TA web cert.pem letter.sig
 *   openssl x509 -in cert.pem -pubkey -noout > key.pem
 *   openssl dgst -sha256 -verify key.pem -signature letter.sig letter.txt
 *
 * Nothing in this file is special to Tegata but the numbers of the TA's commands, which
 * docs/spec/enrolment-ta.md tells. It compiles against OP-TEE's library too.
 */
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tee_client_api.h>

/* Commands of the enrolment TA. */
#define CMD_GET_CERTIFICATE 4
#define CMD_SIGN            5
#define CMD_LIST            6

/* A call that takes longer than this is cancelled. */
#define PATIENCE_SECS 20

struct tee {
    TEEC_Context context;
    TEEC_Session session;
};

static void parse_uuid(const char *text, TEEC_UUID *uuid)
{
    unsigned part[3], rest[8];
    int i;

    if (sscanf(text, "%8x-%4x-%4x-%2x%2x-%2x%2x%2x%2x%2x%2x", &part[0], &part[1], &part[2],
               &rest[0], &rest[1], &rest[2], &rest[3], &rest[4], &rest[5], &rest[6],
               &rest[7]) != 11)
        errx(2, "%s: not a UUID", text);
    uuid->timeLow = part[0];
    uuid->timeMid = (uint16_t)part[1];
    uuid->timeHiAndVersion = (uint16_t)part[2];
    for (i = 0; i < 8; i++)
        uuid->clockSeqAndNode[i] = (uint8_t)rest[i];
}

static void prepare(struct tee *tee, const TEEC_UUID *ta)
{
    uint32_t origin;
    TEEC_Result result;

    /* NULL: the TEE of this machine. */
    result = TEEC_InitializeContext(NULL, &tee->context);
    if (result != TEEC_SUCCESS)
        errx(1, "TEEC_InitializeContext failed with code 0x%x", result);

    /* The key belongs to a user: open the session as the user that we are. */
    result = TEEC_OpenSession(&tee->context, &tee->session, ta, TEEC_LOGIN_USER, NULL, NULL,
                              &origin);
    if (result != TEEC_SUCCESS)
        errx(1, "TEEC_OpenSession failed with code 0x%x origin 0x%x", result, origin);
}

static void finish(struct tee *tee)
{
    TEEC_CloseSession(&tee->session);
    TEEC_FinalizeContext(&tee->context);
}

/* ---- a call with an end: another thread cancels it ------------------------------------------ */

struct watch {
    TEEC_Operation *operation;
    pthread_mutex_t lock;
    pthread_cond_t done;
    int is_done;
};

static void *watchdog(void *argument)
{
    struct watch *watch = argument;
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_SECS;
    pthread_mutex_lock(&watch->lock);
    while (!watch->is_done)
        if (pthread_cond_timedwait(&watch->done, &watch->lock, &until) == ETIMEDOUT) {
            TEEC_RequestCancellation(watch->operation);
            break;
        }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

static TEEC_Result invoke(struct tee *tee, uint32_t command, TEEC_Operation *operation)
{
    struct watch watch = {.operation = operation,
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .done = PTHREAD_COND_INITIALIZER};
    TEEC_Result result;
    uint32_t origin;
    pthread_t thread;

    operation->started = 0; /* it may be cancelled from now on */
    if (pthread_create(&thread, NULL, watchdog, &watch) != 0)
        errx(1, "no thread");
    result = TEEC_InvokeCommand(&tee->session, command, operation, &origin);
    pthread_mutex_lock(&watch.lock);
    watch.is_done = 1;
    pthread_cond_signal(&watch.done);
    pthread_mutex_unlock(&watch.lock);
    pthread_join(thread, NULL);
    if (result != TEEC_SUCCESS && result != TEEC_ERROR_SHORT_BUFFER)
        warnx("command %u failed with code 0x%x origin 0x%x", command, result, origin);
    return result;
}

/* ---- the three ways to pass memory ----------------------------------------------------------- */

/* Temporary memory; its size is asked for first, with a null reference. */
static size_t list_keys(struct tee *tee)
{
    TEEC_Operation operation;
    TEEC_Result result;
    size_t size;

    memset(&operation, 0, sizeof(operation));
    operation.paramTypes =
        TEEC_PARAM_TYPES(TEEC_NONE, TEEC_NONE, TEEC_MEMREF_TEMP_OUTPUT, TEEC_NONE);
    result = invoke(tee, CMD_LIST, &operation);
    if (result != TEEC_ERROR_SHORT_BUFFER)
        errx(1, "a list of at least one byte was expected");
    size = operation.params[2].tmpref.size;
    operation.params[2].tmpref.buffer = malloc(size);
    if (!operation.params[2].tmpref.buffer)
        err(1, "%zu bytes", size);
    if (invoke(tee, CMD_LIST, &operation) != TEEC_SUCCESS)
        errx(1, "no list");
    free(operation.params[2].tmpref.buffer);
    return operation.params[2].tmpref.size;
}

/* Memory of the library, used as a whole. */
static void save_certificate(struct tee *tee, const char *label, const char *path)
{
    TEEC_SharedMemory room = {.size = 1, .flags = TEEC_MEM_OUTPUT};
    TEEC_Operation operation;
    TEEC_Result result;
    FILE *file;
    int attempt;

    for (attempt = 0; attempt < 2; attempt++) {
        result = TEEC_AllocateSharedMemory(&tee->context, &room);
        if (result != TEEC_SUCCESS)
            errx(1, "TEEC_AllocateSharedMemory failed with code 0x%x", result);
        memset(&operation, 0, sizeof(operation));
        operation.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_VALUE_INPUT,
                                                TEEC_MEMREF_WHOLE, TEEC_NONE);
        operation.params[0].tmpref.buffer = (void *)label;
        operation.params[0].tmpref.size = strlen(label);
        operation.params[1].value.a = 0; /* PEM */
        operation.params[2].memref.parent = &room;
        result = invoke(tee, CMD_GET_CERTIFICATE, &operation);
        if (result != TEEC_ERROR_SHORT_BUFFER)
            break;
        TEEC_ReleaseSharedMemory(&room);
        room.size = operation.params[2].memref.size;
    }
    if (result != TEEC_SUCCESS)
        exit(1);
    file = fopen(path, "w");
    if (!file || fwrite(room.buffer, operation.params[2].memref.size, 1, file) != 1 || fclose(file))
        err(1, "%s", path);
    TEEC_ReleaseSharedMemory(&room);
}

/* Memory of our own, used in parts. */
static size_t sign(struct tee *tee, const char *label, const unsigned char *digest, size_t len,
                   unsigned char *signature, size_t room)
{
    unsigned char memory[256];
    TEEC_SharedMemory block = {
        .buffer = memory, .size = sizeof(memory), .flags = TEEC_MEM_INPUT | TEEC_MEM_OUTPUT};
    TEEC_Operation operation;
    TEEC_Result result;
    size_t got;

    result = TEEC_RegisterSharedMemory(&tee->context, &block);
    if (result != TEEC_SUCCESS)
        errx(1, "TEEC_RegisterSharedMemory failed with code 0x%x", result);
    memcpy(memory, digest, len);
    memset(&operation, 0, sizeof(operation));
    operation.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_PARTIAL_INPUT,
                                            TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_NONE);
    operation.params[0].tmpref.buffer = (void *)label;
    operation.params[0].tmpref.size = strlen(label);
    operation.params[1].memref.parent = &block;
    operation.params[1].memref.size = len;
    operation.params[2].memref.parent = &block;
    operation.params[2].memref.offset = 64;
    operation.params[2].memref.size = sizeof(memory) - 64;
    if (invoke(tee, CMD_SIGN, &operation) != TEEC_SUCCESS)
        exit(1);
    got = operation.params[2].memref.size;
    if (got > room)
        errx(1, "a signature of %zu bytes", got);
    memcpy(signature, memory + 64, got);
    TEEC_ReleaseSharedMemory(&block);
    return got;
}

/* ---- two numbers as OpenSSL wants them -------------------------------------------------------- */

static size_t integer(unsigned char *out, const unsigned char *number, size_t len)
{
    size_t at = 0;

    while (len > 1 && *number == 0)
        number++, len--;
    out[at++] = 0x02;
    out[at++] = (unsigned char)(len + (*number >> 7));
    if (*number >> 7)
        out[at++] = 0;
    memcpy(out + at, number, len);
    return at + len;
}

static void save_signature(const unsigned char *raw, size_t len, const char *path)
{
    unsigned char der[128] = {0x30};
    size_t content = integer(der + 2, raw, len / 2);
    FILE *file;

    content += integer(der + 2 + content, raw + len / 2, len / 2);
    der[1] = (unsigned char)content;
    file = fopen(path, "w");
    if (!file || fwrite(der, content + 2, 1, file) != 1 || fclose(file))
        err(1, "%s", path);
}

int main(int argc, char **argv)
{
    unsigned char digest[48], signature[96];
    struct tee tee;
    TEEC_UUID ta;
    size_t len;

    if (argc != 5)
        errx(2, "usage: %s TA-UUID LABEL CERTIFICATE.PEM SIGNATURE.DER < DIGEST", argv[0]);
    parse_uuid(argv[1], &ta);
    len = fread(digest, 1, sizeof(digest), stdin);

    prepare(&tee, &ta);
    printf("list of keys: %zu bytes\n", list_keys(&tee));
    save_certificate(&tee, argv[2], argv[3]);
    len = sign(&tee, argv[2], digest, len, signature, sizeof(signature));
    finish(&tee);

    save_signature(signature, len, argv[4]);
    printf("signed: %s, %s\n", argv[3], argv[4]);
    return 0;
}
