/*
 * What an application of another TEE client library may do, and what it must not, against a TA
 * that was made for this test. One program, several roles:
 *
 *   conformance all UUID        every check; prints each that fails
 *   conformance wait UUID       a call that lasts a minute: to be killed in it
 *   conformance bereaved UUID   opens a session, says so, and calls once the TEE is dead
 *   conformance layout          sizes and offsets
 */
#include <tee_client_api.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ECHO = 1, TRAP, WAIT, VALUES, TYPES, LOOP, INVERT, RETURN, WAIT_MASKED };

static TEEC_UUID ta;
static int failed, checked;
static uint32_t origin; /* of the last EXPECT_FROM */

#define CHECK(condition)                                                                         \
    do {                                                                                         \
        checked++;                                                                               \
        if (!(condition)) {                                                                      \
            failed++;                                                                            \
            printf("%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #condition);         \
        }                                                                                        \
    } while (0)

#define EXPECT(call, code)                                                                       \
    do {                                                                                         \
        TEEC_Result got = (call);                                                                \
        checked++;                                                                               \
        if (got != (TEEC_Result)(code)) {                                                        \
            failed++;                                                                            \
            printf("%s:%d: %s: %s gives 0x%x\n", __FILE__, __LINE__, __func__, #call,            \
                   (unsigned)got);                                                               \
        }                                                                                        \
    } while (0)

#define EXPECT_FROM(call, code, from)                                                            \
    do {                                                                                         \
        origin = 0xEEEEEEEE;                                                                     \
        EXPECT(call, code);                                                                      \
        checked++;                                                                               \
        if (origin != (from)) {                                                                  \
            failed++;                                                                            \
            printf("%s:%d: %s: %s from origin %u\n", __FILE__, __LINE__, __func__, #call,        \
                   (unsigned)origin);                                                            \
        }                                                                                        \
    } while (0)

static int parse_uuid(const char *text, TEEC_UUID *uuid)
{
    unsigned low, mid, high, rest[8];
    int i;

    if (sscanf(text, "%8x-%4x-%4x-%2x%2x-%2x%2x%2x%2x%2x%2x", &low, &mid, &high, &rest[0],
               &rest[1], &rest[2], &rest[3], &rest[4], &rest[5], &rest[6], &rest[7]) != 11)
        return -1;
    uuid->timeLow = low;
    uuid->timeMid = (uint16_t)mid;
    uuid->timeHiAndVersion = (uint16_t)high;
    for (i = 0; i < 8; i++)
        uuid->clockSeqAndNode[i] = (uint8_t)rest[i];
    return 0;
}

static TEEC_Context context;

static TEEC_Session open_session(void)
{
    TEEC_Session session;

    EXPECT(TEEC_OpenSession(&context, &session, &ta, TEEC_LOGIN_USER, NULL, NULL, NULL),
           TEEC_SUCCESS);
    return session;
}

static TEEC_Operation new_operation(uint32_t types)
{
    TEEC_Operation operation;

    memset(&operation, 0, sizeof(operation));
    operation.paramTypes = types;
    return operation;
}

/* ---- contexts ------------------------------------------------------------------------------- */

static void contexts(void)
{
    TEEC_Context other, garbage;
    TEEC_SharedMemory block;
    TEEC_Session session;

    EXPECT(TEEC_InitializeContext(NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_InitializeContext("/nonexistent/teed.sock", &other), TEEC_ERROR_ITEM_NOT_FOUND);
    EXPECT(TEEC_InitializeContext("some-other-tee", &other), TEEC_ERROR_ITEM_NOT_FOUND);
    EXPECT(TEEC_InitializeContext(getenv("TEGATA_TEED_SOCKET"), &other), TEEC_SUCCESS);

    /* Finalizing closes what is open; everything of it is refused then, not followed. */
    EXPECT(TEEC_OpenSession(&other, &session, &ta, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
           TEEC_SUCCESS);
    memset(&block, 0, sizeof(block));
    block.size = 16;
    block.flags = TEEC_MEM_INPUT;
    EXPECT(TEEC_AllocateSharedMemory(&other, &block), TEEC_SUCCESS);
    TEEC_FinalizeContext(&other);
    EXPECT(TEEC_InvokeCommand(&session, TYPES, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
    TEEC_CloseSession(&session);
    memset(block.buffer, 1, 16);
    TEEC_ReleaseSharedMemory(&block);
    EXPECT(TEEC_OpenSession(&other, &session, &ta, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
           TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_AllocateSharedMemory(&other, &block), TEEC_ERROR_BAD_PARAMETERS);
    TEEC_FinalizeContext(&other);
    TEEC_FinalizeContext(NULL);

    memset(&garbage, 0xA5, sizeof(garbage));
    EXPECT(TEEC_OpenSession(&garbage, &session, &ta, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
           TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_RegisterSharedMemory(&garbage, &block), TEEC_ERROR_BAD_PARAMETERS);
    TEEC_FinalizeContext(&garbage);
}

/* ---- sessions ------------------------------------------------------------------------------- */

static void logins(void)
{
    static const uint32_t without_data[] = {TEEC_LOGIN_PUBLIC, TEEC_LOGIN_USER,
                                            TEEC_LOGIN_APPLICATION, TEEC_LOGIN_USER_APPLICATION};
    static const uint32_t with_group[] = {TEEC_LOGIN_GROUP, TEEC_LOGIN_GROUP_APPLICATION};
    static const uint32_t unknown[] = {3, 7, 0x80000000, 0xFFFFFFFF};
    uint32_t group = (uint32_t)getegid(), strange = 0xDEAD;
    TEEC_Session session;
    size_t i;

    for (i = 0; i < sizeof(without_data) / sizeof(without_data[0]); i++) {
        EXPECT_FROM(TEEC_OpenSession(&context, &session, &ta, without_data[i], NULL, NULL, &origin),
                    TEEC_SUCCESS, TEEC_ORIGIN_TRUSTED_APP);
        TEEC_CloseSession(&session);
        EXPECT_FROM(TEEC_OpenSession(&context, &session, &ta, without_data[i], &group, NULL,
                                     &origin),
                    TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_API);
    }
    for (i = 0; i < sizeof(with_group) / sizeof(with_group[0]); i++) {
        EXPECT_FROM(TEEC_OpenSession(&context, &session, &ta, with_group[i], &group, NULL, &origin),
                    TEEC_SUCCESS, TEEC_ORIGIN_TRUSTED_APP);
        TEEC_CloseSession(&session);
        EXPECT_FROM(TEEC_OpenSession(&context, &session, &ta, with_group[i], &strange, NULL,
                                     &origin),
                    TEEC_ERROR_ACCESS_DENIED, TEEC_ORIGIN_TEE);
        EXPECT_FROM(TEEC_OpenSession(&context, &session, &ta, with_group[i], NULL, NULL, &origin),
                    TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_API);
    }
    for (i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        EXPECT_FROM(TEEC_OpenSession(&context, &session, &ta, unknown[i], NULL, NULL, &origin),
                    TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_API);
}

static void sessions(void)
{
    TEEC_UUID nobody = {0x01020304, 0x0506, 0x0708, {9, 10, 11, 12, 13, 14, 15, 16}};
    TEEC_Session session, copy;
    TEEC_Operation operation;

    EXPECT_FROM(TEEC_OpenSession(&context, &session, &nobody, TEEC_LOGIN_USER, NULL, NULL, &origin),
                TEEC_ERROR_ITEM_NOT_FOUND, TEEC_ORIGIN_TEE);
    EXPECT_FROM(TEEC_InvokeCommand(&session, TYPES, NULL, &origin), TEEC_ERROR_BAD_PARAMETERS,
                TEEC_ORIGIN_API);
    TEEC_CloseSession(&session);
    EXPECT_FROM(TEEC_OpenSession(NULL, &session, &ta, TEEC_LOGIN_USER, NULL, NULL, &origin),
                TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_API);
    EXPECT_FROM(TEEC_OpenSession(&context, NULL, &ta, TEEC_LOGIN_USER, NULL, NULL, &origin),
                TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_API);
    EXPECT_FROM(TEEC_OpenSession(&context, &session, NULL, TEEC_LOGIN_USER, NULL, NULL, &origin),
                TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_API);

    /* Parameters of an open session, and a TA that refuses it. */
    operation = new_operation(TEEC_PARAM_TYPES(TEEC_VALUE_INOUT, TEEC_NONE, TEEC_NONE, TEEC_NONE));
    operation.params[0].value.a = 41;
    EXPECT(TEEC_OpenSession(&context, &session, &ta, TEEC_LOGIN_USER, NULL, &operation, NULL),
           TEEC_SUCCESS);
    CHECK(operation.params[0].value.b == 42);
    CHECK(operation.started != 0);
    TEEC_CloseSession(&session);
    operation = new_operation(TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE));
    operation.params[0].value.a = 0xDEAD;
    EXPECT_FROM(TEEC_OpenSession(&context, &session, &ta, TEEC_LOGIN_USER, NULL, &operation,
                                 &origin),
                TEEC_ERROR_ACCESS_DENIED, TEEC_ORIGIN_TRUSTED_APP);
    EXPECT(TEEC_InvokeCommand(&session, TYPES, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);

    /* Closed is closed, for copies too; garbage and NULL hurt nobody. */
    session = open_session();
    copy = session;
    EXPECT_FROM(TEEC_InvokeCommand(&session, TYPES, NULL, &origin), TEEC_SUCCESS,
                TEEC_ORIGIN_TRUSTED_APP);
    TEEC_CloseSession(&session);
    TEEC_CloseSession(&session);
    EXPECT(TEEC_InvokeCommand(&session, TYPES, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_InvokeCommand(&copy, TYPES, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
    TEEC_CloseSession(&copy);
    memset(&session, 0xA5, sizeof(session));
    EXPECT(TEEC_InvokeCommand(&session, TYPES, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
    TEEC_CloseSession(&session);
    TEEC_CloseSession(NULL);
    EXPECT(TEEC_InvokeCommand(NULL, TYPES, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_InvokeCommand((TEEC_Session *)(void *)((char *)&session + 1), TYPES, NULL, NULL),
           TEEC_ERROR_BAD_PARAMETERS);
}

static void codes(void)
{
    TEEC_Session session = open_session();
    TEEC_Operation operation =
        new_operation(TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE));

    /* Whatever the TA returns arrives, its own codes included. */
    operation.params[0].value.a = 0x12345678;
    EXPECT_FROM(TEEC_InvokeCommand(&session, RETURN, &operation, &origin), 0x12345678,
                TEEC_ORIGIN_TRUSTED_APP);
    operation.params[0].value.a = TEEC_ERROR_COMMUNICATION;
    EXPECT_FROM(TEEC_InvokeCommand(&session, RETURN, &operation, &origin),
                TEEC_ERROR_COMMUNICATION, TEEC_ORIGIN_TRUSTED_APP);
    EXPECT_FROM(TEEC_InvokeCommand(&session, 0x77777777, NULL, &origin),
                TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_TRUSTED_APP);

    /* A TA that panics is dead for this session and not for the next. */
    EXPECT_FROM(TEEC_InvokeCommand(&session, TRAP, NULL, &origin), TEEC_ERROR_TARGET_DEAD,
                TEEC_ORIGIN_TEE);
    EXPECT_FROM(TEEC_InvokeCommand(&session, TYPES, NULL, &origin), TEEC_ERROR_TARGET_DEAD,
                TEEC_ORIGIN_TEE);
    TEEC_CloseSession(&session);
    session = open_session();
    EXPECT(TEEC_InvokeCommand(&session, TYPES, NULL, NULL), TEEC_SUCCESS);
    TEEC_CloseSession(&session);
}

/* ---- parameters ----------------------------------------------------------------------------- */

static void values(void)
{
    TEEC_Session session = open_session();
    TEEC_Operation operation = new_operation(
        TEEC_PARAM_TYPES(TEEC_VALUE_INOUT, TEEC_VALUE_OUTPUT, TEEC_VALUE_INPUT, TEEC_NONE));

    operation.params[0].value.a = 1;
    operation.params[0].value.b = 0xFFFFFFFF;
    operation.params[1].value.a = 77;
    operation.params[2].value.a = 30;
    operation.params[2].value.b = 12;
    operation.params[3].value.a = 5;
    EXPECT(TEEC_InvokeCommand(&session, VALUES, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[0].value.a == 0xFFFFFFFF && operation.params[0].value.b == 1);
    CHECK(operation.params[1].value.a == 42 && operation.params[1].value.b == 0x123);
    CHECK(operation.params[2].value.a == 30 && operation.params[3].value.a == 5);
    TEEC_CloseSession(&session);
}

static void temporary_memory(void)
{
    TEEC_Session session = open_session();
    uint32_t types =
        TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_OUTPUT, TEEC_NONE, TEEC_NONE);
    TEEC_Operation operation = new_operation(types);
    char in[] = "hello", out[16];
    unsigned char untouched[16];

    memset(untouched, 0xEE, sizeof(untouched));
    memset(out, 0xEE, sizeof(out));
    operation.params[0].tmpref.buffer = in;
    operation.params[0].tmpref.size = 5;
    operation.params[1].tmpref.buffer = out;
    operation.params[1].tmpref.size = sizeof(out);
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[1].tmpref.size == 5 && memcmp(out, "hello", 5) == 0);
    CHECK(memcmp(out + 5, untouched, sizeof(out) - 5) == 0);
    CHECK(operation.params[0].tmpref.size == 5 && operation.params[0].tmpref.buffer == in);

    /* Too short: nothing is written but how much is needed. */
    memset(out, 0xEE, sizeof(out));
    operation.params[1].tmpref.size = 4;
    EXPECT_FROM(TEEC_InvokeCommand(&session, ECHO, &operation, &origin), TEEC_ERROR_SHORT_BUFFER,
                TEEC_ORIGIN_TRUSTED_APP);
    CHECK(operation.params[1].tmpref.size == 5);
    CHECK(memcmp(out, untouched, sizeof(out)) == 0);
    /* And with what is needed it works. */
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_SUCCESS);
    CHECK(memcmp(out, "hello", 5) == 0);

    /* A null reference asks for the size. */
    operation.params[1].tmpref.buffer = NULL;
    operation.params[1].tmpref.size = 0;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_SHORT_BUFFER);
    CHECK(operation.params[1].tmpref.size == 5);
    operation.params[1].tmpref.size = 100;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_SHORT_BUFFER);
    CHECK(operation.params[1].tmpref.size == 5);
    operation.params[0].tmpref.buffer = NULL;
    operation.params[0].tmpref.size = 0;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[1].tmpref.size == 0);
    operation.params[0].tmpref.size = 1;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);

    /* In and out: the TA shortens it by a byte. */
    operation = new_operation(
        TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INOUT, TEEC_NONE, TEEC_NONE, TEEC_NONE));
    memset(out, 0xEE, sizeof(out));
    operation.params[0].tmpref.buffer = out;
    operation.params[0].tmpref.size = 8;
    EXPECT(TEEC_InvokeCommand(&session, INVERT, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[0].tmpref.size == 7);
    CHECK(out[0] == 0x11);
    CHECK(out[6] == 0x11);
    CHECK(memcmp(out + 7, untouched, sizeof(out) - 7) == 0);

    /* A call the TA never saw changes nothing. */
    operation = new_operation(types | 4 << 8);
    operation.params[0].tmpref.buffer = in;
    operation.params[0].tmpref.size = 5;
    operation.params[1].tmpref.buffer = out;
    operation.params[1].tmpref.size = 3;
    EXPECT_FROM(TEEC_InvokeCommand(&session, ECHO, &operation, &origin), TEEC_ERROR_BAD_PARAMETERS,
                TEEC_ORIGIN_API);
    CHECK(operation.params[1].tmpref.size == 3);
    TEEC_CloseSession(&session);
}

static void wrong_types(void)
{
    static const uint32_t wrong[] = {4, 8, 9, 10, 11};
    TEEC_Session session = open_session();
    TEEC_Operation operation;
    size_t i;
    int place;

    for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        for (place = 0; place < 4; place++) {
            operation = new_operation(wrong[i] << (4 * place));
            EXPECT_FROM(TEEC_InvokeCommand(&session, TYPES, &operation, &origin),
                        TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_API);
        }
    operation = new_operation(0x10000);
    EXPECT(TEEC_InvokeCommand(&session, TYPES, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
    /* Types that the TA does not expect are the TA's to judge. */
    operation = new_operation(
        TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_INPUT, TEEC_NONE, TEEC_VALUE_OUTPUT));
    EXPECT(TEEC_InvokeCommand(&session, TYPES, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[3].value.a == 0x2011);
    TEEC_CloseSession(&session);
}

/* Whatever numbers stand in an operation, it is a code, or a call that the TA answers. */
static void nonsense(void)
{
    TEEC_Session session = open_session();
    TEEC_Operation operation;
    TEEC_Result result;
    int round, place;

    srand(1);
    for (round = 0; round < 400; round++) {
        memset(&operation, 0, sizeof(operation));
        operation.started = (uint32_t)rand();
        operation.paramTypes = (uint32_t)rand() & (round & 1 ? 0xFFFF : 0x7777);
        for (place = 0; place < 4; place++) {
            operation.params[place].memref.size = (size_t)rand() % 3;
            operation.params[place].memref.offset = (size_t)rand();
        }
        result = TEEC_InvokeCommand(&session, TYPES, &operation, NULL);
        CHECK(result == TEEC_SUCCESS || result == TEEC_ERROR_BAD_PARAMETERS);
    }
    TEEC_CloseSession(&session);
}

static void blocks(void)
{
    TEEC_Session session = open_session();
    TEEC_SharedMemory in, out, both, stale;
    TEEC_Context other;
    TEEC_Operation operation;
    char memory[64];

    /* What is not allowed. */
    memset(&in, 0xA5, sizeof(in));
    in.buffer = memory;
    in.size = sizeof(memory);
    in.flags = 0;
    EXPECT(TEEC_RegisterSharedMemory(&context, &in), TEEC_ERROR_BAD_PARAMETERS);
    in.flags = 4;
    EXPECT(TEEC_RegisterSharedMemory(&context, &in), TEEC_ERROR_BAD_PARAMETERS);
    in.flags = TEEC_MEM_INPUT;
    in.buffer = NULL;
    EXPECT(TEEC_RegisterSharedMemory(&context, &in), TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_RegisterSharedMemory(NULL, &in), TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_RegisterSharedMemory(&context, NULL), TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_AllocateSharedMemory(&context, NULL), TEEC_ERROR_BAD_PARAMETERS);
    in.size = SIZE_MAX;
    EXPECT(TEEC_AllocateSharedMemory(&context, &in), TEEC_ERROR_OUT_OF_MEMORY);
    TEEC_ReleaseSharedMemory(NULL);

    /* Nothing at all is a block too. */
    in.size = 0;
    EXPECT(TEEC_AllocateSharedMemory(&context, &in), TEEC_SUCCESS);
    CHECK(in.buffer != NULL);
    TEEC_ReleaseSharedMemory(&in);
    CHECK(in.buffer == NULL && in.size == 0);
    TEEC_ReleaseSharedMemory(&in);

    /* Own memory, and the library's; whole. */
    memset(memory, 'm', sizeof(memory));
    in.buffer = memory;
    in.size = 10;
    in.flags = TEEC_MEM_INPUT;
    EXPECT(TEEC_RegisterSharedMemory(&context, &in), TEEC_SUCCESS);
    out.size = 32;
    out.flags = TEEC_MEM_OUTPUT;
    EXPECT(TEEC_AllocateSharedMemory(&context, &out), TEEC_SUCCESS);
    CHECK(((uintptr_t)out.buffer & 15) == 0);
    operation = new_operation(
        TEEC_PARAM_TYPES(TEEC_MEMREF_WHOLE, TEEC_MEMREF_WHOLE, TEEC_NONE, TEEC_NONE));
    operation.params[0].memref.parent = &in;
    operation.params[0].memref.size = 9999;   /* not read for a whole block */
    operation.params[0].memref.offset = 9999;
    operation.params[1].memref.parent = &out;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[1].memref.size == 10 && memcmp(out.buffer, "mmmmmmmmmm", 11) == 0);
    CHECK(out.size == 32 && operation.params[0].memref.size == 9999);

    /* Parts. */
    memcpy(memory, "0123456789", 10);
    operation = new_operation(TEEC_PARAM_TYPES(TEEC_MEMREF_PARTIAL_INPUT,
                                               TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_NONE, TEEC_NONE));
    operation.params[0].memref.parent = &in;
    operation.params[0].memref.offset = 3;
    operation.params[0].memref.size = 4;
    operation.params[1].memref.parent = &out;
    operation.params[1].memref.offset = 20;
    operation.params[1].memref.size = 12;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[1].memref.size == 4 && operation.params[1].memref.offset == 20);
    CHECK(memcmp((char *)out.buffer + 20, "3456\0", 5) == 0);
    CHECK(memcmp(out.buffer, "mmmmmmmmmm", 11) == 0);
    operation.params[1].memref.size = 2;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_SHORT_BUFFER);
    CHECK(operation.params[1].memref.size == 4);

    /* Beyond the block, against its direction, of no block, of another context's. */
    operation.params[0].memref.size = 8;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
    operation.params[0].memref.offset = SIZE_MAX;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
    operation.params[0].memref.offset = 0;
    operation.params[0].memref.parent = &out;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
    operation.params[0].memref.parent = NULL;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
    memset(&stale, 0, sizeof(stale));
    operation.params[0].memref.parent = &stale;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
    EXPECT(TEEC_InitializeContext(NULL, &other), TEEC_SUCCESS);
    stale.buffer = memory;
    stale.size = 10;
    stale.flags = TEEC_MEM_INPUT;
    EXPECT(TEEC_RegisterSharedMemory(&other, &stale), TEEC_SUCCESS);
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
    TEEC_ReleaseSharedMemory(&stale);
    CHECK(stale.buffer == memory && stale.size == 10);
    TEEC_FinalizeContext(&other);
    stale = in;
    TEEC_ReleaseSharedMemory(&in);
    operation.params[0].memref.parent = &stale;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
    TEEC_ReleaseSharedMemory(&out);

    /* Both ways. */
    both.size = 6;
    both.flags = TEEC_MEM_INPUT | TEEC_MEM_OUTPUT;
    EXPECT(TEEC_AllocateSharedMemory(&context, &both), TEEC_SUCCESS);
    memset(both.buffer, 0x0F, 6);
    operation = new_operation(
        TEEC_PARAM_TYPES(TEEC_MEMREF_PARTIAL_INOUT, TEEC_NONE, TEEC_NONE, TEEC_NONE));
    operation.params[0].memref.parent = &both;
    operation.params[0].memref.offset = 1;
    operation.params[0].memref.size = 4;
    EXPECT(TEEC_InvokeCommand(&session, INVERT, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[0].memref.size == 3);
    CHECK(memcmp(both.buffer, "\x0F\xF0\xF0\xF0\x0F\x0F", 6) == 0);
    operation = new_operation(TEEC_PARAM_TYPES(TEEC_MEMREF_WHOLE, TEEC_NONE, TEEC_NONE, TEEC_NONE));
    operation.params[0].memref.parent = &both;
    EXPECT(TEEC_InvokeCommand(&session, INVERT, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[0].memref.size == 5 && ((unsigned char *)both.buffer)[0] == 0xF0);
    TEEC_ReleaseSharedMemory(&both);
    TEEC_CloseSession(&session);
}

static void limits(void)
{
    TEEC_Session session = open_session();
    TEEC_Operation operation = new_operation(
        TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_OUTPUT, TEEC_NONE, TEEC_NONE));
    size_t half = 0x80000 / 2, i;
    char *in = malloc(2 * half + 1), *out = malloc(half);
    TEEC_SharedMemory block;

    for (i = 0; i < 2 * half + 1; i++)
        in[i] = (char)(i * 31 + i / 251);
    operation.params[0].tmpref.buffer = in;
    operation.params[0].tmpref.size = half;
    operation.params[1].tmpref.buffer = out;
    operation.params[1].tmpref.size = half;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_SUCCESS);
    CHECK(operation.params[1].tmpref.size == half && memcmp(in, out, half) == 0);
    operation.params[0].tmpref.size = half + 1;
    EXPECT_FROM(TEEC_InvokeCommand(&session, ECHO, &operation, &origin), TEEC_ERROR_EXCESS_DATA,
                TEEC_ORIGIN_API);
    operation.params[0].tmpref.size = SIZE_MAX;
    EXPECT(TEEC_InvokeCommand(&session, ECHO, &operation, NULL), TEEC_ERROR_EXCESS_DATA);

    /* A block may be larger than a call, and is used part by part. */
    block.buffer = in;
    block.size = 2 * half + 1;
    block.flags = TEEC_MEM_INPUT;
    EXPECT(TEEC_RegisterSharedMemory(&context, &block), TEEC_SUCCESS);
    operation = new_operation(TEEC_PARAM_TYPES(TEEC_MEMREF_WHOLE, TEEC_NONE, TEEC_NONE, TEEC_NONE));
    operation.params[0].memref.parent = &block;
    EXPECT(TEEC_InvokeCommand(&session, TYPES, &operation, NULL), TEEC_ERROR_EXCESS_DATA);
    operation.paramTypes = TEEC_MEMREF_PARTIAL_INPUT;
    operation.params[0].memref.offset = 1;
    operation.params[0].memref.size = 2 * half;
    EXPECT(TEEC_InvokeCommand(&session, TYPES, &operation, NULL), TEEC_SUCCESS);
    TEEC_ReleaseSharedMemory(&block);
    TEEC_CloseSession(&session);
    free(in);
    free(out);
}

/* ---- threads, cancellation, fork ------------------------------------------------------------- */

struct job {
    TEEC_Session *session;
    TEEC_Operation operation;
    uint32_t command;
    TEEC_Result result;
    uint32_t origin;
};

static void *work(void *argument)
{
    struct job *job = argument;

    job->result = TEEC_InvokeCommand(job->session, job->command, &job->operation, &job->origin);
    return NULL;
}

static struct job wait_job(TEEC_Session *session, uint32_t command, uint32_t milliseconds)
{
    struct job job;

    memset(&job, 0, sizeof(job));
    job.session = session;
    job.command = command;
    job.operation.paramTypes = TEEC_VALUE_INPUT;
    job.operation.params[0].value.a = milliseconds;
    return job;
}

static void cancellation(void)
{
    TEEC_Session session = open_session();
    struct job job, queued;
    pthread_t thread, second;

    /* Before. */
    job = wait_job(&session, WAIT, 60000);
    TEEC_RequestCancellation(&job.operation);
    work(&job);
    CHECK(job.result == TEEC_ERROR_CANCEL && job.origin == TEEC_ORIGIN_API);
    job = wait_job(&session, WAIT, 60000);
    TEEC_RequestCancellation(&job.operation);
    {
        TEEC_Session none;
        EXPECT_FROM(TEEC_OpenSession(&context, &none, &ta, TEEC_LOGIN_USER, NULL, &job.operation,
                                     &origin),
                    TEEC_ERROR_CANCEL, TEEC_ORIGIN_API);
        TEEC_CloseSession(&none);
    }

    /* While it runs, by another thread; and while another waits for its turn. */
    job = wait_job(&session, WAIT, 60000);
    queued = wait_job(&session, WAIT, 60000);
    CHECK(pthread_create(&thread, NULL, work, &job) == 0);
    usleep(200000);
    CHECK(pthread_create(&second, NULL, work, &queued) == 0);
    usleep(200000);
    TEEC_RequestCancellation(&queued.operation);
    TEEC_RequestCancellation(&job.operation);
    TEEC_RequestCancellation(&job.operation);
    pthread_join(thread, NULL);
    pthread_join(second, NULL);
    CHECK(job.result == TEEC_ERROR_CANCEL && job.origin == TEEC_ORIGIN_TRUSTED_APP);
    CHECK(queued.result == TEEC_ERROR_CANCEL && queued.origin == TEEC_ORIGIN_API);

    /* A TA that does not unmask it does not notice. */
    job = wait_job(&session, WAIT_MASKED, 500);
    CHECK(pthread_create(&thread, NULL, work, &job) == 0);
    usleep(100000);
    TEEC_RequestCancellation(&job.operation);
    pthread_join(thread, NULL);
    CHECK(job.result == TEEC_SUCCESS && job.origin == TEEC_ORIGIN_TRUSTED_APP);

    /* After: nothing, also not for the next use. */
    TEEC_RequestCancellation(&job.operation);
    job.operation.params[0].value.a = 1;
    work(&job);
    CHECK(job.result == TEEC_SUCCESS);
    TEEC_RequestCancellation(NULL);
    TEEC_CloseSession(&session);
}

static TEEC_Session shared_session;

static void *echoes(void *argument)
{
    char mine = *(char *)argument, in[300], out[300];
    TEEC_Operation operation;
    long wrong = 0;
    int i;

    for (i = 0; i < 60; i++) {
        memset(in, mine + i, sizeof(in));
        operation = new_operation(TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_OUTPUT,
                                                   TEEC_NONE, TEEC_NONE));
        operation.params[0].tmpref.buffer = in;
        operation.params[0].tmpref.size = sizeof(in);
        operation.params[1].tmpref.buffer = out;
        operation.params[1].tmpref.size = sizeof(out);
        if (TEEC_InvokeCommand(&shared_session, ECHO, &operation, NULL) != TEEC_SUCCESS ||
            memcmp(in, out, sizeof(in)) != 0)
            wrong++;
    }
    return (void *)wrong;
}

static void threads(void)
{
    pthread_t thread[4];
    char mine[4] = {1, 50, 90, 120};
    void *wrong;
    int i;

    shared_session = open_session();
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, echoes, &mine[i]) == 0);
    for (i = 0; i < 4; i++) {
        pthread_join(thread[i], &wrong);
        CHECK(wrong == NULL);
    }
    TEEC_CloseSession(&shared_session);
}

/* What a call uses may be ended during it; the call itself goes on to its end. */
static void ends_during_calls(void)
{
    TEEC_Session session = open_session();
    TEEC_SharedMemory block = {.size = 100000, .flags = TEEC_MEM_INPUT | TEEC_MEM_OUTPUT};
    struct job job = wait_job(&session, WAIT_MASKED, 400);
    pthread_t thread;

    EXPECT(TEEC_AllocateSharedMemory(&context, &block), TEEC_SUCCESS);
    job.operation.paramTypes =
        TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_WHOLE, TEEC_NONE, TEEC_NONE);
    job.operation.params[1].memref.parent = &block;
    CHECK(pthread_create(&thread, NULL, work, &job) == 0);
    usleep(150000);
    TEEC_ReleaseSharedMemory(&block);
    TEEC_CloseSession(&session);
    EXPECT(TEEC_InvokeCommand(&session, TYPES, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
    pthread_join(thread, NULL);
    CHECK(job.result == TEEC_SUCCESS && job.operation.params[1].memref.size == 100000);
}

static int exit_code(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void *busy(void *argument)
{
    echoes(argument);
    return NULL;
}

static void fork_children(void)
{
    char one = 1;
    pthread_t thread;
    pid_t child;
    int i;

    shared_session = open_session();
    child = fork();
    if (child == 0) {
        TEEC_Session own;

        failed = 0;
        alarm(20);
        EXPECT_FROM(TEEC_InvokeCommand(&shared_session, TYPES, NULL, &origin),
                    TEEC_ERROR_BAD_STATE, TEEC_ORIGIN_API);
        TEEC_CloseSession(&shared_session);
        own = open_session();
        EXPECT(TEEC_InvokeCommand(&own, TYPES, NULL, NULL), TEEC_SUCCESS);
        TEEC_CloseSession(&own);
        TEEC_FinalizeContext(&context);
        fflush(stdout);
        _exit(failed ? 1 : 0);
    }
    CHECK(exit_code(child) == 0);
    EXPECT(TEEC_InvokeCommand(&shared_session, TYPES, NULL, NULL), TEEC_SUCCESS);

    /* Forks at any moment of other threads' calls leave no lock taken in the child. */
    CHECK(pthread_create(&thread, NULL, busy, &one) == 0);
    for (i = 0; i < 30; i++) {
        child = fork();
        if (child == 0) {
            TEEC_Session own;

            alarm(20);
            _exit(TEEC_OpenSession(&context, &own, &ta, 3, NULL, NULL, NULL) ==
                          TEEC_ERROR_BAD_PARAMETERS
                      ? 0
                      : 1);
        }
        CHECK(exit_code(child) == 0);
    }
    pthread_join(thread, NULL);
    TEEC_CloseSession(&shared_session);
}

/* ---- roles ----------------------------------------------------------------------------------- */

static int all(void)
{
    if (TEEC_InitializeContext(NULL, &context) != TEEC_SUCCESS) {
        printf("no TEE at %s\n", getenv("TEGATA_TEED_SOCKET"));
        return 1;
    }
    contexts();
    logins();
    sessions();
    codes();
    values();
    temporary_memory();
    wrong_types();
    nonsense();
    blocks();
    limits();
    threads();
    cancellation();
    ends_during_calls();
    fork_children();
    TEEC_FinalizeContext(&context);
    printf("%d checks, %d failed\n", checked, failed);
    return failed != 0;
}

static int wait_to_be_killed(void)
{
    TEEC_Session session;
    struct job job;

    if (TEEC_InitializeContext(NULL, &context) != TEEC_SUCCESS)
        return 1;
    session = open_session();
    puts("waiting");
    fflush(stdout);
    job = wait_job(&session, WAIT_MASKED, 59000);
    work(&job);
    return 1;
}

static int bereaved(void)
{
    TEEC_Session session;
    int i;

    signal(SIGPIPE, SIG_DFL); /* would end us */
    if (TEEC_InitializeContext(NULL, &context) != TEEC_SUCCESS)
        return 1;
    session = open_session();
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF)
        return 1;
    for (i = 0; i < 3; i++)
        EXPECT_FROM(TEEC_InvokeCommand(&session, TYPES, NULL, &origin), TEEC_ERROR_COMMUNICATION,
                    TEEC_ORIGIN_COMMS);
    EXPECT_FROM(TEEC_OpenSession(&context, &session, &ta, TEEC_LOGIN_USER, NULL, NULL, &origin),
                TEEC_ERROR_COMMUNICATION, TEEC_ORIGIN_COMMS);
    TEEC_CloseSession(&session);
    TEEC_FinalizeContext(&context);
    EXPECT(TEEC_InitializeContext(NULL, &context), TEEC_ERROR_ITEM_NOT_FOUND);
    printf("%d checks, %d failed\n", checked, failed);
    return failed != 0;
}

#define SIZE(type) printf(#type " %zu\n", sizeof(type))
#define OFFSET(type, member) printf(#type "." #member " %zu\n", offsetof(type, member))

static int layout(void)
{
    SIZE(TEEC_Context);
    SIZE(TEEC_Session);
    SIZE(TEEC_UUID);
    SIZE(TEEC_SharedMemory);
    SIZE(TEEC_TempMemoryReference);
    SIZE(TEEC_RegisteredMemoryReference);
    SIZE(TEEC_Value);
    SIZE(TEEC_Parameter);
    SIZE(TEEC_Operation);
    OFFSET(TEEC_UUID, timeMid);
    OFFSET(TEEC_UUID, timeHiAndVersion);
    OFFSET(TEEC_UUID, clockSeqAndNode);
    OFFSET(TEEC_SharedMemory, size);
    OFFSET(TEEC_SharedMemory, flags);
    OFFSET(TEEC_SharedMemory, imp);
    OFFSET(TEEC_TempMemoryReference, size);
    OFFSET(TEEC_RegisteredMemoryReference, size);
    OFFSET(TEEC_RegisteredMemoryReference, offset);
    OFFSET(TEEC_Value, b);
    OFFSET(TEEC_Operation, paramTypes);
    OFFSET(TEEC_Operation, params);
    OFFSET(TEEC_Operation, imp);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "layout") == 0)
        return layout();
    if (argc != 3 || parse_uuid(argv[2], &ta) != 0)
        return 2;
    if (strcmp(argv[1], "all") == 0)
        return all();
    if (strcmp(argv[1], "wait") == 0)
        return wait_to_be_killed();
    if (strcmp(argv[1], "bereaved") == 0)
        return bereaved();
    return 2;
}
